"""A second opinion on rows: mysql-replication reads the same events, and a difference is told.

It reads the values; the columns they belong to are those of our own table map, because its reader
of table maps stops at metadata that it does not know. What it is known to read wrong is left out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import bson
from pymysql.protocol import MysqlPacket
from pymysqlreplication.column import Column as TheirColumn
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent
from pymysqlreplication.table import Table as TheirTable

from caretaker.binlog.charsets import Charsets
from caretaker.binlog.columns import Column, ColumnType
from caretaker.binlog.frames import HEADER
from caretaker.binlog.model import EventType
from caretaker.binlog.tablemap import TableMap
from resources.mysql.values import comparable

#: What is not compared, and why.
LEFT_OUT = (
    "compressed rows of MariaDB and PARTIAL_JSON: whole events that it does not read",
    "VECTOR and COMPRESSED columns: a table with one cannot be read at all",
    "text that is neither ASCII nor UTF-8: latin1 and others crash, utf16 becomes other text",
    "ENUM and SET outside of ASCII and UTF-8, and an empty SET, which it gives as NULL",
    "JSON: names and texts are bytes, the literal null is NULL, opaque values are cut",
    "BINARY(n), UUID, INET4, INET6: raw bytes, and zeros at the end are missing",
    "YEAR 0000, which is 1900",
    "TIME below zero, whose fraction is wrong",
    "TIMESTAMP 0000-00-00, which is 1970",
    "DATE and DATETIME that are no day of a calendar, which are NULL",
)

_T = ColumnType
_READ = frozenset(
    (
        *(EventType.WRITE_ROWS_V1, EventType.UPDATE_ROWS_V1, EventType.DELETE_ROWS_V1),
        *(EventType.WRITE_ROWS, EventType.UPDATE_ROWS, EventType.DELETE_ROWS),
    )
)
_INTEGERS = frozenset((_T.TINY, _T.SHORT, _T.INT24, _T.LONG, _T.LONGLONG))
_TEXTS = frozenset((_T.VARCHAR, _T.VAR_STRING, _T.STRING, _T.BLOB))
_UTF8 = frozenset(("ascii", "utf8", "utf8mb3", "utf8mb4"))
_BYTES = 63
_NO_CODEC = "left as it is"
_MILLISECONDS = 3
_MOST_DIGITS = 34

#: Not comparable: what its reader gives is known to be wrong, or nothing.
_UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of which the two decoders think differently.

    Attributes:
        row: Its number within the event, from 0.
        side: `f` before, `t` after.
    """

    table: str
    row: int
    column: str
    side: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return (
            f"{self.table}, row {self.row} of the event, {self.column}.{self.side}:"
            f" we read {self.ours!r}, mysql-replication {self.theirs!r}"
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A row as mysql-replication reads it, in the trail's values; `left_out` columns are missing.

    Attributes:
        op: i, u or d; `f` is None for i, and `t` for d.
    """

    op: str
    f: dict[str, Any] | None
    t: dict[str, Any] | None


class ReferenceDecoder:
    """Rows events as mysql-replication reads them."""

    def __init__(self, charsets: Charsets | None = None) -> None:
        self._charsets = charsets or Charsets()
        self._tables: dict[TableMap, TheirTable | None] = {}

    def covers(self, event_type: int, table: TableMap) -> bool:
        """Whether it reads such an event of such a table at all."""
        return event_type in _READ and self._table(table) is not None

    def changes(self, event_type: int, body: bytes, table: TableMap) -> list[Change]:
        """Return the rows of an event; none where it is not covered."""
        theirs = self._table(table)
        if event_type not in _READ or theirs is None:
            return []
        event = _event(event_type, body, theirs)
        # before the rows: reading them is what `rows` does
        rows: list[dict[str, Any]] = event.rows
        if isinstance(event, UpdateRowsEvent):
            return [
                Change(
                    "u",
                    self._values(table, row["before_values"]),
                    self._values(table, row["after_values"]),
                )
                for row in rows
            ]
        if isinstance(event, DeleteRowsEvent):
            return [Change("d", self._values(table, row["values"]), None) for row in rows]
        return [Change("i", None, self._values(table, row["values"])) for row in rows]

    def differences(
        self,
        event_type: int,
        body: bytes,
        table: TableMap,
        documents: Sequence[bytes],
        left_out: Collection[str] = (),
    ) -> Iterator[Difference]:
        """Yield where our documents of an event say something else.

        Args:
            event_type: Of the event, and `body` as in `Rows`.
            body: See there.
            table: Its table.
            documents: Those of the event's last rows: the first may be in the trail already.
            left_out: Columns that filters mask, hash or drop.
        """
        if not documents or not self.covers(event_type, table):
            return
        changes = self.changes(event_type, body, table)
        first = len(changes) - len(documents)
        if first < 0:
            yield Difference(str(table), 0, "(rows)", "t", len(documents), len(changes))
            return
        for number, document in enumerate(documents, first):
            change = changes[number]
            chg = bson.decode(document)["chg"]
            for side, theirs in (("f", change.f), ("t", change.t)):
                for column, value in (theirs or {}).items():
                    if column in left_out or value is _UNKNOWN:
                        continue
                    if column in chg:
                        ours = chg[column].get(side)
                    elif change.op == "u" and change.f is not None and change.t is not None:
                        # unchanged, say we: then the other side must be the same
                        ours = change.t[column] if side == "f" else change.f[column]
                        if ours is _UNKNOWN:
                            continue
                    else:
                        ours = "(missing)"
                    if comparable(ours) != comparable(value):
                        yield Difference(str(table), number, column, side, ours, value)

    def _values(self, table: TableMap, row: dict[str, Any]) -> dict[str, Any]:
        return {column.name: self._value(column, row[_name(column)]) for column in table.columns}

    def _value(self, column: Column, value: Any) -> Any:
        if column.known is not None:
            return _UNKNOWN
        if value is None:
            # of these it says so of values that are there, too
            return _UNKNOWN if column.type in _NONE_MEANS_MORE else None
        if column.type in _TEXTS:
            if column.collation == _BYTES:
                # nothing at all is text to it, whatever it is of
                return _UNKNOWN if column.type == _T.STRING else value or b""
            return value if self._is_utf8(column) else _UNKNOWN
        if column.type in {_T.ENUM, _T.SET} and not self._is_utf8(column):
            return _UNKNOWN
        convert = _CONVERT.get(column.type)
        return _UNKNOWN if convert is None else convert(column, value)

    def _is_utf8(self, column: Column) -> bool:
        return self._charsets.charset(column.collation or 0) in _UTF8

    def _table(self, table: TableMap) -> TheirTable | None:
        if table not in self._tables:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            self._tables[table] = self._made(table)
        return self._tables[table]

    def _made(self, table: TableMap) -> TheirTable | None:
        columns = []
        for column in table.columns:
            if column.type not in _READABLE:
                return None
            columns.append(self._column(column))
        return TheirTable(0, table.schema, table.name, columns)

    def _column(self, column: Column) -> Any:
        kind = int(_T.BLOB) if column.type in _BLOBS else int(column.type)
        text = column.type in _TEXTS or column.type in _BLOBS
        utf8 = text and column.collation != _BYTES and self._is_utf8(column)
        labels = [label.decode("utf-8", "replace") for label in column.labels or ()]
        return TheirColumn(
            type=int(_T.VARCHAR) if column.type == _T.VAR_STRING else kind,
            name=_name(column),
            unsigned=column.unsigned,
            is_primary=False,
            character_set_name="utf8mb4" if utf8 else _NO_CODEC,
            max_length=column.size,
            length_size=column.size,
            size=column.size,
            fsp=column.size,
            precision=column.size,
            decimals=column.scale,
            bits=column.size,
            bytes=(column.size + 7) // 8,
            enum_values=["", *labels],
            set_values=labels,
        )


def _name(column: Column) -> str:
    # two columns may have no name at all
    return f"{column.index} {column.name}"


class _Control:
    """What its events want of a connection to ask questions on: nothing that it would ask."""

    charset = "utf8mb4"

    def _get_dbms(self) -> str:
        return "mysql"


def _event(event_type: int, body: bytes, table: TheirTable) -> Any:
    table_id = int.from_bytes(body[:6], "little")
    header = HEADER.pack(0, event_type, 0, HEADER.size + len(body), 0, 0)
    wrapper = BinLogPacketWrapper(
        MysqlPacket(b"\0" + header + body, "utf-8"),
        {table_id: table},
        _Control(),
        (8, 0, 0),
        False,  # noqa: FBT003 - the checksum is off already
        (WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent),
        None,
        None,
        None,
        None,
        False,  # noqa: FBT003 - freeze_schema
        False,  # noqa: FBT003 - ignore_decode_errors
        False,  # noqa: FBT003 - verify_checksum
        True,  # noqa: FBT003 - optional_meta_data
        False,  # noqa: FBT003 - enable_logging
    )
    return wrapper.event


def _same(_column: Column, value: Any) -> Any:
    return value


def _year(_column: Column, value: int) -> Any:
    return _UNKNOWN if value == 1900 else value  # noqa: PLR2004


def _decimal(column: Column, value: Decimal) -> Decimal | str:
    return value if column.size <= _MOST_DIGITS else f"{value:.{column.scale}f}"


def _bit(_column: Column, value: str) -> int:
    return int(value, 2)


def _set(column: Column, value: Collection[str]) -> list[str]:
    order = [label.decode("utf-8", "replace") for label in column.labels or ()]
    return [label for label in order if label in value]


def _date(_column: Column, value: dt.date) -> str:
    return value.isoformat()


def _digits(column: Column, whole: str, microseconds: int) -> str:
    return f"{whole}.{microseconds:06d}"[: len(whole) + 1 + column.size] if column.size else whole


def _datetime(column: Column, value: dt.datetime) -> str:
    whole = value.replace(microsecond=0).isoformat(sep=" ")
    return _digits(column, whole, value.microsecond)


def _time(column: Column, value: dt.timedelta) -> Any:
    if value < dt.timedelta():
        return _UNKNOWN
    seconds = value.days * 86_400 + value.seconds
    whole = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return _digits(column, whole, value.microseconds)


def _timestamp(column: Column, value: dt.datetime) -> Any:
    if value.replace(microsecond=0) == dt.datetime(1970, 1, 1):  # noqa: DTZ001 - it has no zone
        return _UNKNOWN
    if column.size > _MILLISECONDS:
        return _datetime(column, value).replace(" ", "T") + "Z"
    return value


_MOST_TABLES = 4096
_BLOBS = frozenset((_T.BLOB, _T.TINY_BLOB, _T.MEDIUM_BLOB, _T.LONG_BLOB))
_NONE_MEANS_MORE = frozenset(
    (_T.DATE, _T.DATETIME, _T.DATETIME2, _T.TIMESTAMP2, _T.SET, _T.ENUM, _T.JSON)
)
_CONVERT: dict[ColumnType, Callable[[Column, Any], Any]] = {
    **dict.fromkeys(_INTEGERS, _same),
    _T.FLOAT: _same,
    _T.DOUBLE: _same,
    _T.NEWDECIMAL: _decimal,
    _T.YEAR: _year,
    _T.BIT: _bit,
    _T.ENUM: _same,
    _T.SET: _set,
    _T.DATE: _date,
    _T.DATETIME2: _datetime,
    _T.TIME2: _time,
    _T.TIMESTAMP2: _timestamp,
    _T.GEOMETRY: _same,
}
_READABLE = frozenset((*_CONVERT, *_TEXTS, *_BLOBS, _T.JSON))
