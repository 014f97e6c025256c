"""PARTIAL_JSON: the JSON differences of an update, applied to what the before image has.

A difference (sql-common/json_diff.cc) is an operation, a path, and, unless it removes, a value in
binary JSON. Paths are absolute and as the server prints them: `$.a."b c"[2]`.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from typing import TypeAlias

from caretaker.binlog.bson_reader import elements
from caretaker.binlog.bson_writer import ARRAY, DOCUMENT, Value, array, document, element
from caretaker.binlog.cursor import Cursor
from caretaker.binlog.jsonb import json_value
from caretaker.errors import CorruptEventError

#: A member's name or an array's index.
Leg: TypeAlias = bytes | int

_LEG = re.compile(r'\.(?:"((?:[^"\\]|\\.)*)"|([^.\["]+))|\[(\d{1,10})\]', re.DOTALL)
_MOST_LEGS = 100


class Operation(IntEnum):
    """What a difference does at its path."""

    REPLACE = 0
    INSERT = 1
    REMOVE = 2


def apply_differences(before: Value, raw: bytes) -> Value:
    """Return `before` after all differences of `raw`; CorruptEventError where one does not fit."""
    cursor = Cursor(raw)
    value = before
    while cursor.left:
        code = cursor.uint(1)
        if code not in list(Operation):
            raise CorruptEventError(f"{code} is no operation on JSON")
        operation = Operation(code)
        legs = parse_path(cursor.lenenc_bytes())
        new = None if operation is Operation.REMOVE else json_value(cursor.lenenc_bytes())
        value = _apply(value, legs, operation, new)
    return value


def parse_path(raw: bytes) -> list[Leg]:
    """Return the legs of a path.

    >>> parse_path(b'$.a."b c"[2]')
    [b'a', b'b c', 2]
    """
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptEventError(f"the JSON path {raw!r} is not UTF-8") from None
    legs: list[Leg] = []
    place = 1
    while path.startswith("$") and place < len(path) and len(legs) < _MOST_LEGS:
        match = _LEG.match(path, place)
        if match is None:
            break
        quoted, plain, index = match.groups()
        legs.append(int(index) if index is not None else _member(quoted, plain))
        place = match.end()
    if place != len(path) or not path.startswith("$"):
        raise CorruptEventError(f"{path!r} is no JSON path")
    return legs


def _member(quoted: str | None, plain: str | None) -> bytes:
    if quoted is None:
        return (plain or "").encode()
    try:
        return str(json.loads(f'"{quoted}"', strict=False)).encode()
    except ValueError:  # UnicodeEncodeError is one
        raise CorruptEventError(f"{quoted!r} is no name in a JSON path") from None


def _apply(value: Value, legs: list[Leg], operation: Operation, new: Value | None) -> Value:
    if not legs:
        if new is None or operation is not Operation.REPLACE:
            raise CorruptEventError(f"JSON {operation.name} of the whole value")
        return new
    if value[0] == DOCUMENT and isinstance(legs[0], bytes):
        return _apply_to_object(value, legs[0], legs[1:], operation, new)
    if value[0] == ARRAY and isinstance(legs[0], int):
        return _apply_to_array(value, legs[0], legs[1:], operation, new)
    raise CorruptEventError(f"JSON {operation.name} at {legs[0]!r} of something without it")


def _apply_to_object(
    value: Value, name: bytes, legs: list[Leg], operation: Operation, new: Value | None
) -> Value:
    members = dict(elements(value[1]))
    if b"\0" in name:
        raise CorruptEventError(f"the JSON key {name!r} contains NUL, which no BSON key can")
    if operation is Operation.INSERT and not legs:
        if name in members or new is None:
            raise CorruptEventError(f"JSON INSERT of {name!r}, which is there")
        members[name] = new
        # As the server keeps them: short keys first, then by their bytes.
        members = {key: members[key] for key in sorted(members, key=lambda key: (len(key), key))}
    elif name not in members:
        raise CorruptEventError(f"JSON {operation.name} of {name!r}, which is not there")
    elif operation is Operation.REMOVE and not legs:
        del members[name]
    else:
        members[name] = _apply(members[name], legs, operation, new)
    return DOCUMENT, document(element(key, member) for key, member in members.items())


def _apply_to_array(
    value: Value, index: int, legs: list[Leg], operation: Operation, new: Value | None
) -> Value:
    cells = [cell for _, cell in elements(value[1])]
    if operation is Operation.INSERT and not legs:
        if new is None:
            raise CorruptEventError("JSON INSERT of nothing")
        cells.insert(index, new)  # behind the end means at the end, to the server, too
    elif index >= len(cells):
        raise CorruptEventError(f"JSON {operation.name} of cell {index} of {len(cells)}")
    elif operation is Operation.REMOVE and not legs:
        del cells[index]
    else:
        cells[index] = _apply(cells[index], legs, operation, new)
    return array(cells)
