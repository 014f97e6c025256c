"""MySQL's binary JSON as BSON, in one pass, keys in the order in which MySQL stores them.

Layout (sql-common/json_binary.h): a type byte, then the value. Objects and arrays begin with their
count and size, 2 bytes each in the small form, 4 in the large; then key entries (offset, length of
2 bytes), value entries (type, offset or the value itself), keys, values. Offsets count from the
container's first byte.
"""

from __future__ import annotations

import struct

from caretaker.binlog import decimals, temporal
from caretaker.binlog.bson_writer import (
    ARRAY,
    BOOL,
    DECIMAL128,
    DOCUMENT,
    DOUBLE,
    INT32,
    INT32_MAX,
    INT32_MIN,
    INT64,
    INT64_MAX,
    NULL_VALUE,
    TEXT,
    Value,
    binary,
    decimal128,
    text,
)
from caretaker.binlog.columns import ColumnType

SMALL_OBJECT, LARGE_OBJECT, SMALL_ARRAY, LARGE_ARRAY = 0, 1, 2, 3
LITERAL, INT16, UINT16, INT32_TYPE, UINT32, INT64_TYPE, UINT64, DOUBLE_TYPE = range(4, 12)
STRING, OPAQUE = 12, 15

#: The server's own limit on nesting.
MAX_DEPTH = 100

# The types whose value stands in the value entry itself, in the small and in the large form.
_INLINED = (
    frozenset((LITERAL, INT16, UINT16)),
    frozenset((LITERAL, INT16, UINT16, INT32_TYPE, UINT32)),
)
_LITERALS: tuple[Value, ...] = (NULL_VALUE, (BOOL, b"\x01"), (BOOL, b"\x00"))
_LONGEST_VARLEN = 5

_i16 = struct.Struct("<h").unpack_from
_u16 = struct.Struct("<H").unpack_from
_i32 = struct.Struct("<i").unpack_from
_u32 = struct.Struct("<I").unpack_from
_i64 = struct.Struct("<q").unpack_from
_u64 = struct.Struct("<Q").unpack_from
_p32 = struct.Struct("<i").pack
_p64 = struct.Struct("<q").pack

# Documents of one table mostly have the same keys: what makes BSON names of a key section once.
_MOST_SHAPES = 4096
_LONGEST_SHAPE = 4096
# Small and large containers apart, so that the bytes of one cannot pass for the other's.
_shapes: dict[int, dict[bytes, tuple[bytes, ...]]] = {2: {}, 4: {}}


def json_value(raw: bytes) -> Value:
    """Return the value of a JSON column; ValueError for bytes that are no binary JSON.

    No bytes at all are the JSON literal null: what ALTER IGNORE left behind in old tables.
    """
    if not raw:
        return NULL_VALUE
    try:
        return _value(raw, raw[0], 1, MAX_DEPTH)[0]
    except (IndexError, struct.error):
        raise ValueError("binary JSON ends before its value does") from None


def _value(raw: bytes, kind: int, at: int, depth: int) -> tuple[Value, int]:
    """Return the value at `at` and how many bytes it takes there."""
    if kind == STRING:
        length, at, taken = _varlen(raw, at)
        utf8 = raw[at : at + length]
        if len(utf8) != length:
            raise ValueError("a JSON string is longer than its document")
        if not utf8.isascii():
            utf8.decode("utf-8")
        return (TEXT, _p32(length + 1) + utf8 + b"\0"), taken + length
    if kind <= LARGE_ARRAY:
        return _container(raw, kind, at, depth)
    return _scalar(raw, kind, at)


def _scalar(raw: bytes, kind: int, at: int) -> tuple[Value, int]:
    match kind:
        case 4:
            return _LITERALS[raw[at]], 1
        case 5:
            return (INT32, _p32(_i16(raw, at)[0])), 2
        case 6:
            return (INT32, _p32(_u16(raw, at)[0])), 2
        case 7:
            return _whole(_i32(raw, at)[0]), 4
        case 8:
            return _whole(_u32(raw, at)[0]), 4
        case 9:
            return _whole(_i64(raw, at)[0]), 8
        case 10:
            return _whole(_u64(raw, at)[0]), 8
        case 11:
            _u64(raw, at)
            return (DOUBLE, raw[at : at + 8]), 8
        case 15:
            return _opaque(raw, at)
    raise ValueError(f"{kind} is no type of binary JSON")


def _whole(number: int) -> Value:
    if INT32_MIN <= number <= INT32_MAX:
        return INT32, _p32(number)
    if number <= INT64_MAX:
        return INT64, _p64(number)
    return DECIMAL128, decimal128(number, 0)


def _varlen(raw: bytes, at: int) -> tuple[int, int, int]:
    """Return a length of 7 bits a byte, where it ends, and its own bytes."""
    length = raw[at]
    if length < 0x80:  # noqa: PLR2004 - the continuation bit
        return length, at + 1, 1
    length &= 0x7F
    for place in range(1, _LONGEST_VARLEN):
        code = raw[at + place]
        length |= (code & 0x7F) << 7 * place
        if code < 0x80:  # noqa: PLR2004
            return length, at + place + 1, place + 1
    raise ValueError("a JSON length of more than 5 bytes")


