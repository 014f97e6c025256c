"""Which nodes a table's own settings keep its shards away from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

#: With these a shard that has a copy is put nowhere (CrateDB's EnableAllocationDecider, source).
_NOWHERE = frozenset({"none", "new_primaries"})

_NO_LIMIT = -1


@dataclass(frozen=True, slots=True)
class Place:
    """A node, as far as filters look at it."""

    id: str
    name: str
    hostname: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> str | None:
        """Return what a filter's key means for it; None where nobody can tell."""
        known = {"_id": self.id, "_name": self.name, "_host": self.hostname}
        if key.startswith("_"):
            return known.get(key)
        found = self.attributes.get(key)
        return "" if found is None else str(found)


@dataclass(frozen=True, slots=True)
class Rules:
    """`settings['routing']['allocation']` of one table or partition."""

    enable: str = "all"
    limit: int = _NO_LIMIT
    require: Mapping[str, str] = field(default_factory=dict)
    include: Mapping[str, str] = field(default_factory=dict)
    exclude: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Rules:
        """From the object that the catalog shows.

        >>> Rules.of({"enable": "all", "exclude": {"_name": "data-hot-1"}}).matters
        True
        >>> Rules.of({"enable": "all", "total_shards_per_node": -1, "include": {}}).matters
        False
        """
        found = settings or {}
        limit = found.get("total_shards_per_node")
        return cls(
            enable=str(found.get("enable") or "all").lower(),
            limit=_NO_LIMIT if limit is None else int(limit),
            **{name: _flat(found.get(name)) for name in ("require", "include", "exclude")},
        )

    @property
    def matters(self) -> bool:
        """Whether it keeps any shard away from any node."""
        limited = self.enable in _NOWHERE or self.limit >= 0
        return limited or bool(self.require or self.include or self.exclude)

    def bars(self, place: Place, copies_there: int) -> bool:
        """Whether a further copy may not go there; a filter that nobody can judge bars, too."""
        if self.enable in _NOWHERE or 0 <= self.limit <= copies_there:
            return True
        if any(not _matches(place, *rule) for rule in self.require.items()):
            return True
        if self.include and not any(_matches(place, *rule) for rule in self.include.items()):
            return True
        return any(_matches(place, *rule, unknown=True) for rule in self.exclude.items())


def barred(rules: Rules, places: Iterable[Place], copies: Mapping[str, int]) -> tuple[str, ...]:
    """Return the ids of the nodes that may not take a further copy.

    >>> here = [Place("1", "data-hot-0", "pod-0"), Place("2", "data-hot-1", "pod-1")]
    >>> barred(Rules(exclude={"_name": "*-1"}), here, {})
    ('2',)
    >>> barred(Rules(limit=2), here, {"1": 2, "2": 1})
    ('1',)
    """
    return tuple(place.id for place in places if rules.bars(place, copies.get(place.id, 0)))


def _matches(place: Place, key: str, patterns: str, *, unknown: bool = False) -> bool:
    value = place.value(key)
    if value is None:
        return unknown
    return any(fnmatchcase(value, each.strip()) for each in patterns.split(","))


def _flat(rules: Any, prefix: str = "") -> dict[str, str]:
    """Return a filter's keys with their patterns; the catalog nests what has a dot."""
    flat: dict[str, str] = {}
    for key, value in (rules or {}).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif value not in {None, ""}:
            flat[name] = str(value)
    return flat
