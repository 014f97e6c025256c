"""TABLE_MAP_EVENT with all its optional metadata; each version of a schema is parsed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TypeAlias

from caretaker.binlog.columns import Column, ColumnType, KnownType
from caretaker.binlog.cursor import Cursor
from caretaker.binlog.model import Flavor
from caretaker.errors import CorruptEventError, RefusedError

#: (schema, table) -> column -> type, for the types that only information_schema can tell.
KnownTypes: TypeAlias = Mapping[tuple[str, str], Mapping[str, KnownType]]

#: The server's own limit; a claim of more is no table map.
MAX_COLUMNS = 4096

_C = ColumnType
_BLOBS = {_C.BLOB, _C.TINY_BLOB, _C.MEDIUM_BLOB, _C.LONG_BLOB}
_LENGTH_WIDTH = {*_BLOBS, _C.GEOMETRY, _C.JSON, _C.VECTOR, _C.BLOB_COMPRESSED}
_FRACTION = {_C.TIMESTAMP2, _C.DATETIME2, _C.TIME2}
_TWO_BYTES = {_C.VARCHAR, _C.VAR_STRING, _C.VARCHAR_COMPRESSED}
_LABELLED = {_C.ENUM, _C.SET}
_NUMBERS = {
    *(_C.DECIMAL, _C.TINY, _C.SHORT, _C.LONG, _C.FLOAT, _C.DOUBLE),
    *(_C.LONGLONG, _C.INT24, _C.YEAR, _C.NEWDECIMAL),
}
_TEXTS = {
    *(_C.VARCHAR, _C.VAR_STRING, _C.STRING, _C.VARCHAR_COMPRESSED, _C.BLOB_COMPRESSED),
    *_BLOBS,
}
_MOST_LENGTH_WIDTH = 4
_MOST_FRACTION = 6
_MOST_PRECISION = 65
_MOST_SCALE = 38  # MariaDB; MySQL stops at 30
_MOST_BITS = 64


class Metadata(IntEnum):
    """The optional metadata fields with a meaning to us; others are skipped by their length."""

    SIGNEDNESS = 1
    DEFAULT_CHARSET = 2
    COLUMN_CHARSET = 3
    COLUMN_NAME = 4
    SET_STR_VALUE = 5
    ENUM_STR_VALUE = 6
    GEOMETRY_TYPE = 7
    SIMPLE_PRIMARY_KEY = 8
    PRIMARY_KEY_WITH_PREFIX = 9
    ENUM_AND_SET_DEFAULT_CHARSET = 10
    ENUM_AND_SET_COLUMN_CHARSET = 11
    COLUMN_VISIBILITY = 12
    VECTOR_DIMENSIONALITY = 13


@dataclass(frozen=True, slots=True, eq=False)
class TableMap:
    """One version of a table; equal table maps are one object, so identity is equality.

    Attributes:
        key: Indexes of the primary key's columns in the key's own order; None without one.
        fingerprint: sha256 of what was parsed, for `schema_versions`.
        missing: What the source left out that only `binlog_row_metadata = FULL` gives.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[int, ...] | None
    flavor: Flavor
    fingerprint: str
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def require_full_metadata(self) -> None:
        """Refuse a table whose names, signs or labels would be guesses."""
        if self.missing:
            raise RefusedError(
                f"{self}: the binlog lacks {' and '.join(self.missing)} of its columns",
                target=str(self),
                hint="SET GLOBAL binlog_row_metadata = 'FULL' on the source, "
                "and start where it was in force",
            )


@dataclass(slots=True)
class _Draft:
    """The columns while the metadata fields, in whatever order they come, fill them in."""

    columns: list[Column]
    flavor: Flavor
    seen: set[int] = field(default_factory=set)
    key: tuple[int, ...] | None = None

    def of(self, types: set[ColumnType]) -> list[int]:
        return [column.index for column in self.columns if column.type in types]

    def texts(self) -> list[int]:
        # Seen on both: a geometry is a text here to MariaDB, a vector to MySQL.
        kind = _C.GEOMETRY if self.flavor is Flavor.MARIADB else _C.VECTOR
        return self.of(_TEXTS | {kind})

    def set(self, index: int, **values: object) -> None:
        self.columns[index] = replace(self.columns[index], **values)  # type: ignore[arg-type]


