"""Rows events decoded by mysql-replication: a second opinion on our own decoders.

It is told our reading of a table map, and reads the rows by itself; so it can be asked about the
events of compressed transactions, too, which it does not find in a dump.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any, TypeAlias

import bson
from bson import Decimal128
from pymysql.protocol import MysqlPacket
from pymysqlreplication.constants import NONE_SOURCE
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from caretaker.binlog.charsets import Charsets
from caretaker.binlog.columns import BINARY_COLLATION, Column, ColumnType
from caretaker.binlog.model import EventType
from caretaker.binlog.tablemap import TableMap
from caretaker.errors import CorruptEventError

#: What it is known to read wrongly, or gives in a shape that says less: never compared.
LEFT_OUT = (
    "text outside of UTF-8: utf16 comes in the wrong byte order, latin1 has holes",
    "ENUM and SET whose labels are not in UTF-8",
    "the empty SET, which it gives as NULL",
    "YEAR 0000, which it gives as 1900",
    "zero, partial and invalid DATE and DATETIME, which it gives as NULL",
    "the zero TIMESTAMP, which it gives as 1970-01-01",
    "negative TIME with a fraction",
    "JSON: its text and keys are bytes, its null is NULL",
    "VECTOR, and what MariaDB alone has: UUID, INET4, INET6, COMPRESSED columns",
    "DATETIME, TIME and TIMESTAMP of before 5.6",
)

_C = ColumnType
_EVENTS = {
    EventType.WRITE_ROWS_V1: WriteRowsEvent,
    EventType.UPDATE_ROWS_V1: UpdateRowsEvent,
    EventType.DELETE_ROWS_V1: DeleteRowsEvent,
    EventType.WRITE_ROWS: WriteRowsEvent,
    EventType.UPDATE_ROWS: UpdateRowsEvent,
    EventType.DELETE_ROWS: DeleteRowsEvent,
}
_BLOBS = frozenset({_C.BLOB, _C.TINY_BLOB, _C.MEDIUM_BLOB, _C.LONG_BLOB})
_TEXTS = frozenset({_C.VARCHAR, _C.VAR_STRING, _C.STRING, *_BLOBS})
#: Read as bytes where it would stumble; left out, but the columns behind them are not.
_AS_BYTES = {
    **dict.fromkeys((*_BLOBS, _C.JSON, _C.VECTOR, _C.BLOB_COMPRESSED), _C.BLOB),
    _C.VAR_STRING: _C.VARCHAR,
    _C.VARCHAR_COMPRESSED: _C.VARCHAR,
}
#: A character set that neither PyMySQL nor Python knows: then it hands out the bytes.
_NO_CHARSET = "as it is"
_YEAR_ZERO = 1900
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - its values are naive, in UTC
_MILLISECONDS = 3

_Values: TypeAlias = Mapping[str, Any]


class _Nothing(Enum):
    """Why an image has no value, where its reason counts."""

    NULL = auto()
    NOT_LOGGED = auto()


_NOTHING: Mapping[str | None, _Nothing] = {
    NONE_SOURCE.NULL: _Nothing.NULL,
    NONE_SOURCE.COLS_BITMAP: _Nothing.NOT_LOGGED,
}


class _Unsure(Exception):  # noqa: N818 - no error
    """Its word on this value is worth nothing."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that the two read differently.

    Attributes:
        row: Of the event, from 0.
        side: f or t; empty for a change that is not in our document.
    """

    table: str
    row: int
    column: str
    side: str
    ours: object
    theirs: object

    def __str__(self) -> str:
        place = f"{self.column}.{self.side}" if self.side else self.column
        return (
            f"{self.table}, row {self.row} of the event, {place}: we read {self.ours!r:.80},"
            f" mysql-replication {self.theirs!r:.80}"
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """Both images, None for the one that an insert or a delete has not."""

    before: _Values | None
    after: _Values | None


class ReferenceDecoder:
    """Decodes the rows of an event, and compares them with the documents that we made of them.

    Attributes:
        compared: Values that were, and `passed` those of which it is no judge.
    """

    def __init__(self, charsets: Charsets | None = None) -> None:
        self._charsets = charsets or Charsets()
        self._control = SimpleNamespace(charset="utf8mb4", _get_dbms=lambda: "mysql")
        self._tables: dict[TableMap, Any] = {}
        self.compared = self.passed = 0

    def covers(self, event_type: int, table: TableMap) -> bool:
        """Whether it can read such an event: not MariaDB's compressed rows, nor partial JSON."""
        return event_type in _EVENTS and all(
            column.type in _AS_BYTES or column.type in _READ for column in table.columns
        )

    def differences(
        self,
        event_type: int,
        body: bytes,
        table: TableMap,
        documents: Sequence[bytes],
        *,
        left_out: Collection[str] = (),
    ) -> Iterator[Difference]:
        """Yield what differs; nothing for an event that it cannot read.

        `documents` are those of the event's last rows: the first ones may be in the trail
        already. `left_out` are columns that are masked, hashed or dropped.

        Raises:
            CorruptEventError: It cannot read the event, although it should.
        """
        if not self.covers(event_type, table):
            self.passed += len(documents)
            return
        rows = self._rows(event_type, body, table)
        if len(documents) > len(rows):
            yield Difference(str(table), len(rows), "*", "", len(documents), len(rows))
            return
        first = len(rows) - len(documents)
        for number, (document, row) in enumerate(
            zip(documents, rows[first:], strict=True), start=first
        ):
            told = bson.decode(document)
            for column in table.columns:
                if column.name in left_out:
                    continue
                for side, ours, theirs in self._of_column(column, told, row):
                    yield Difference(str(table), number, column.name, side, ours, theirs)

    def _of_column(
        self, column: Column, document: Mapping[str, Any], row: _Row
    ) -> Iterator[tuple[str, object, object]]:
        change = document["chg"].get(column.name)
        try:
            theirs = {
                side: self._read(column, image[column.name])
                for side, image in (("f", row.before), ("t", row.after))
                if image is not None and image[column.name] is not _Nothing.NOT_LOGGED
            }
        except _Unsure:
            self.passed += 1
            return
        if change is None:
            unchanged = len(theirs) == 2 and theirs["f"] == theirs["t"]  # noqa: PLR2004 - both
            if theirs and not unchanged:
                yield "", "no change", theirs
            return
        for side, value in theirs.items():
            self.compared += 1
            ours = _comparable(change.get(side), column)
            if ours != value or (ours is None) is not (value is None):
                yield side, change.get(side), value

    def _read(self, column: Column, value: Any) -> Any:
        """Return its value in the shape that ours is compared in; _Unsure where it is no judge."""
        if column.known is not None or column.type not in _READ:
            raise _Unsure
        if value is _Nothing.NULL:
            return None
        if value is None:
            raise _Unsure
        if column.type in _TEXTS:
            if column.collation == BINARY_COLLATION:
                # Python decodes no bytes to no text, whatever the character set is called.
                return _stripped(value or b"", column)
            if not self._is_utf8(column):
                raise _Unsure
            return value
        if column.type in {_C.ENUM, _C.SET} and not self._is_utf8(column):
            raise _Unsure
        return _READ[column.type](column, value)

    def _is_utf8(self, column: Column) -> bool:
        if column.collation is None:
            return False
        return self._charsets.charset(column.collation) in {"utf8mb4", "utf8mb3", "utf8", "ascii"}

    # --- its own reading ------------------------------------------------------------------------

    def _rows(self, event_type: int, body: bytes, table: TableMap) -> list[_Row]:
        header = struct.pack("<BIBIIIH", 0, 0, event_type, 0, 19 + len(body) + 4, 0, 0)
        table_id = int.from_bytes(body[:6], "little")
        try:
            wrapper = BinLogPacketWrapper(
                MysqlPacket(header + body + bytes(4), "utf8mb4"),
                {table_id: self._table(table)},
                self._control,
                (8, 0, 14),
                True,  # noqa: FBT003 - its arguments have no names a caller could keep to
                [_EVENTS[EventType(event_type)]],
                None,
                None,
                None,
                None,
                False,  # noqa: FBT003
                False,  # noqa: FBT003
                False,  # noqa: FBT003
                True,  # noqa: FBT003
                False,  # noqa: FBT003
            )
            rows = wrapper.event.rows
        except Exception as error:  # whatever it raises: it is a library with no list of it
            raise CorruptEventError(
                f"mysql-replication cannot read rows of {table}: {type(error).__name__}: {error}",
                target=str(table),
            ) from error
        kind = _EVENTS[EventType(event_type)]
        return [
            _Row(
                None if kind is WriteRowsEvent else _image(row, "before_"),
                None if kind is DeleteRowsEvent else _image(row, "after_"),
            )
            for row in rows
        ]

    def _table(self, table: TableMap) -> Any:
        """Return our table map in the words of its own."""
        if table not in self._tables:
            self._tables[table] = SimpleNamespace(
                schema=table.schema,
                table=table.name,
                columns=[self._column(column) for column in table.columns],
                data={"primary_key": ""},
            )
        return self._tables[table]

    def _column(self, column: Column) -> Any:
        text = column.type in _TEXTS and column.known is None and self._is_utf8(column)
        labels = [label.decode(errors="replace") for label in column.labels or ()]
        return SimpleNamespace(
            type=int(_AS_BYTES.get(column.type, column.type)),
            name=column.name,
            unsigned=column.unsigned,
            character_set_name="utf8mb4" if text else _NO_CHARSET,
            max_length=column.size,
            length_size=column.size,
            fsp=column.size,
            precision=column.size,
            decimals=column.scale,
            bits=column.size,
            bytes=(column.size + 7) // 8,
            size=column.size,
            enum_values=["", *labels],
            set_values=labels,
        )


