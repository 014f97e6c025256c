"""Filters, sort orders and updates, as far as the product and its tests ask for them."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import bson
from bson import Binary, Decimal128, ObjectId, Timestamp

from lab.mongodb.replies import RefusedCommandError

Document = dict[str, Any]

_MISSING = object()

#: MongoDB's order of types.
_ORDER: tuple[tuple[type, int], ...] = (
    (bool, 8),
    (int, 2),
    (float, 2),
    (str, 3),
    (Mapping, 4),
    (list, 5),
    (bytes, 6),
    (ObjectId, 7),
    (dt.datetime, 9),
    (Timestamp, 10),
)


def key_of(value: Any) -> Any:
    """Return what two values share that MongoDB takes for equal."""
    if isinstance(value, Decimal128):
        return ("n", value.to_decimal())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ("n", value)
    return bson.encode({"": value})


def rank(value: Any) -> tuple[Any, ...]:
    """Return what values are sorted by."""
    if value is None or value is _MISSING:
        return (1,)
    if isinstance(value, Decimal128):
        return (2, value.to_decimal())
    for kind, order in _ORDER:
        if isinstance(value, kind):
            if isinstance(value, bytes):
                subtype = value.subtype if isinstance(value, Binary) else 0
                return (order, len(value), subtype, bytes(value))
            if isinstance(value, Mapping):
                return (order, [(rank(inner), name) for name, inner in value.items()])
            if isinstance(value, list):
                return (order, [rank(inner) for inner in value])
            return (order, value)
    return (99, repr(value))


def at(document: Any, path: str) -> Any:
    """Return the value at a dotted path."""
    for name in path.split("."):
        if not isinstance(document, Mapping) or name not in document:
            return _MISSING
        document = document[name]
    return document


def matches(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a document is one of those that a filter means."""
    for name, condition in wanted.items():
        if name == "$and":
            good = all(matches(document, each) for each in condition)
        elif name == "$or":
            good = any(matches(document, each) for each in condition)
        elif name.startswith("$"):
            raise RefusedCommandError("BadValue", f"unknown top level operator: {name}")
        else:
            good = _holds(at(document, name), condition)
        if not good:
            return False
    return True


def _holds(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping) and any(name.startswith("$") for name in condition):
        return all(_operator(name)(value, argument) for name, argument in condition.items())
    return _equal(value, condition)


def _equal(value: Any, wanted: Any) -> bool:
    if value is _MISSING:
        return wanted is None
    if key_of(value) == key_of(wanted):
        return True
    return isinstance(value, list) and any(key_of(each) == key_of(wanted) for each in value)


def _compared(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(value: Any, wanted: Any) -> bool:
        mine, theirs = rank(value), rank(wanted)
        return mine[0] == theirs[0] and test(mine, theirs)

    return compare


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda value, wanted: not _equal(value, wanted),
    "$in": lambda value, wanted: any(_equal(value, each) for each in wanted),
    "$exists": lambda value, wanted: (value is not _MISSING) == bool(wanted),
    "$gt": _compared(lambda mine, theirs: mine > theirs),
    "$gte": _compared(lambda mine, theirs: mine >= theirs),
    "$lt": _compared(lambda mine, theirs: mine < theirs),
    "$lte": _compared(lambda mine, theirs: mine <= theirs),
}


def _operator(name: str) -> Callable[[Any, Any], bool]:
    if name not in _OPERATORS:
        raise RefusedCommandError("BadValue", f"unknown operator: {name}")
    return _OPERATORS[name]


def by(order: Mapping[str, int]) -> Callable[[Mapping[str, Any]], Any]:
    """Return the key function of a sort order."""

    def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
        for path, direction in order.items():
            mine, theirs = rank(at(one, path)), rank(at(other, path))
            if mine != theirs:
                return direction if mine > theirs else -direction
        return 0

    return functools.cmp_to_key(compare)


def projected(document: Document, fields: Mapping[str, Any]) -> Document:
    """Return the fields that were asked for."""
    if not fields:
        return document
    if all(not wanted for wanted in fields.values()):
        return {name: value for name, value in document.items() if name not in fields}
    return {
        name: value
        for name, value in document.items()
        if fields.get(name, name == "_id") or any(path.startswith(name + ".") for path in fields)
    }


def updated(document: Document, change: Mapping[str, Any], *, inserted: bool = False) -> Document:
    """Return the document after an update or a replacement."""
    if not any(name.startswith("$") for name in change):
        return {"_id": document["_id"], **change} if "_id" in document else dict(change)
    result = bson.decode(bson.encode(document))
    for name, fields in change.items():
        if name == "$setOnInsert" and not inserted:
            continue
        for path, value in fields.items():
            _change(name, result, path, value)
    return result


def _change(operator: str, document: Document, path: str, value: Any) -> None:
    *way, last = path.split(".")
    inner = document
    for name in way:
        inner = inner.setdefault(name, {})
    if operator in {"$set", "$setOnInsert"}:
        inner[last] = value
    elif operator == "$inc":
        inner[last] = inner.get(last, 0) + value
    elif operator == "$unset":
        inner.pop(last, None)
    elif operator == "$currentDate":
        inner[last] = dt.datetime.now(dt.UTC)
    else:
        raise RefusedCommandError("FailedToParse", f"Unknown modifier: {operator}")


def equalities(wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that an upsert takes from its filter."""
    for name, condition in wanted.items():
        operators = isinstance(condition, Mapping) and any(k.startswith("$") for k in condition)
        if not name.startswith("$") and not operators:
            yield name, condition
