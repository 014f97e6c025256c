"""Documents that MongoDB would not take: a head that fits, and the values that do not, in pieces.

The head is the document without its largest values; `parts` in it says which are missing:
`[{path: ["chg", column, "t"], type, bytes, pieces}]`, `type` the BSON type's number and `bytes`
the length of its value. A piece is `{_id, of, value, n, data}`: `of` the head's `_id`, `value` the
place in `parts`, `n` counted from 0; `_id` is the head's with both behind it, so pieces sort as
they are put together. Pieces are written first: a head never points at what is not there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caretaker.binlog.bson_reader import elements
from caretaker.binlog.bson_writer import (
    ARRAY,
    DOCUMENT,
    Value,
    array,
    binary,
    document,
    element,
    int32,
    int64,
    text,
)
from caretaker.errors import CorruptEventError

#: What MongoDB takes as one document.
LARGEST_DOCUMENT = 16 * 1024 * 1024
#: Below what one transaction takes, with room for the rest of the document.
LARGEST_PIECE = 8 * 1024 * 1024

#: Names from the document down to a value.
Path: TypeAlias = tuple[bytes, ...]

_PARTS = b"parts"
_place = struct.Struct(">HI").pack
# Subtype and length before the bytes of a BinData.
_BINARY_HEAD = 5


@dataclass(frozen=True, slots=True)
class Split:
    """A head and its pieces; no pieces where the document fits as it is."""

    head: bytes
    pieces: tuple[bytes, ...]


def split(
    whole: bytes, *, largest: int = LARGEST_DOCUMENT, piece_bytes: int = LARGEST_PIECE
) -> Split:
    """Return `whole` as it is where it fits, else its head and pieces."""
    if len(whole) <= largest:
        return Split(whole, ())
    large = sorted(_values(whole), key=lambda found: -len(found[1][1]))
    taken: list[tuple[Path, Value]] = []
    left = len(whole)
    for path, value in large:
        if left + _entry_bytes(taken) <= largest:
            break
        taken.append((path, value))
        left -= len(value[1])
    identity = next(value for name, value in elements(whole) if name == b"_id")
    head = _head(whole, taken, piece_bytes)
    if len(head) > largest:
        raise CorruptEventError(f"a document of {len(whole)} bytes has no values to take apart")
    pieces = [
        _piece(identity, place, number, data)
        for place, (_, value) in enumerate(taken)
        for number, data in enumerate(_cut(value[1], piece_bytes))
    ]
    return Split(head, tuple(pieces))


def join(head: bytes, pieces: Sequence[bytes]) -> bytes:
    """Return the whole document of a head and its pieces, in any order; its values, not its order.

    Within `chg` a value comes back at the end of its column's document.
    """
    top = dict(elements(head))
    missing = [dict(elements(value[1])) for _, value in elements(top.pop(_PARTS)[1])]
    data: dict[int, dict[int, bytes]] = {}
    for piece in pieces:
        told = dict(elements(piece))
        place, number = (_number(told[name]) for name in (b"value", b"n"))
        data.setdefault(place, {})[number] = told[b"data"][1][_BINARY_HEAD:]
    for place, entry in enumerate(missing):
        path = [value[1][4:-1] for _, value in elements(entry[b"path"][1])]
        found = data.get(place, {})
        if sorted(found) != list(range(_number(entry[b"pieces"]))):
            raise CorruptEventError(f"{b'.'.join(path)!r} lacks pieces: {sorted(found)} are there")
        value = b"".join(found[number] for number in sorted(found))
        if len(value) != _number(entry[b"bytes"]):
            raise CorruptEventError(f"{b'.'.join(path)!r} has {len(value)} bytes put together")
        _put(top, path, (bytes((_number(entry[b"type"]),)), value))
    return document(element(name, value) for name, value in top.items())


def piece_ids(one: bytes) -> tuple[bytes, bytes]:
    """Return the least and the greatest `_id` that pieces of one head may have.

    Args:
        one: The `_id` of any of them.
    """
    head = one[: -len(_place(0, 0))]
    return head + _place(0, 0), head + _place(0xFFFF, 0xFFFFFFFF)


def _values(whole: bytes) -> list[tuple[Path, Value]]:
    """Return the values that may be taken out: sides of `chg`, the text of a statement."""
    found: list[tuple[Path, Value]] = []
    for name, (code, body) in elements(whole):
        if name == b"chg" and code == DOCUMENT:
            for column, (_, sides) in elements(body):
                found += [
                    ((name, column, side), value)
                    for side, value in elements(sides)
                    if side in {b"f", b"t"}
                ]
        elif name == b"ddl" and code == DOCUMENT:
            found += [((name, field), value) for field, value in elements(body)]
    return found


def _entry_bytes(taken: list[tuple[Path, Value]]) -> int:
    return 64 + sum(160 + sum(map(len, path)) for path, _ in taken)


def _head(whole: bytes, taken: list[tuple[Path, Value]], piece_bytes: int) -> bytes:
    paths = {path for path, _ in taken}
    entries = array(
        [
            (
                DOCUMENT,
                document(
                    (
                        element(b"path", array([text(name) for name in path])),
                        element(b"type", int32(value[0][0])),
                        element(b"bytes", int64(len(value[1]))),
                        element(b"pieces", int32(-(-len(value[1]) // piece_bytes))),
                    )
                ),
            )
            for path, value in taken
        ]
    )
    return document((*_without(whole, paths, ()), element(_PARTS, entries)))


def _without(body: bytes, paths: set[Path], here: Path) -> list[bytes]:
    kept = []
    for name, value in elements(body):
        path = (*here, name)
        if path in paths:
            continue
        if any(other[: len(path)] == path for other in paths):
            value = (value[0], document(_without(value[1], paths, path)))  # noqa: PLW2901
        kept.append(element(name, value))
    return kept


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _piece(identity: Value, place: int, number: int, data: bytes) -> bytes:
    head_id = identity[1][_BINARY_HEAD:]
    return document(
        (
            element(b"_id", binary(head_id + _place(place, number))),
            element(b"of", identity),
            element(b"value", int32(place)),
            element(b"n", int32(number)),
            element(b"data", binary(data)),
        )
    )


def _number(value: Value) -> int:
    return int.from_bytes(value[1], "little", signed=True)


def _put(top: dict[bytes, Value], path: Sequence[bytes], value: Value) -> None:
    code, body = top.get(path[0], (DOCUMENT, document(())))
    if code not in {DOCUMENT, ARRAY}:
        raise CorruptEventError(f"{path[0]!r} is no document")
    fields = dict(elements(body))
    if len(path) > 2:  # noqa: PLR2004
        _put(fields, path[1:], value)
    else:
        fields[path[1]] = value
    top[path[0]] = (code, document(element(name, inner) for name, inner in fields.items()))
