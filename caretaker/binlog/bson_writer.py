"""BSON, written byte by byte: a value is its type and its bytes, never a Python object.

Little-endian integers, doubles and UTF-8 are the same bytes in a row image and in BSON; going
through Python's objects would cost most of the time that a change takes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TypeAlias

#: A BSON type byte and what follows the name of an element.
Value: TypeAlias = tuple[bytes, bytes]

DOUBLE = b"\x01"
TEXT = b"\x02"
DOCUMENT = b"\x03"
ARRAY = b"\x04"
BINARY = b"\x05"
BOOL = b"\x08"
DATE = b"\x09"
NULL = b"\x0a"
INT32 = b"\x10"
INT64 = b"\x12"
DECIMAL128 = b"\x13"

NULL_VALUE: Value = (NULL, b"")

GENERIC = 0
UUID = 4
VECTOR = 9

_i32 = struct.Struct("<i").pack
_i64 = struct.Struct("<q").pack
_two64 = struct.Struct("<QQ").pack
_EXPONENT_BIAS = 6176
_EXPONENT_SHIFT = 49
_SIGN = 1 << 63
_LOW = (1 << 64) - 1
#: Digits that a Decimal128 holds.
MOST_DIGITS = 34

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def int32(number: int) -> Value:
    """An int32."""
    return INT32, _i32(number)


def int64(number: int) -> Value:
    """An int64."""
    return INT64, _i64(number)


def whole(number: int) -> Value:
    """An int64, or a Decimal128 above 2^63-1: what BIGINT UNSIGNED and BIT need."""
    return (INT64, _i64(number)) if number <= INT64_MAX else (DECIMAL128, decimal128(number, 0))


def text(utf8: bytes) -> Value:
    """Text that is valid UTF-8 already."""
    return TEXT, _i32(len(utf8) + 1) + utf8 + b"\0"


def binary(data: bytes, subtype: int = GENERIC) -> Value:
    """BinData."""
    return BINARY, _i32(len(data)) + bytes((subtype,)) + data


def date(milliseconds: int) -> Value:
    """A BSON date: milliseconds since the epoch, UTC."""
    return DATE, _i64(milliseconds)


def decimal128(coefficient: int, scale: int, *, negative: bool = False) -> bytes:
    """Return the 16 bytes of coefficient x 10^-scale in the BID encoding; at most 34 digits.

    >>> decimal128(125, 2).hex()
    '7d000000000000000000000000003c30'
    """
    exponent = (_EXPONENT_BIAS - scale) << _EXPONENT_SHIFT
    high = (coefficient >> 64) | exponent | (_SIGN if negative else 0)
    return _two64(coefficient & _LOW, high)


def element(name: bytes, value: Value) -> bytes:
    """Return a value under its name."""
    return value[0] + name + b"\0" + value[1]


def document(elements: Iterable[bytes]) -> bytes:
    """Return a document of elements that are written already."""
    body = b"".join(elements)
    return _i32(len(body) + 5) + body + b"\0"


def array(values: Iterable[Value]) -> Value:
    """Return an array."""
    return ARRAY, document(element(b"%d" % place, value) for place, value in enumerate(values))
