"""The rules of `number_of_replicas`: text that is kept verbatim, a number, or a range."""

from __future__ import annotations

import re

from lab.cratedb.answers import CrateError, invalid

_NUMBER = re.compile(r"[0-9]+")
_RANGE = re.compile(r"([0-9]+)-(all|[0-9]+)")


def accept(value: object) -> str:
    """Return the text CrateDB would show for `value`, or raise its refusal (400/4000).

    A bare `0-1` arrives here as -1 and is refused; a bare `2-1` arrives as 1 and is not: that
    is CrateDB's trap, and the lab keeps it. `'01'` is shown as '1'.
    """
    if value is None:
        raise invalid("Cannot set NULL to property number_of_replicas.")
    if isinstance(value, bool | float):
        raise _no_range(value)
    if isinstance(value, int):
        return str(_not_negative(value))
    text = str(value)
    if _NUMBER.fullmatch(text):
        return str(int(text))
    if _RANGE.fullmatch(text):
        return text
    raise _no_range(text)


def _not_negative(number: int) -> int:
    if number < 0:
        raise invalid(
            f"Failed to parse value [{number}] for setting [number_of_replicas] must be >= 0"
        )
    return number


def _no_range(value: object) -> CrateError:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return invalid(f'The "number_of_replicas" range "{text}" isn\'t valid')


def effective(text: str, data_nodes: int) -> int:
    """Return how many copies beside the primary the cluster wants with `data_nodes` nodes.

    A range expands with the nodes there are; a number is wanted whether there is room or not.
    """
    ranged = _RANGE.fullmatch(text)
    if ranged is None:
        return int(text)
    least = int(ranged[1])
    most = data_nodes - 1 if ranged[2] == "all" else int(ranged[2])
    return max(least, min(most, data_nodes - 1))


def is_range(text: str) -> bool:
    """Return whether `text` expands by itself; those are not held against the shard budget."""
    return _RANGE.fullmatch(text) is not None
