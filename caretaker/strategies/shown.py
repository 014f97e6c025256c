"""What was found, small enough for a message and safe to write as JSON."""

from __future__ import annotations

import math

_LONGEST_TEXT = 300
_MOST_ENTRIES = 20
_DEEPEST = 3

#: Python refuses to write numbers of thousands of digits; nobody reads those of more than these.
_MOST_BITS = 200


def shown(value: object) -> str:
    """Say what `value` is in a few words.

    >>> [shown(value) for value in ("50cc", -1, None, True, [1, 2], float("nan"))]
    ["'50cc'", '-1', 'null', 'true', 'a list', 'NaN']
    """
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "...")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(_number(value))
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


def echo(value: object, depth: int = _DEEPEST) -> object:
    """Return `value` as JSON can hold it; what is too deep, too long or no JSON, in words."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "..."
    if isinstance(value, int | float):
        return _number(value)
    if depth and len_of(value) <= _MOST_ENTRIES:
        if isinstance(value, list):
            return [echo(item, depth - 1) for item in value]
        if isinstance(value, dict):
            return {name_of(key): echo(item, depth - 1) for key, item in value.items()}
    return shown(value)


def name_of(key: object) -> str:
    """Return a key as text, whatever it is."""
    text = key if isinstance(key, str) else shown(key)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "..."


def len_of(value: object) -> int:
    """Return how many entries a list or an object has; 0 for everything else."""
    return len(value) if isinstance(value, list | dict) else 0


def _number(value: float) -> float | str:
    if isinstance(value, int):
        return value if value.bit_length() <= _MOST_BITS else "a huge number"
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