class TableMaps:
    """Table maps by id, each schema version parsed once.

    `known_types` may be filled while the stream runs; a table map that was parsed before its
    entry came is parsed again when it is seen next.
    """

    def __init__(
        self, flavor: Flavor, known_types: KnownTypes | None = None, *, versions: int = 4096
    ) -> None:
        self._flavor = flavor
        self._known_types = {} if known_types is None else known_types
        self._most_versions = versions
        self._versions: OrderedDict[bytes, tuple[TableMap, object]] = OrderedDict()
        self._tables: OrderedDict[int, TableMap] = OrderedDict()

    def add(self, body: bytes) -> TableMap:
        """Make the table known under its id; bodies equal after the id give the same object."""
        if len(body) < _TABLE_ID:
            raise CorruptEventError(f"a table map of {len(body)} bytes")
        version = body[_TABLE_ID:]
        entry = self._versions.get(version)
        if entry is None or (self._known_types and self._outdated(entry)):
            table = parse_table_map(body, flavor=self._flavor, known_types=self._known_types)
            entry = (table, self._known_types.get((table.schema, table.name)))
            self._versions[version] = entry
            if len(self._versions) > self._most_versions:
                self._versions.popitem(last=False)
        table = entry[0]
        table_id = int.from_bytes(body[:_TABLE_ID], "little")
        if self._tables.get(table_id) is not table:
            # Ids only grow: a source that opens tables for weeks must not fill our memory.
            self._tables[table_id] = table
            if len(self._tables) > self._most_versions:
                self._tables.popitem(last=False)
        return table

    def get(self, table_id: int) -> TableMap:
        """Return the table of an id; `CorruptEventError` for one that no table map introduced."""
        table = self._tables.get(table_id)
        if table is None:
            raise CorruptEventError(f"rows of table id {table_id}, which no table map introduced")
        return table

    def _outdated(self, entry: tuple[TableMap, object]) -> bool:
        table, known = entry
        return self._known_types.get((table.schema, table.name)) != known


_TABLE_ID = 6


