"""A column's bytes in a row image to its BSON value: the table of `binlog-types` as code.

This is the plain form, one function a column type. `decoders` has faster ones for whole rows, and
the tests hold them against these.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caretaker.binlog import decimals, jsonb, temporal
from caretaker.binlog.bson_writer import (
    DOUBLE,
    INT32,
    INT64,
    UUID,
    VECTOR,
    Value,
    array,
    binary,
    date,
    int32,
    text,
    whole,
)
from caretaker.binlog.charsets import Charsets, checked
from caretaker.binlog.columns import BINARY_COLLATION, KNOWN_WIDTHS, Column, KnownType
from caretaker.binlog.columns import ColumnType as C
from caretaker.errors import RefusedError

#: The bytes of a value, without the length before it -> BSON. ValueError: they are none.
ToBson: TypeAlias = Callable[[bytes], Value]

#: A BSON vector (subtype 9) of float32 without padding begins with these.
VECTOR_FLOAT32 = b"\x27\x00"

_FIRST_YEAR = 1900
_ONE_BYTE_LENGTH = 255
_MOST_MILLISECOND_DIGITS = 3
#: What a server accepts as one packet bounds what a compressed value can become.
_MOST_INFLATED = 1 << 30

_double = struct.Struct("<d").pack
_float = struct.Struct("<f").unpack


@dataclass(frozen=True, slots=True)
class Codec:
    """How a column lies in a row image.

    Attributes:
        width: Bytes of a value, or 0 where its length stands before it.
        prefix: Bytes of that length.
        to_bson: From the value's bytes.
    """

    width: int
    prefix: int
    to_bson: ToBson


def codec(column: Column, charsets: Charsets) -> Codec:
    """Return how to read `column`; RefusedError for a type or character set that we cannot."""
    if column.type in _FIXED:
        width, to_bson = _FIXED[column.type]
        return Codec(width, 0, to_bson(column))
    if column.known is not None:
        return _known(column)
    match column.type:
        case C.FLOAT | C.DOUBLE:
            return Codec(*_floating(column))
        case C.NEWDECIMAL:
            return _decimal(column)
        case C.BIT:
            return Codec((column.size + 7) // 8, 0, _bits)
        case C.ENUM:
            return Codec(column.size, 0, _enum(column, charsets))
        case C.SET:
            return Codec(column.size, 0, _set(column, charsets))
        case C.TIMESTAMP2 | C.DATETIME2 | C.TIME2:
            return _temporal(column)
        case C.STRING | C.VARCHAR | C.VAR_STRING:
            return Codec(0, _length_prefix(column), _characters(column, charsets))
        case C.BLOB | C.TINY_BLOB | C.MEDIUM_BLOB | C.LONG_BLOB:
            return Codec(0, column.size, _characters(column, charsets))
        case C.VARCHAR_COMPRESSED | C.BLOB_COMPRESSED:
            prefix = column.size if column.type is C.BLOB_COMPRESSED else _length_prefix(column)
            return Codec(0, prefix, _compressed(_characters(column, charsets)))
        case C.JSON:
            return Codec(0, column.size, jsonb.json_value)
        case C.GEOMETRY:
            return Codec(0, column.size, binary)
        case C.VECTOR:
            return Codec(0, column.size, _vector)
    raise RefusedError(
        f"column {column.name!r} is of the type {column.type.name}, which old versions left behind",
        target=column.name,
        hint="ALTER TABLE ... FORCE writes it in today's format",
    )


def _integer(width: int) -> Callable[[Column], ToBson]:
    def of(column: Column) -> ToBson:
        if column.unsigned:
            if width == 8:  # noqa: PLR2004
                return lambda raw: whole(int.from_bytes(raw, "little"))
            code, size = (INT64, 8) if width == 4 else (INT32, 4)  # noqa: PLR2004
            return lambda raw: (code, raw + bytes(size - width))
        if width == 8:  # noqa: PLR2004
            return lambda raw: (INT64, raw)
        return lambda raw: int32(int.from_bytes(raw, "little", signed=True))

    return of


def _year(_: Column) -> ToBson:
    return lambda raw: int32(raw[0] + _FIRST_YEAR if raw[0] else 0)


def _date(_: Column) -> ToBson:
    return lambda raw: text(temporal.date_text(raw))


_FIXED: dict[C, tuple[int, Callable[[Column], ToBson]]] = {
    C.TINY: (1, _integer(1)),
    C.SHORT: (2, _integer(2)),
    C.INT24: (3, _integer(3)),
    C.LONG: (4, _integer(4)),
    C.LONGLONG: (8, _integer(8)),
    C.YEAR: (1, _year),
    C.DATE: (3, _date),
    C.NEWDATE: (3, _date),
}


def _floating(column: Column) -> tuple[int, int, ToBson]:
    if column.type is C.DOUBLE:
        return 8, 0, lambda raw: (DOUBLE, raw)
    return 4, 0, lambda raw: (DOUBLE, _double(*_float(raw)))


def _decimal(column: Column) -> Codec:
    precision, scale = column.size, column.scale
    return Codec(
        decimals.packed_width(precision, scale),
        0,
        lambda raw: decimals.value(raw, precision, scale),
    )


def _bits(raw: bytes) -> Value:
    return whole(int.from_bytes(raw, "big"))


def labels(column: Column, charsets: Charsets) -> tuple[bytes, ...]:
    """Return the labels of an ENUM or SET as UTF-8."""
    collation = column.collation if column.collation is not None else BINARY_COLLATION
    if collation == BINARY_COLLATION:
        return tuple(checked(label) for label in column.labels or ())
    return tuple(charsets.utf8(label, collation) for label in column.labels or ())


def _enum(column: Column, charsets: Charsets) -> ToBson:
    # Index 0 is the value that was none of the labels.
    values = (text(b""), *(text(label) for label in labels(column, charsets)))

    def to_bson(raw: bytes) -> Value:
        index = int.from_bytes(raw, "little")
        if index >= len(values):
            raise ValueError(f"ENUM index {index} of {len(values) - 1} labels")
        return values[index]

    return to_bson


def _set(column: Column, charsets: Charsets) -> ToBson:
    values = tuple(text(label) for label in labels(column, charsets))

    def to_bson(raw: bytes) -> Value:
        chosen = int.from_bytes(raw, "little")
        if chosen >> len(values):
            raise ValueError(f"SET value {chosen:#x} of {len(values)} labels")
        return array(value for place, value in enumerate(values) if chosen >> place & 1)

    return to_bson


def _temporal(column: Column) -> Codec:
    digits = column.size
    tail = temporal.fraction_width(digits)
    if column.type is C.DATETIME2:
        return Codec(5 + tail, 0, lambda raw: text(temporal.datetime_text(raw, digits)))
    if column.type is C.TIME2:
        return Codec(3 + tail, 0, lambda raw: text(temporal.time_text(raw, digits)))
    zero = text(temporal.zero_timestamp(digits))

    def timestamp(raw: bytes) -> Value:
        if not any(raw):
            return zero
        if digits <= _MOST_MILLISECOND_DIGITS:
            return date(temporal.timestamp_ms(raw, digits))
        return text(temporal.timestamp_text(raw, digits))

    return Codec(4 + tail, 0, timestamp)


def _length_prefix(column: Column) -> int:
    return 1 if column.size <= _ONE_BYTE_LENGTH else 2


def is_bytes(column: Column) -> bool:
    """Whether a column of a text or BLOB type has no character set."""
    return column.collation in {None, BINARY_COLLATION}


def _characters(column: Column, charsets: Charsets) -> ToBson:
    if is_bytes(column):
        if column.type is not C.STRING:
            return binary
        # The server logs BINARY(n) without its trailing zero bytes.
        return lambda raw: binary(raw.ljust(column.size, b"\0"))
    transcode = charsets.transcoder(column.collation or 0) or checked
    return lambda raw: text(transcode(raw))


def _vector(raw: bytes) -> Value:
    if len(raw) % 4:
        raise ValueError(f"a vector of {len(raw)} bytes")
    return binary(VECTOR_FLOAT32 + raw, VECTOR)


def _known(column: Column) -> Codec:
    """MariaDB's types of fixed width that are logged as BINARY(n)."""
    width = KNOWN_WIDTHS[column.known or KnownType.UUID]
    if column.type is not C.STRING or column.size != width:
        raise RefusedError(
            f"column {column.name!r} is said to be {column.known}, "
            f"the binlog has {column.type.name}({column.size})",
            target=column.name,
        )
    convert = _KNOWN[column.known or KnownType.UUID]

    def to_bson(raw: bytes) -> Value:
        if len(raw) > width:
            raise ValueError(f"{column.known} of {len(raw)} bytes")
        return convert(raw.ljust(width, b"\0"))

    return Codec(0, 1, to_bson)


