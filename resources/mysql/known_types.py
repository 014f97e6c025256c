"""Types of MariaDB that a table map does not tell: asked when a table is met first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from caretaker.binlog.columns import KnownType
from resources.mysql.session import Session
from resources.mysql.settings import MySQLSettings
from resources.sql import mysql as sql

Table = tuple[str, str]
#: Of database and table: types by column, None for a table that was never read.
Remembered: TypeAlias = Callable[[str, str], Mapping[str, KnownType] | None]

_NAMED = {kind.value: kind for kind in KnownType}


class AskedTypes(Mapping[Table, Mapping[str, KnownType]]):
    """Types by table and column, as they are now; for `TableMaps`.

    Call `forget` at each DDL statement: the table may be another one behind it.

    Args:
        remembered: What was known of a table that is not there any more, when it was read before.
    """

    def __init__(
        self, settings: MySQLSettings, remembered: Remembered = lambda _db, _table: None
    ) -> None:
        self._settings = settings
        self._remembered = remembered
        self._known: dict[Table, Mapping[str, KnownType]] = {}
        self._last: dict[Table, Mapping[str, KnownType]] = {}
        self._guessed: set[Table] = set()

    def forget(self) -> None:
        """Ask again."""
        self._known.clear()

    def __getitem__(self, table: Table) -> Mapping[str, KnownType]:
        if table not in self._known:
            with Session(self._settings) as session:
                rows = session.rows(sql.Statement(sql.KNOWN_TYPES, table))
            self._known[table] = self._told(table, rows)
        return self._known[table]

    def is_guess(self, table: Table) -> bool:
        """Whether nobody knows, or ever told us, what the columns of a table were."""
        return table in self._guessed

    def _told(self, table: Table, rows: list[tuple[Any, ...]]) -> Mapping[str, KnownType]:
        if rows:
            kinds = ((str(name), str(kind).lower()) for name, kind in rows)
            self._last[table] = {name: _NAMED[kind] for name, kind in kinds if kind in _NAMED}
            return self._last[table]
        # Dropped or renamed since its rows were logged.
        found = self._last.get(table)
        if found is None:
            found = self._remembered(*table)
        if found is None:
            self._guessed.add(table)
        return found or {}

    def __iter__(self) -> Iterator[Table]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __bool__(self) -> bool:
        # Nothing asked yet is not nothing to ask.
        return True
