"""DuckDB's types as CrateDB's: the ids in `col_types`, and values as JSON has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from lab.cratedb.shapes import COLUMNS, TIME, Shape

_IDS: dict[str, int] = {
    '"NULL"': 0,
    "NULL": 0,
    "BOOLEAN": 3,
    "VARCHAR": 4,
    "UUID": 4,
    "DOUBLE": 6,
    "FLOAT": 7,
    "SMALLINT": 8,
    "INTEGER": 9,
    "BIGINT": 10,
    "HUGEINT": 10,
    "UBIGINT": 10,
    "TINYINT": 2,
    "JSON": 12,
}
_TIME_ID = 11


def _time_names() -> set[str]:
    found = {"now", "current_timestamp"}

    def walk(name: str, shape: Shape) -> None:
        if shape == TIME:
            found.add(name)
        inner = shape[0] if isinstance(shape, list) else shape
        if isinstance(inner, dict):
            for key, value in inner.items():
                walk(f"{name}['{key}']", value)

    for name, shapes in COLUMNS.items():
        for shape in shapes:
            walk(name, shape)
    return found


# The catalog keeps timestamps as the numbers CrateDB sends; only their names tell them apart.
_TIMES = _time_names()


def col_type(name: str, duck: Any) -> Any:
    """Return the type id CrateDB sends for a column: 4 is text, [100, 4] an array of text."""
    text = str(duck)
    if text.endswith("[]"):
        return [100, col_type(name, text.removesuffix("[]"))]
    if text.startswith(("STRUCT", "MAP")):
        return 12
    if text.startswith("DECIMAL"):
        return 6
    if text == "BIGINT" and name in _TIMES:
        return _TIME_ID
    return _IDS.get(text, 4)


def converter(duck: Any) -> Callable[[Any], Any] | None:
    """Return what turns a fetched value into one for JSON, or None where nothing is to do."""
    text = str(duck)
    if text == "JSON":
        return _json
    if text.startswith("DECIMAL"):
        return _decimal
    if text.startswith(("TIMESTAMP", "DATE", "TIME", "INTERVAL", "UUID")):
        return _text
    if text.endswith("[]") and "JSON" in text:
        inner = converter(duck.children[0][1])
        return None if inner is None else _list_of(inner)
    if text.startswith("STRUCT") and "JSON" in text:
        return _struct_of({name: converter(kind) for name, kind in duck.children})
    return None


def _json(value: Any) -> Any:
    return None if value is None else json.loads(value)


def _decimal(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _text(value: Any) -> Any:
    return None if value is None else str(value)


def _list_of(inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else [inner(item) for item in value]


def _struct_of(inner: dict[str, Callable[[Any], Any] | None]) -> Callable[[Any], Any]:
    known = {name: convert for name, convert in inner.items() if convert is not None}

    def convert_all(value: Any) -> Any:
        if value is None:
            return None
        return {name: known[name](item) if name in known else item for name, item in value.items()}

    return convert_all
