"""Random columns with random values, and how a SELECT spells what the trail has."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import Decimal128
from hypothesis import strategies as st

from caretaker.binlog.columns import KnownType
from caretaker.binlog.model import Flavor

Expressions = st.SearchStrategy[str]


@dataclass(frozen=True)
class Kind:
    """A column's type.

    Attributes:
        definition: Of the column, behind its name.
        values: SQL expressions.
        select: What is asked of a server, with {} for the column.
        told: A BSON value that is not null -> the same as the server's answer after `heard`.
        heard: The text of the server's answer -> something that compares.
        known: As information_schema would say.
    """

    definition: str
    values: Expressions
    select: str = "{}"
    told: Callable[[Any], Any] = str
    heard: Callable[[str], Any] = str
    known: KnownType | None = None

    def __repr__(self) -> str:
        return self.definition


# --- how a SELECT spells it -----------------------------------------------------------------------


def _digits(value: Any) -> str:
    # A Decimal128 of 30 zeros behind the point would be 0E-30.
    return format(value.to_decimal(), "f") if isinstance(value, Decimal128) else str(value)


def _moment(digits: int) -> Callable[[Any], str]:
    def told(value: Any) -> str:
        if isinstance(value, datetime):
            text = value.strftime("%Y-%m-%d %H:%M:%S.%f")
            return text[: 20 + digits] if digits else text[:19]
        return str(value).removesuffix("Z").replace("T", " ")

    return told


def _hex(value: Any) -> str:
    return bytes(value).hex().upper()


def _vector(value: Any) -> str:
    assert bytes(value[:2]) == b"\x27\0"
    return bytes(value[2:]).hex().upper()


def json_told(value: Any) -> Any:
    if isinstance(value, dict):
        return {"pairs": [(name, json_told(inner)) for name, inner in value.items()]}
    if isinstance(value, list):
        return [json_told(inner) for inner in value]
    if isinstance(value, Decimal128):
        return ("int", int(value.to_decimal()))
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    return ("int" if isinstance(value, int) else "float", value)


def json_heard(text: str) -> Any:
    return json.loads(
        text,
        parse_int=lambda digits: ("int", int(digits)),
        parse_float=lambda digits: ("float", float(digits)),
        object_pairs_hook=lambda pairs: {"pairs": pairs},
    )


# --- what is written ------------------------------------------------------------------------------


def _utf8(text: str) -> str:
    return f"_utf8mb4 x'{text.encode().hex()}'"


def _bytes(raw: bytes) -> str:
    return f"x'{raw.hex()}'"


def _number(value: float) -> str:
    return repr(value)


# Whether a character is in a set is the server's affair: it writes `?` for what is not.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    "aé ß日😀\0", max_size=120
)
_CHARSETS = st.sampled_from(
    [
        *("utf8mb4", "utf8mb4", "utf8mb4", "utf8mb3", "latin1", "latin1", "ascii", "utf16"),
        *("ucs2", "utf32", "utf16le", "cp1251", "koi8r", "sjis", "gbk", "big5", "euckr", "ujis"),
        *("latin2", "greek", "hebrew", "cp850", "macroman", "latin7", "cp932", "tis620"),
    ]
)
_DIGITS = st.integers(0, 6)


def _integers(name: str, bits: int) -> st.SearchStrategy[Kind]:
    signed = Kind(name, st.integers(-(1 << bits - 1), (1 << bits - 1) - 1).map(str), told=_digits)
    unsigned = Kind(f"{name} UNSIGNED", st.integers(0, (1 << bits) - 1).map(str), told=_digits)
    return st.sampled_from([signed, unsigned])


@st.composite
def _decimals(draw: st.DrawFn) -> Kind:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(30, precision)))
    most = 10**precision - 1

    def spelled(number: int) -> str:
        digits = str(abs(number)).rjust(scale + 1, "0")
        point = f"{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}"
        return f"{'-' * (number < 0)}{point.rstrip('.')}"

    values = st.integers(-most, most) | st.integers(-min(most, 1000), min(most, 1000))
    return Kind(f"DECIMAL({precision},{scale})", values.map(spelled), told=_digits)


def _floating(name: str, width: int) -> Kind:
    values = st.floats(allow_nan=False, allow_infinity=False, width=width).map(_number)  # type: ignore[arg-type]
    return Kind(name, values, "CAST({} AS DOUBLE)", float, float)


def _bits(width: int) -> Kind:
    return Kind(f"BIT({width})", st.integers(0, (1 << width) - 1).map(str), "{} + 0", _digits)


_DATES = st.builds(
    "{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31)
) | st.just("0000-00-00")
_CLOCKS = st.builds(
    "{:02}:{:02}:{:02}.{:06}".format,
    st.integers(0, 23),
    *(st.integers(0, 59), st.integers(0, 59), st.integers(0, 999999)),
)


def _quoted(text: str) -> str:
    return f"'{text}'"


def _datetimes(digits: int) -> Kind:
    values = st.builds("'{} {}'".format, _DATES, _CLOCKS)
    return Kind(f"DATETIME({digits})", values)


def _times(digits: int) -> Kind:
    hours = st.integers(0, 838)
    values = st.builds(
        "'{}{:02}:{:02}:{:02}.{:06}'".format,
        st.sampled_from(["", "-"]),
        hours,
        *(st.integers(0, 59), st.integers(0, 59), st.integers(0, 999999)),
    )
    return Kind(f"TIME({digits})", values)


def _timestamps(digits: int) -> Kind:
    moments = st.datetimes(datetime(1970, 1, 1, 0, 0, 1), datetime(2038, 1, 19, 3, 14, 6))  # noqa: DTZ001
    values = moments.map(lambda moment: f"'{moment:%Y-%m-%d %H:%M:%S.%f}'")
    return Kind(f"TIMESTAMP({digits}) NULL", values | st.just("'0000-00-00'"), told=_moment(digits))


@st.composite
def _texts(draw: st.DrawFn) -> Kind:
    charset = draw(_CHARSETS)
    name = draw(st.sampled_from(["CHAR", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"]))
    if name == "CHAR":
        name = f"CHAR({draw(st.integers(1, 255))})"
    elif name == "VARCHAR":
        name = f"VARCHAR({draw(st.integers(1, 600))})"
    return Kind(f"{name} CHARACTER SET {charset}", _TEXT.map(_utf8))


@st.composite
def _binaries(draw: st.DrawFn) -> Kind:
    name = draw(st.sampled_from(["BINARY", "VARBINARY", "TINYBLOB", "BLOB", "LONGBLOB"]))
    if name.endswith("BINARY"):
        name = f"{name}({draw(st.integers(1, 255))})"
    values = st.binary(max_size=80) | st.text("\0 a", max_size=9).map(str.encode)
    return Kind(name, values.map(_bytes), "HEX({})", _hex)


_LABELS = st.lists(
    st.text("abcdéöß日_", min_size=1, max_size=8),
    min_size=1,
    max_size=40,
    # Equal without case and accents is equal to a collation.
    unique_by=lambda label: label.replace("é", "e").replace("ö", "o").replace("ß", "ss"),
)


@st.composite
def _choices(draw: st.DrawFn) -> Kind:
    labels = draw(_LABELS)
    listed = ",".join(map(_quoted, labels))
    charset = draw(st.sampled_from(["utf8mb4", "utf16", "ucs2"]))
    if draw(st.booleans()):
        values = st.integers(0, len(labels)).map(lambda n: str(n) if n else "''")
        return Kind(f"ENUM({listed}) CHARACTER SET {charset}", values)
    values = st.integers(0, (1 << len(labels)) - 1).map(str)
    return Kind(f"SET({listed}) CHARACTER SET {charset}", values, told=",".join)


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.integers(-70000, 70000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)


def _json() -> Kind:
    # A JSON null at the top is told from NULL by `json_null`, which other tests look at.
    documents = _JSON.filter(lambda value: value is not None).map(json.dumps)
    values = documents.map(lambda text: f"CAST({_utf8(text)} AS JSON)")
    return Kind("JSON", values, told=json_told, heard=json_heard)


# The server takes no subnormal numbers into vectors.
_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def _vectors(size: int) -> Kind:
    values = st.lists(_FLOAT32, min_size=size, max_size=size).map(
        lambda floats: f"STRING_TO_VECTOR('[{','.join(map(repr, floats))}]')"
    )
    return Kind(f"VECTOR({size})", values, "HEX({})", _vector)


_POINTS = st.builds(
    "ST_GeomFromText('POINT({!r} {!r})')".format,
    *(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)),
)


@st.composite
def _compressed(draw: st.DrawFn) -> Kind:
    charset = draw(st.sampled_from(["utf8mb4", "latin1", "utf16"]))
    name = draw(st.sampled_from(["VARCHAR(900)", "TINYTEXT", "TEXT", "LONGTEXT"]))
    values = st.builds("REPEAT({}, {})".format, _TEXT.map(_utf8), st.integers(0, 3))
    return Kind(f"{name} COMPRESSED CHARACTER SET {charset}", values)


# Zeros in any places, which is where spellings differ.
_SIXES = st.ip_addresses(v=6) | st.lists(
    st.sampled_from([0, 0, 0, 1, 0xFFFF, 0x1234]), min_size=8, max_size=8
).map(lambda groups: ":".join(f"{group:x}" for group in groups))

_BOTH = (
    *(_integers("TINYINT", 8), _integers("SMALLINT", 16), _integers("MEDIUMINT", 24)),
    *(_integers("INT", 32), _integers("BIGINT", 64)),
    _decimals(),
    st.just(_floating("FLOAT", 32)),
    st.just(_floating("DOUBLE", 64)),
    st.integers(1, 64).map(_bits),
    st.just(Kind("YEAR", st.integers(1901, 2155).map(str) | st.just("0"), told="{:04}".format)),
    st.just(Kind("DATE", _DATES.map(_quoted))),
    _DIGITS.map(_datetimes),
    _DIGITS.map(_times),
    _DIGITS.map(_timestamps),
    *(_texts(), _texts(), _binaries(), _choices()),
    st.just(Kind("GEOMETRY", _POINTS, "HEX({})", _hex)),
)
_ONE = {
    Flavor.MYSQL: (
        st.just(_json()),
        st.integers(1, 9).map(_vectors),
    ),
    Flavor.MARIADB: (
        st.just(Kind("JSON", _JSON.map(json.dumps).map(_utf8))),
        st.just(
            Kind(
                "UUID",
                st.uuids().map(lambda value: f"'{value}'"),
                told=lambda value: str(uuid.UUID(bytes=bytes(value))),
                known=KnownType.UUID,
            )
        ),
        st.just(
            Kind(
                "INET6",
                _SIXES.map(lambda value: f"'{value}'"),
                known=KnownType.INET6,
            )
        ),
        st.just(
            Kind(
                "INET4",
                st.ip_addresses(v=4).map(lambda value: f"'{value}'"),
                known=KnownType.INET4,
            )
        ),
        _compressed(),
    ),
}


def kinds(flavor: Flavor) -> st.SearchStrategy[Kind]:
    """Columns of every type that a server has."""
    return st.one_of(*_BOTH, *_ONE[flavor])