_FIRST_UUID_AS_READ = 6


def _uuid(raw: bytes) -> Value:
    # Versions 1 to 5 are stored with their groups from last to first, so that they sort by time;
    # then the variant's byte is the 7th and the version's the 9th. All others are stored as they
    # are read, and then it is the other way round.
    if raw[6] & 0x80 and raw[8] >> 4 < _FIRST_UUID_AS_READ:
        raw = raw[12:16] + raw[10:12] + raw[8:10] + raw[6:8] + raw[0:6]
    return binary(raw, UUID)


def _inet4(raw: bytes) -> Value:
    return text(str(ipaddress.IPv4Address(raw)).encode())


def _inet6(raw: bytes) -> Value:
    # As the server spells it, not RFC 5952: a single zero group is left out, too.
    groups = struct.unpack(">8H", raw)
    start, length = _longest_zeros(groups)
    if not start and (length == _COMPATIBLE or (length == _MAPPED and groups[5] == 0xFFFF)):  # noqa: PLR2004
        tail = ipaddress.IPv4Address(raw[12:])
        return text(f"::{'ffff:' * (length == _MAPPED)}{tail}".encode())
    words = [f"{group:x}" for group in groups]
    if length:
        head, rest = ":".join(words[:start]), ":".join(words[start + length :])
        return text(f"{head}::{rest}".encode())
    return text(":".join(words).encode())


