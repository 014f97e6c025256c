"""Label and field selectors, as query parameters have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lab.kubernetes.errors import bad_request

Match = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_EQUALITY = re.compile(r"\s*([^\s!=,()]+)\s*(==|!=|=)\s*([^\s,()]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([^\s!=,()]+)\s*")


def matcher(labels: str, fields: str) -> Match:
    """Return whether an object is selected by both; '' selects everything."""
    wanted_labels = [_label(part) for part in _parts(labels)]
    wanted_fields = [_field(part) for part in _parts(fields)]

    def matches(item: Mapping[str, Any]) -> bool:
        own = item["metadata"].get("labels") or {}
        return all(holds(own) for holds in wanted_labels) and all(
            holds(item) for holds in wanted_fields
        )

    return matches


def _parts(text: str) -> list[str]:
    """Split at commas that are not in brackets."""
    return [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def _label(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(part):
        key, kind, text = found.groups()
        values = {value.strip() for value in text.split(",")}
        if kind == "in":
            return lambda own: own.get(key) in values
        return lambda own: own.get(key) not in values
    if found := _EQUALITY.fullmatch(part):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda own: own.get(key) != value
        return lambda own: own.get(key) == value
    if found := _EXISTS.fullmatch(part):
        bang, key = found.groups()
        return lambda own: (key in own) != bool(bang)
    raise bad_request(f"unable to parse requirement: {part}")


def _field(part: str) -> Match:
    found = _EQUALITY.fullmatch(part)
    if not found:
        raise bad_request(f"invalid field selector: {part}")
    path, operator, value = found.groups()
    keys = path.split(".")

    def holds(item: Mapping[str, Any]) -> bool:
        at: Any = item
        for key in keys:
            at = (at or {}).get(key)
        return (str(at or "") == value) != (operator == "!=")

    return holds
