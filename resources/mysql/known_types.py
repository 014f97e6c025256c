"""Types of MariaDB that a table map does not tell: asked when a table is met first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from caretaker.binlog.columns import KnownType
from resources.mysql.session import Session
from resources.mysql.settings import MySQLSettings
from resources.sql import mysql as sql

Table = tuple[str, str]


class AskedTypes(Mapping[Table, Mapping[str, KnownType]]):
    """Types by table and column, as they are now; for `TableMaps`.

    Call `forget` at each DDL statement: the table may be another one behind it.
    """

    def __init__(self, settings: MySQLSettings) -> None:
        self._settings = settings
        self._known: dict[Table, Mapping[str, KnownType]] = {}

    def forget(self) -> None:
        """Ask again."""
        self._known.clear()

    def __getitem__(self, table: Table) -> Mapping[str, KnownType]:
        if table not in self._known:
            with Session(self._settings) as session:
                rows = session.rows(sql.Statement(sql.KNOWN_TYPES, table))
            self._known[table] = {str(name): KnownType(str(kind).lower()) for name, kind in rows}
        return self._known[table]

    def __iter__(self) -> Iterator[Table]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __bool__(self) -> bool:
        # Nothing asked yet is not nothing to ask.
        return True
