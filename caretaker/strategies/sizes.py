"""The sizes a replica may have, ranked from small to large."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from caretaker.errors import CaseError
from caretaker.strategies.shown import shown
from caretaker.strategies.statements import why_unwritable

_ROW = itemgetter("size", "processes", "workers", "memory_bytes", "credits_per_hour")
_COUNTS = ("processes", "workers", "memory_bytes")

#: More than anyone pays, and exact to a millionth in a float.
_MOST_CREDITS = 1e9
#: What the catalog's uint8 holds; the memory of a size without a limit is that.
_MOST = 2**64 - 1


class Sizes:
    """Known sizes, small to large; one that cannot be written in a statement is as good as absent.

    Attributes:
        names: Small to large.
        rank: Where each of them stands, 0 for the smallest.
    """

    __slots__ = ("_credits", "names", "rank")

    def __init__(self, names: Sequence[str], credits_per_hour: dict[str, float]) -> None:
        self.names = tuple(name for name in names if not why_unwritable(name))
        self.rank = {name: rank for rank, name in enumerate(self.names)}
        self._credits = credits_per_hour

    def credits_per_hour(self, size: str | None) -> float | None:
        """Return what a replica of `size` costs; None where nobody said."""
        return None if size is None else self._credits.get(size)


def read_sizes(given: object) -> Sizes:
    """Return the sizes of a case: plain names, ranked already, or rows of the catalog."""
    if not isinstance(given, list):
        raise CaseError(f"sizes: found {shown(given)}, expected a list", target="sizes")
    if not given:
        return Sizes((), {})
    kinds = set(map(type, given))
    if kinds == {str}:
        return _ranked_already(tuple(given))
    if kinds == {dict}:
        try:
            rows = tuple(map(_ROW, given))
            # 1, 1.0 and true are one key of a cache, and not one and the same size.
            return _ranked_by_cost(rows, tuple(map(type, chain.from_iterable(rows))))
        except (KeyError, TypeError):
            return _rank_rows([_whole(row, n) for n, row in enumerate(given)])
    kind = type(given[0]) if isinstance(given[0], str | dict) else None
    number = next((n for n, item in enumerate(given) if type(item) is not kind), 0)
    raise _wrong(f"sizes[{number}]", given[number], "names throughout, or objects throughout")


@lru_cache(maxsize=32)
def _ranked_already(names: tuple[str, ...]) -> Sizes:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen or not name:
            raise _wrong(f"sizes[{number}]", name, "a name that is not empty and stands there once")
        seen.add(name)
    return Sizes(names, {})


@lru_cache(maxsize=32)
def _ranked_by_cost(rows: tuple[tuple[Any, ...], ...], _types: tuple[type, ...]) -> Sizes:
    return _rank_rows(rows)


def _whole(row: dict[str, Any], number: int) -> tuple[Any, ...]:
    for key in ("size", "credits_per_hour"):
        if key not in row:
            raise _wrong(f"sizes[{number}].{key}", None, "a value")
    counts = (row.get(key, 0 if key == "memory_bytes" else 1) for key in _COUNTS)
    return (row["size"], *counts, row["credits_per_hour"])


def _rank_rows(rows: Sequence[tuple[Any, ...]]) -> Sizes:
    """By credits, then memory, then workers, then name, whatever the sizes are called."""
    seen: set[str] = set()
    for number, (size, *counts, credits_per_hour) in enumerate(rows):
        where = f"sizes[{number}]"
        if not isinstance(size, str) or not size or size in seen:
            allowed = "a name that is not empty and stands there once"
            raise _wrong(f"{where}.size", size, allowed)
        seen.add(size)
        for key, count in zip(_COUNTS, counts, strict=True):
            if type(count) is not int or not 0 <= count <= _MOST:
                raise _wrong(f"{where}.{key}", count, "a whole number of at least 0")
        if type(credits_per_hour) not in (int, float) or not 0 <= credits_per_hour <= _MOST_CREDITS:
            allowed = f"a number from 0 to {_MOST_CREDITS:g}"
            raise _wrong(f"{where}.credits_per_hour", credits_per_hour, allowed)
    ranked = sorted(rows, key=lambda row: (row[4], row[3] * row[1], row[2] * row[1], row[0]))
    return Sizes([row[0] for row in ranked], {row[0]: float(row[4]) for row in ranked})


def _wrong(path: str, found: object, allowed: str) -> CaseError:
    return CaseError(f"{path}: found {shown(found)}, expected {allowed}", target=path)