def parse_table_map(
    body: bytes, *, flavor: Flavor, known_types: KnownTypes | None = None
) -> TableMap:
    """Return the table that `body` describes: what follows the event header, without checksum."""
    cursor = Cursor(body)
    cursor.take(_TABLE_ID + 2)  # the id and flags
    schema = _name(cursor, "schema")
    name = _name(cursor, "table")
    count = cursor.lenenc()
    if count > MAX_COLUMNS:
        raise CorruptEventError(f"a table map claims {count} columns")
    types = cursor.take(count)
    sizes = Cursor(cursor.lenenc_bytes())
    nullable = cursor.take((count + 7) // 8)
    columns = [
        _column(index, code, sizes, nullable=bool(nullable[index >> 3] >> (index & 7) & 1))
        for index, code in enumerate(types)
    ]
    if sizes.left:
        raise CorruptEventError(f"{sizes.left} bytes more of column metadata than columns take")
    draft = _Draft(columns, flavor)
    while cursor.left:
        kind = cursor.uint(1)
        _apply(draft, kind, cursor.lenenc_bytes())
    known = (known_types or {}).get((schema, name), {})
    for column in list(draft.columns):
        told = known.get(column.name)
        # What is known is of now: rows from before a MODIFY may have been of another type.
        if told is not None and column.may_be(told):
            draft.set(column.index, known=told)
    return TableMap(
        schema=schema,
        name=name,
        columns=tuple(draft.columns),
        key=draft.key,
        flavor=flavor,
        fingerprint=hashlib.sha256(body[_TABLE_ID:]).hexdigest(),
        missing=_missing(draft),
    )


def _name(cursor: Cursor, what: str) -> str:
    raw = cursor.take(cursor.uint(1))
    cursor.take(1)  # NUL
    return _text(raw, what)


def _text(raw: bytes, what: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptEventError(f"the {what} name {raw!r} is not UTF-8") from None
    if "\0" in text:  # and a BSON key could not hold it
        raise CorruptEventError(f"the {what} name {text!r} contains NUL")
    return text


def _column(index: int, code: int, sizes: Cursor, *, nullable: bool) -> Column:
    try:
        kind = ColumnType(code)
    except ValueError:
        raise CorruptEventError(f"column {index} has the unknown type {code}") from None
    size, scale = 0, 0
    if kind in _LENGTH_WIDTH:
        size = _within(sizes.uint(1), 1, _MOST_LENGTH_WIDTH, kind)
    elif kind in {_C.FLOAT, _C.DOUBLE}:
        size = sizes.uint(1)
    elif kind in _FRACTION:
        size = _within(sizes.uint(1), 0, _MOST_FRACTION, kind)
    elif kind in _TWO_BYTES:
        size = sizes.uint(2)
    elif kind is _C.BIT:
        bits = sizes.uint(1)
        size = _within(bits + 8 * sizes.uint(1), 1, _MOST_BITS, kind)
    elif kind is _C.NEWDECIMAL:
        size = _within(sizes.uint(1), 1, _MOST_PRECISION, kind)
        scale = _within(sizes.uint(1), 0, min(size, _MOST_SCALE), kind)
    elif kind in {_C.STRING, _C.ENUM, _C.SET}:
        kind, size = _string_kind(sizes.uint(1), sizes.uint(1))
    elif kind is _C.TYPED_ARRAY:
        raise RefusedError(f"column {index} is of a type that the server keeps for its indexes")
    return Column(index, "", kind, size=size, scale=scale, nullable=nullable)


def _string_kind(high: int, low: int) -> tuple[ColumnType, int]:
    # CHAR(n) of more than 255 bytes hides bits 8 and 9 of its length, inverted, in the type byte.
    if high & 0x30 != 0x30:  # noqa: PLR2004
        return _C.STRING, low | ((high & 0x30) ^ 0x30) << 4
    if high == _C.ENUM:
        return _C.ENUM, _within(low, 1, 2, _C.ENUM)
    if high == _C.SET:
        return _C.SET, _within(low, 1, 8, _C.SET)
    return _C.STRING, low


def _within(value: int, least: int, most: int, kind: ColumnType) -> int:
    if not least <= value <= most:
        raise CorruptEventError(f"{kind.name} with the size {value}")
    return value


def _apply(draft: _Draft, kind: int, value: bytes) -> None:
    draft.seen.add(kind)
    cursor = Cursor(value)
    match kind:
        case Metadata.SIGNEDNESS:
            _flags(draft, draft.of(_NUMBERS), value, "unsigned")
        case Metadata.COLUMN_VISIBILITY:
            _flags(draft, range(len(draft.columns)), value, "visible")
        case Metadata.DEFAULT_CHARSET:
            _default_collation(draft, draft.texts(), cursor)
        case Metadata.ENUM_AND_SET_DEFAULT_CHARSET:
            _default_collation(draft, draft.of(_LABELLED), cursor)
        case Metadata.COLUMN_CHARSET:
            for index in draft.texts():
                draft.set(index, collation=cursor.lenenc())
        case Metadata.ENUM_AND_SET_COLUMN_CHARSET:
            for index in draft.of(_LABELLED):
                draft.set(index, collation=cursor.lenenc())
        case Metadata.COLUMN_NAME:
            for index in range(len(draft.columns)):
                draft.set(index, name=_text(cursor.lenenc_bytes(), "column"))
        case Metadata.SET_STR_VALUE:
            _labels(draft, draft.of({_C.SET}), cursor)
        case Metadata.ENUM_STR_VALUE:
            _labels(draft, draft.of({_C.ENUM}), cursor)
        case Metadata.GEOMETRY_TYPE:
            for index in draft.of({_C.GEOMETRY}):
                draft.set(index, geometry=cursor.lenenc())
        case Metadata.SIMPLE_PRIMARY_KEY:
            draft.key = tuple(_indexes(draft, cursor, with_prefix=False))
        case Metadata.PRIMARY_KEY_WITH_PREFIX:
            draft.key = tuple(_indexes(draft, cursor, with_prefix=True))
        case Metadata.VECTOR_DIMENSIONALITY:
            for index in draft.of({_C.VECTOR}):
                draft.set(index, dimensions=cursor.lenenc())


def _flags(draft: _Draft, indexes: Sequence[int], value: bytes, attribute: str) -> None:
    if len(value) < (len(indexes) + 7) // 8:
        raise CorruptEventError(f"{len(value)} bytes say which of {len(indexes)} are {attribute}")
    for place, index in enumerate(indexes):
        draft.set(index, **{attribute: bool(value[place >> 3] & 0x80 >> (place & 7))})


def _default_collation(draft: _Draft, indexes: Sequence[int], cursor: Cursor) -> None:
    default = cursor.lenenc()
    for index in indexes:
        draft.set(index, collation=default)
    while cursor.left:
        place = cursor.lenenc()
        if place >= len(indexes):
            raise CorruptEventError(f"a character set for text column {place} of {len(indexes)}")
        draft.set(indexes[place], collation=cursor.lenenc())


def _labels(draft: _Draft, indexes: Sequence[int], cursor: Cursor) -> None:
    for index in indexes:
        # Each label takes a byte at least, so a claim of millions ends where the bytes end.
        draft.set(index, labels=tuple(cursor.lenenc_bytes() for _ in range(cursor.lenenc())))


def _indexes(draft: _Draft, cursor: Cursor, *, with_prefix: bool) -> list[int]:
    indexes = []
    while cursor.left:
        index = cursor.lenenc()
        if with_prefix:
            cursor.lenenc()
        if index >= len(draft.columns):
            raise CorruptEventError(f"key column {index} of {len(draft.columns)}")
        indexes.append(index)
    return indexes


def _missing(draft: _Draft) -> tuple[str, ...]:
    missing = []
    if draft.columns and Metadata.COLUMN_NAME not in draft.seen:
        missing.append("the names")
    if draft.of(_NUMBERS) and Metadata.SIGNEDNESS not in draft.seen:
        missing.append("the signs")
    if any(draft.columns[index].labels is None for index in draft.of(_LABELLED)):
        missing.append("the labels")
    if any(draft.columns[i].collation is None for i in (*draft.texts(), *draft.of(_LABELLED))):
        missing.append("the character sets")
    return tuple(missing)
