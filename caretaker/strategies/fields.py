"""Config and remembered values, checked one key at a time: what is wrong, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from caretaker.strategies.model import Json, problem
from caretaker.strategies.moments import AN_AWARE_TIME, moment
from caretaker.strategies.shown import echo, name_of, shown
from caretaker.strategies.sizes import Sizes
from caretaker.strategies.statements import MAX_NAME_BYTES, why_unwritable

#: Ten years; longer is a mistake, and the calendar ends.
MAX_SECONDS = 10 * 366 * 86400
MAX_COUNT = 10**9

#: What is allowed, where `value` is not; '' where it is.
Check: TypeAlias = Callable[[Any, Sizes], str]


class Field(NamedTuple):
    """A key of a config."""

    check: Check
    required: bool = False


def seconds_field(value: Any, _sizes: Sizes) -> str:
    """Allow seconds, none included."""
    # Compared this way round NaN is refused, too; a bool is of another type.
    if (type(value) is int or type(value) is float) and 0 <= value <= MAX_SECONDS:
        return ""
    return f"a number of seconds from 0 to {MAX_SECONDS}"


def some_seconds_field(value: Any, _sizes: Sizes) -> str:
    """Allow more than no seconds."""
    if (type(value) is int or type(value) is float) and 0 < value <= MAX_SECONDS:
        return ""
    return f"a number of seconds above 0, {MAX_SECONDS} at most"


def count_field(value: Any, _sizes: Sizes) -> str:
    """Allow whole numbers from 1."""
    if type(value) is int and 1 <= value <= MAX_COUNT:
        return ""
    return f"a whole number from 1 to {MAX_COUNT}"


def size_field(value: Any, sizes: Sizes) -> str:
    """Allow the sizes there are."""
    if type(value) is str and value in sizes.rank:
        return ""
    if not sizes.names:
        return "one of the known sizes, and none is known"
    return f"one of {', '.join(sizes.names[:50])}"


def name_field(value: Any, _sizes: Sizes) -> str:
    """Allow what a statement can name."""
    if type(value) is str and not why_unwritable(value):
        return ""
    return f"a name of 1 to {MAX_NAME_BYTES} bytes without control characters"


def read_config(
    strategy: str, config: Any, fields: Mapping[str, Field], sizes: Sizes
) -> tuple[Json, list[Json]]:
    """Return the values of a config and what is wrong with it; with problems it is of no use."""
    if not isinstance(config, dict):
        allowed = "an object" if config is not None else "an object, and it is NULL"
        return {}, [_wrong(strategy, "config", config, allowed)]
    problems = []
    for key, value in config.items():
        field = fields.get(key) if isinstance(key, str) else None
        if field is None:
            message = f"{name_of(key)} is no key of {strategy}: found {shown(value)}, "
            message += f"allowed are {', '.join(fields)}"
            problems.append(problem(strategy, name_of(key), echo(value), message))
        elif allowed := field.check(value, sizes):
            problems.append(_wrong(strategy, key, value, allowed))
    for key, field in fields.items():
        if field.required and key not in config:
            message = f"{key} is missing, expected {field.check(None, sizes)}"
            problems.append(problem(strategy, key, None, message))
    return config, problems


def _wrong(strategy: str, key: str, value: object, allowed: str) -> Json:
    return problem(strategy, key, echo(value), f"{key}: found {shown(value)}, expected {allowed}")


class UnreadableError(Exception):
    """A remembered value that is not what was written; private to reading it."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}: found {shown(value)}, expected {allowed}")
        self.key = key
        self.value = value


def remembered_time(payload: Json, key: str) -> datetime | None:
    """Return a remembered time, or None."""
    value = payload.get(key)
    if value is None:
        return None
    at = moment(value)
    if at is None:
        raise UnreadableError(key, value, AN_AWARE_TIME)
    return at


def remembered_text(payload: Json, key: str) -> str:
    """Return a remembered text."""
    value = payload.get(key)
    if not isinstance(value, str) or not value:
        raise UnreadableError(key, value, "a text that is not empty")
    return value


def remembered_text_or_null(payload: Json, key: str) -> str | None:
    """Return a remembered text, or None."""
    return None if payload.get(key) is None else remembered_text(payload, key)


def remembered_count(payload: Json, key: str) -> int:
    """Return a remembered number of things."""
    value = payload.get(key)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise UnreadableError(key, value, "a whole number")
    return value


def remembered_object(payload: Json, key: str) -> Json | None:
    """Return a remembered object, or None."""
    value = payload.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise UnreadableError(key, value, "an object")
