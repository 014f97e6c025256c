"""Rows of a rows event as cells: the raw bytes of each value, one column after another.

The plain way, for what is rare: images that lack columns, JSON differences, and the search for the
column that stopped a faster decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from caretaker.binlog.columns import ColumnType
from caretaker.binlog.cursor import Cursor
from caretaker.binlog.values import Codec
from caretaker.errors import CorruptEventError


class Absent:
    """The image has no such column: it is not known, which is not NULL."""

    __slots__ = ()


ABSENT: Final = Absent()


@dataclass(frozen=True, slots=True)
class JsonDifference:
    """What must be done to the value of the before image to have this one."""

    raw: bytes


Cell: TypeAlias = bytes | Absent | JsonDifference | None

#: In PARTIAL_UPDATE_ROWS: bit 0 of what stands before an after image.
PARTIAL_JSON_OPTION = 1
_DIFFERENCE_LENGTH = 4


def bits(raw: bytes, count: int) -> list[bool]:
    """Return the first `count` bits, lowest first."""
    return [bool(raw[place >> 3] >> (place & 7) & 1) for place in range(count)]


def read_image(
    cursor: Cursor,
    codecs: Sequence[Codec],
    present: Sequence[bool],
    differences: Sequence[bool] | None = None,
) -> list[Cell]:
    """Return the cells of the next image: null bitmap, then the values that are not NULL.

    `present` says of every column whether the image has it, `differences` whether JSON differences
    stand in its place.
    """
    count = sum(present)
    nulls = iter(bits(cursor.take((count + 7) // 8), count))
    cells: list[Cell] = []
    for index, codec in enumerate(codecs):
        if not present[index]:
            cells.append(ABSENT)
        elif next(nulls):
            cells.append(None)
        elif differences is not None and differences[index]:
            cells.append(JsonDifference(cursor.take(cursor.uint(_DIFFERENCE_LENGTH))))
        else:
            cells.append(cursor.take(codec.width or cursor.uint(codec.prefix)))
    return cells


def read_partial_image(
    cursor: Cursor,
    types: Sequence[ColumnType],
    codecs: Sequence[Codec],
    present: Sequence[bool],
) -> list[Cell]:
    """Return the cells of an after image of PARTIAL_UPDATE_ROWS."""
    options = cursor.lenenc()
    if options & ~PARTIAL_JSON_OPTION:
        raise CorruptEventError(f"unknown options {options:#x} before a row")
    differences = [False] * len(types)
    if options & PARTIAL_JSON_OPTION:
        places = [place for place, kind in enumerate(types) if kind is ColumnType.JSON]
        marks = bits(cursor.take((len(places) + 7) // 8), len(places))
        for place, mark in zip(places, marks, strict=True):
            differences[place] = mark
    return read_image(cursor, codecs, present, differences)