def _longest_zeros(groups: Sequence[int]) -> tuple[int, int]:
    """Return where the first of the longest runs of zeros starts, and its length."""
    best = (0, 0)
    for start in range(len(groups)):
        end = start
        while end < len(groups) and not groups[end]:
            end += 1
        if end - start > best[1]:
            best = (start, end - start)
    return best


#: Zero groups before an IPv4 address, and before the ffff before one.
_COMPATIBLE, _MAPPED = 6, 5


_KNOWN: dict[KnownType, ToBson] = {
    KnownType.UUID: _uuid,
    KnownType.INET4: _inet4,
    KnownType.INET6: _inet6,
}


def _compressed(to_bson: ToBson) -> ToBson:
    return lambda raw: to_bson(inflate_column(raw))


def inflate_column(raw: bytes) -> bytes:
    """Return what a COMPRESSED column of MariaDB holds.

    First byte: method in the upper half (0 stored, 8 zlib), 0x08 where zlib's own header is left
    out, lower three bits how many big-endian bytes of the original length follow.
    """
    if not raw:
        return b""
    method, length_bytes = raw[0] >> 4, raw[0] & 7
    if method == 0:
        return raw[1:]
    length = int.from_bytes(raw[1 : 1 + length_bytes], "big")
    if method != 8 or length > _MOST_INFLATED:  # noqa: PLR2004
        raise ValueError(f"a compressed column that begins with {raw[:5].hex()}")
    bits = -zlib.MAX_WBITS if raw[0] & 8 else zlib.MAX_WBITS
    inflater = zlib.decompressobj(bits)
    try:
        data = inflater.decompress(raw[1 + length_bytes :], length + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed column that zlib refuses: {error}") from None
    if len(data) != length:
        raise ValueError(f"a compressed column of {length} bytes inflates to {len(data)} or more")
    return data
