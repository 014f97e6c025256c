"""A SELECTed value as the trail has it, by the table of types: what `verify` compares.

The values come as the text protocol's bytes, which are exact but for FLOAT: it is read as DOUBLE.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bson import Binary, Decimal128
from bson.binary import UUID_SUBTYPE, BinaryVectorDtype

from resources.sql.mysql import Value, quoted

_OPAQUE = re.compile(r"base64:type\d+:([A-Za-z0-9+/=\n]*)")
_MOST_INT64 = 2**63 - 1
_MOST_DIGITS = 34
_MILLISECONDS = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, as information_schema describes it.

    Attributes:
        type: Its data type, lower case: `bigint`, `enum`.
        full_type: With length, sign and labels: `bigint unsigned`.
        charset: Of text; None for all else.
        digits: Behind the second, of times.
        generated: By an expression: undo must not write it.
    """

    name: str
    type: str
    full_type: str
    charset: str | None
    digits: int
    generated: bool

    @property
    def expression(self) -> str:
        """What to SELECT."""
        name = quoted(self.name)
        return _EXPRESSIONS.get(self.type, "{}").format(name)

    @property
    def key_expression(self) -> str:
        """What to order by, and to compare with: enums sort by number, and compare as text."""
        name = quoted(self.name)
        return f"{name} + 0" if self.type in _BY_NUMBER else name

    def parameter(self, raw: bytes) -> Value:
        """A value of `key_expression` as a parameter that compares as the column does."""
        if self.type in _INTEGERS or self.type in _BY_NUMBER:
            return int(raw)
        if self.type == "decimal":
            return Decimal(raw.decode())
        if self.type in {"float", "double"}:
            return float(raw)
        return raw if self.is_bytes else raw.decode("utf-8")

    @property
    def is_bytes(self) -> bool:
        """Whether its values are bytes, and no text."""
        return self.type in _BYTES

    def value(self, raw: bytes | None) -> Any:
        """Return a value of `expression` as decoding the trail's BSON gives it."""
        if raw is None:
            return None
        return _CONVERT.get(self.type, _text)(self, raw)


def comparable(value: Any) -> Any:
    """Return what makes equal values equal, whatever they are written in: for JSON, above all.

    >>> comparable(Decimal128("1.50")) == comparable(1.5)
    True
    """
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, float) and value == value:  # noqa: PLR0124 - NaN
        return Decimal(repr(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    if isinstance(value, str) and (opaque := _OPAQUE.fullmatch(value)):
        # how the text of a JSON document shows bytes
        return base64.b64decode(opaque[1])
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _number(value: int) -> int | Decimal128:
    return value if value <= _MOST_INT64 else Decimal128(str(value))


def _integer(_column: Column, raw: bytes) -> int | Decimal128:
    return _number(int(raw))


def _floating(_column: Column, raw: bytes) -> float:
    return float(raw)


def _decimal(column: Column, raw: bytes) -> Decimal128 | str:
    text = raw.decode()
    precision = int(column.full_type.partition("(")[2].partition(",")[0].partition(")")[0] or 10)
    return Decimal128(text) if precision <= _MOST_DIGITS else text


def _set(column: Column, raw: bytes) -> list[str]:
    text = _text(column, raw)
    return text.split(",") if text else []


def _text(_column: Column, raw: bytes) -> str:
    return raw.decode("utf-8")


def _bytes(_column: Column, raw: bytes) -> bytes:
    return raw


def _timestamp(column: Column, raw: bytes) -> datetime | str:
    text = raw.decode()
    if text.startswith("0000-00-00"):
        return text
    if column.digits > _MILLISECONDS:
        return text.replace(" ", "T") + "Z"
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _json(_column: Column, raw: bytes) -> Any:
    return json.loads(raw, parse_int=lambda text: _number(int(text)))


def _uuid(_column: Column, raw: bytes) -> Binary:
    return Binary(uuid.UUID(raw.decode()).bytes, UUID_SUBTYPE)


def _vector(_column: Column, raw: bytes) -> Binary:
    floats = [float(each) for each in memoryview(raw).cast("f")]
    return Binary.from_vector(floats, dtype=BinaryVectorDtype.FLOAT32)


_INTEGERS = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint", "year"))
_BY_NUMBER = frozenset(("enum", "set", "bit"))
_GEOMETRIES = (
    *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring"),
    *("multipolygon", "geomcollection", "geometrycollection"),
)
_BYTES = frozenset(
    ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector", *_GEOMETRIES)
)
_EXPRESSIONS = {"float": "CAST({} AS DOUBLE)", "bit": "{} + 0"}
_CONVERT: dict[str, Callable[[Column, bytes], Any]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(_BYTES, _bytes),
    "bit": _integer,
    "float": _floating,
    "double": _floating,
    "decimal": _decimal,
    "set": _set,
    "timestamp": _timestamp,
    "json": _json,
    "uuid": _uuid,
    "vector": _vector,
}
