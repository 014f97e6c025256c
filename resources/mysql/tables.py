"""Tables as they are now: columns and keys, and rows of one moment in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from caretaker.binlog.model import Checkpoint, Flavor, Mode, Position
from caretaker.errors import RefusedError
from resources.mysql import facts
from resources.mysql.session import Session
from resources.mysql.settings import MySQLSettings
from resources.mysql.values import Column
from resources.sql import mysql as sql


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the source as it is now.

    Attributes:
        key: Columns of the primary key, in the key's order; empty without one.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column:
        """Return a column; RefusedError where there is none of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise RefusedError(f"{self} has no column {name}", target=str(self))

    def pk(self, row: dict[str, Any]) -> Any:
        """Return a row's key as `meta.pk` has it."""
        if not self.key:
            return None
        if len(self.key) == 1:
            return row[self.key[0]]
        return {name: row[name] for name in self.key}


def describe(session: Session, name: str) -> Table:
    """Return `db.table`; a name with dots in it is taken apart at the first."""
    schema, dot, table = name.partition(".")
    if not dot or not schema or not table:
        raise RefusedError(f"{name!r} is no DB.TABLE", target=name)
    columns = tuple(
        Column(
            str(column),
            str(kind).lower(),
            str(full).lower(),
            str(charset) if charset else None,
            int(digits or 0),
            bool(generated),
        )
        for column, kind, full, charset, digits, generated in session.rows(
            sql.Statement(sql.COLUMNS, (schema, table))
        )
    )
    if not columns:
        raise RefusedError(
            f"the source has no table {name}, or does not show it to us",
            target=name,
            hint=f"GRANT SELECT ON {sql.quoted(schema)}.* to the user of MYSQL_URL",
        )
    key = session.rows(sql.Statement(sql.PRIMARY_KEY, (schema, table)))
    return Table(schema, table, columns, tuple(str(row[0]) for row in key))


class Snapshot:
    """All tables as they were at one moment; without locks, and for tables with transactions.

    Attributes:
        low: All in it up to here is in the snapshot, and `high` nothing behind it. They are the
            same on MariaDB; on MySQL, which does not tell, a change between the two may be.
    """

    def __init__(self, settings: MySQLSettings, mode: Mode | None) -> None:
        self._session = Session(settings, raw_values=True)
        try:
            with Session(settings) as ask:
                self._flavor = facts.flavor_of(ask)
                self.low = facts.progression(ask, mode).current()
                self._begin()
                self.high = facts.progression(ask, mode).current()
                if self._flavor is Flavor.MARIADB:
                    self.low = self.high = self._exactly(ask) or self.low
        except BaseException:
            self._session.close()
            raise

    def _begin(self) -> None:
        self._session.tell(sql.UTC)
        self._session.tell(sql.REPEATABLE_READ)
        mariadb = self._flavor is Flavor.MARIADB
        self._session.tell(sql.MARIADB_SNAPSHOT if mariadb else sql.SNAPSHOT)

    def _exactly(self, ask: Session) -> Checkpoint | None:
        told = {
            name.decode().lower(): value.decode()
            for name, value in self._session.rows(sql.MARIADB_SNAPSHOT_POSITION)
        }
        file, pos = told.get("binlog_snapshot_file"), told.get("binlog_snapshot_position")
        if not file or not pos:
            return None
        ((gtid,),) = ask.rows(sql.Statement(sql.MARIADB_POSITION, (file, int(pos))))
        return Checkpoint(None if gtid is None else str(gtid), Position(file, int(pos)), 0)

    def rows(self, table: Table, chunk: int = 1000) -> Iterator[dict[str, Any]]:
        """Yield all rows in the order of the key, as the trail has their values.

        RefusedError for a table without a key: its rows cannot be told apart.
        """
        if not table.key:
            raise RefusedError(f"{table} has no primary key: its rows cannot be told apart")
        after: list[sql.Value] | None = None
        while True:
            rows, after = self.chunk(table, after, chunk)
            yield from rows
            if len(rows) < chunk:
                return

    def chunk(
        self, table: Table, after: Sequence[sql.Value] | None, limit: int
    ) -> tuple[list[dict[str, Any]], list[sql.Value] | None]:
        """Return up to `limit` rows behind `after`, and the `after` of the next chunk."""
        keys = [table.column(name) for name in table.key]
        ordered = [column.key_expression for column in keys]
        expressions = [column.expression for column in table.columns] + ordered
        statement = sql.rows((table.schema, table.name), expressions, ordered, after, limit)
        found = self._session.rows(statement)
        count = len(table.columns)
        rows = [_row(table, row) for row in found]
        if not found:
            return rows, list(after) if after is not None else None
        last = found[-1][count:]
        return rows, [column.parameter(raw) for column, raw in zip(keys, last, strict=True)]

    def close(self) -> None:
        """End the snapshot."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _row(table: Table, raw: Sequence[bytes | None]) -> dict[str, Any]:
    return {
        column.name: column.value(value) for column, value in zip(table.columns, raw, strict=False)
    }