def _image(row: Mapping[str, Any], side: str) -> _Values:
    """Return an image, with the reason of a missing value in its place."""
    prefix = side if f"{side}values" in row else ""
    values, sources = row[f"{prefix}values"], row[f"{prefix}none_sources"]
    return {
        name: _NOTHING.get(sources.get(name)) if value is None else value
        for name, value in values.items()
    }


# --- what its values are in our words -------------------------------------------------------------


def _as_is(_column: Column, value: Any) -> Any:
    return value


def _bits(_column: Column, value: str) -> int:
    return int(value, 2)


def _year(_column: Column, value: int) -> int:
    if value == _YEAR_ZERO:
        raise _Unsure
    return value


def _date(_column: Column, value: date) -> str:
    return value.isoformat()


def _datetime(column: Column, value: datetime) -> str:
    return value.replace(microsecond=0).isoformat(" ") + _fraction(column, value.microsecond)


def _timestamp(column: Column, value: datetime) -> datetime | str:
    if value.replace(microsecond=0) == _EPOCH:
        raise _Unsure
    if column.size <= _MILLISECONDS:
        return value
    return value.replace(microsecond=0).isoformat() + _fraction(column, value.microsecond) + "Z"


def _time(column: Column, value: timedelta) -> str:
    if value < timedelta() and column.size:
        raise _Unsure
    if not value and column.size:
        # A small negative one, too, has lost its sign by now.
        raise _Unsure
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    minutes, seconds = divmod(value.days * 86_400 + value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours:02}:{minutes:02}:{seconds:02}" + _fraction(column, value.microseconds)


