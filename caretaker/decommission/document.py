"""Frozen dataclasses as JSON and back, by their own annotations: no field is written twice."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from caretaker.errors import CaseError

_Document = TypeVar("_Document")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: times ISO 8601 in UTC, words as text, tuples as lists."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def restored(kind: Callable[..., _Document], value: Any, path: str = "$") -> _Document:
    """Return the document that `plain` was given; CaseError names the path of what does not fit.

    Fields with a default may be missing: an older caretaker did not know them. Unknown ones are
    refused: a newer one meant something by them.
    """
    if not isinstance(value, Mapping):
        raise CaseError(f"{path}: expected an object, found {value!r}", target=path)
    hints, known = _shape(kind)
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise CaseError(f"{path}: unknown {', '.join(unknown)}", target=path)
    given = {name: _value(hints[name], each, f"{path}.{name}") for name, each in value.items()}
    missing = [
        name
        for name, field in known.items()
        if name not in given
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise CaseError(f"{path}: {', '.join(missing)} missing", target=path)
    return kind(**given)


@functools.cache
def _shape(kind: Hashable) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Return the types and the fields of a dataclass; working them out takes milliseconds."""
    made: Any = kind
    return get_type_hints(made), {field.name: field for field in dataclasses.fields(made)}


def _value(kind: Any, value: Any, path: str) -> Any:
    if get_origin(kind) in {Union, types.UnionType}:
        return _one_of(get_args(kind), value, path)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise CaseError(f"{path}: expected a list, found {value!r}", target=path)
        inner = get_args(kind)[0]
        return tuple(_value(inner, each, f"{path}[{n}]") for n, each in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return restored(kind, value, path)  # type: ignore[arg-type]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            raise CaseError(f"{path}: {value!r} is no {kind.__name__}", target=path) from None
    if kind is datetime:
        return _time(value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise CaseError(f"{path}: expected {kind.__name__}, found {value!r}", target=path)


def _one_of(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not types.NoneType]
    if len(rest) == 1:
        return _value(rest[0], value, path)
    # Scalars of a setting: they stay what they were.
    if type(value) in rest:
        return value
    raise CaseError(f"{path}: {value!r} is none of what it may be", target=path)


def _time(value: Any, path: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise CaseError(f"{path}: {value!r} is no time", target=path) from None
    if time.tzinfo is None:
        raise CaseError(f"{path}: {value!r} has no time zone", target=path)
    return time