def _opaque(raw: bytes, at: int) -> tuple[Value, int]:
    length, start, taken = _varlen(raw, at + 1)
    data = raw[start : start + length]
    if len(data) != length:
        raise ValueError("an opaque JSON value is longer than its document")
    return opaque_value(raw[at], data), 1 + taken + length


def opaque_value(kind: int, data: bytes) -> Value:
    """Return an opaque value: a column type, and the bytes in which JSON keeps it."""
    if kind == ColumnType.NEWDECIMAL:
        precision, scale = data[0], data[1]
        return decimals.value(data[2:], precision, scale)
    if kind in _PACKED_TIMES:
        if len(data) != 8:  # noqa: PLR2004
            raise ValueError(f"{data.hex()} is no date or time of JSON")
        return text(
            temporal.packed_text(
                data,
                kind_is_time=kind == ColumnType.TIME,
                date_only=kind in {ColumnType.DATE, ColumnType.NEWDATE},
            )
        )
    return binary(data)


_PACKED_TIMES = {
    *(ColumnType.DATE, ColumnType.NEWDATE, ColumnType.TIME),
    *(ColumnType.DATETIME, ColumnType.TIMESTAMP),
}


def _container(raw: bytes, kind: int, start: int, depth: int) -> tuple[Value, int]:
    if not depth:
        raise ValueError(f"JSON of more than {MAX_DEPTH} levels")
    large = kind & 1
    width, count_format = (4, "I") if large else (2, "H")
    count, size = struct.unpack_from("<" + 2 * count_format, raw, start)
    is_object = kind <= LARGE_OBJECT
    entries = start + 2 * width + (count * (width + 2) if is_object else 0)
    values = entries + count * (width + 1)
    if start + size > len(raw) or values > start + size:
        raise ValueError("a JSON container is longer than its document")
    names = _object_names(raw, start, count, width) if is_object else _array_names(count)
    room = start + size - values
    out: list[bytes] = []
    add = out.append
    flat = struct.unpack_from("<" + ("B" + count_format) * count, raw, entries)
    at = entries + 1
    for name, inner, offset in zip(names, flat[::2], flat[1::2], strict=True):
        if inner == STRING:
            # The most frequent value, so without a call.
            place = start + offset
            length = raw[place]
            if length < 0x80:  # noqa: PLR2004
                place += 1
                taken = length + 1
            else:
                length, place, taken = _varlen(raw, place)
            utf8 = raw[place : place + length]
            if len(utf8) != length:
                raise ValueError("a JSON string is longer than its document")
            if not utf8.isascii():
                utf8.decode("utf-8")
            add(TEXT + name + _p32(length + 1) + utf8 + b"\0")
            room -= taken
        elif inner in _INLINED[large]:
            (code, payload), _ = _scalar(raw, inner, at)
            add(code + name + payload)
        else:
            (code, payload), taken = _value(raw, inner, start + offset, depth - 1)
            add(code + name + payload)
            room -= taken
        at += width + 1
        # Values never share bytes; without this a few entries could claim the same ones over
        # and over, level by level, and never end.
        if room < 0:
            raise ValueError("JSON values overlap")
    body = b"".join(out)
    return (DOCUMENT if is_object else ARRAY, _p32(len(body) + 5) + body + b"\0"), size


def _object_names(raw: bytes, start: int, count: int, width: int) -> tuple[bytes, ...]:
    if not count:
        return ()
    first = start + 2 * width
    flat = struct.unpack_from("<" + ("HH" if width == 2 else "IH") * count, raw, first)  # noqa: PLR2004
    end = start + flat[-2] + flat[-1]
    shapes = _shapes[width]
    keys = raw[start + flat[0] : end]
    shape = raw[start : start + width] + raw[first : first + count * (width + 2)] + keys
    known = shapes.get(shape)
    if known is not None:
        return known
    names = []
    for offset, length in zip(flat[::2], flat[1::2], strict=True):
        key = raw[start + offset : start + offset + length]
        if len(key) != length:
            raise ValueError("a JSON key is longer than its document")
        key.decode("utf-8")
        if b"\0" in key:
            raise ValueError(f"the JSON key {key!r} contains NUL, which no BSON key can")
        names.append(key + b"\0")
    made = tuple(names)
    if len(shape) <= _LONGEST_SHAPE and _in_order(flat):
        if len(shapes) >= _MOST_SHAPES:
            shapes.clear()
        shapes[shape] = made
    return made


def _in_order(flat: tuple[int, ...]) -> bool:
    """Whether the keys lie one after another, so that the shape holds all of them."""
    place = flat[0]
    for offset, length in zip(flat[::2], flat[1::2], strict=True):
        if offset != place:
            return False
        place += length
    return True


_ARRAY_NAMES = tuple(b"%d\0" % place for place in range(256))


def _array_names(count: int) -> tuple[bytes, ...]:
    if count <= len(_ARRAY_NAMES):
        return _ARRAY_NAMES[:count]
    return tuple(b"%d\0" % place for place in range(count))