def _fraction(column: Column, microseconds: int) -> str:
    return "." + f"{microseconds:06}"[: column.size] if column.size else ""


def _labels(_column: Column, value: set[str]) -> frozenset[str]:
    return frozenset(value)


def _stripped(value: Any, column: Column) -> Any:
    # The server logs BINARY(n) without its trailing zeros, and so it is left by the library.
    is_padded = column.type is _C.STRING and isinstance(value, bytes)
    return value.rstrip(b"\0") if is_padded else value


def _comparable(ours: Any, column: Column) -> Any:
    """Return our value in the shape that its own is compared in."""
    if isinstance(ours, Decimal128):
        return ours.to_decimal()
    if column.type is _C.NEWDECIMAL and isinstance(ours, str):
        return Decimal(ours)
    if isinstance(ours, list):
        return frozenset(ours)
    return _stripped(ours, column)


_READ: dict[ColumnType, Callable[[Column, Any], Any]] = {
    **dict.fromkeys((_C.TINY, _C.SHORT, _C.INT24, _C.LONG, _C.LONGLONG), _as_is),
    **dict.fromkeys((_C.FLOAT, _C.DOUBLE, _C.NEWDECIMAL, _C.ENUM, _C.GEOMETRY), _as_is),
    **dict.fromkeys(_TEXTS, _as_is),
    _C.BIT: _bits,
    _C.YEAR: _year,
    _C.DATE: _date,
    _C.DATETIME2: _datetime,
    _C.TIMESTAMP2: _timestamp,
    _C.TIME2: _time,
    _C.SET: _labels,
}
