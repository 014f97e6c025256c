"""What the operator allows a cycle to do, checked once, with the key named when it is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

from caretaker.errors import InvalidSettingError
from caretaker.strategies.model import Json, Limits

#: Of the signal "how often did it crash".
CRASH_LOOKBACK_S = 3600.0
_LONGEST_LOOKBACK_S = 30 * 86400.0

_LIMITS = Limits._fields


class Mode(StrEnum):
    """Say what would be done, or do it."""

    DRY_RUN = "dry_run"
    APPLY = "apply"


@dataclass(frozen=True)
class StrategiesPolicy:
    """The limits of one cycle.

    Attributes:
        cluster: A regular expression that must be found in a cluster's name; None or '' for all.
        replica_sizes: The sizes that may be used; empty for all that Materialize offers.
        min_ready, max_replicas, max_credits_per_hour, allow_downtime: Of every cluster.
        overrides: The same four for single clusters, by name.
        crash_lookback_s: Seconds for which a crash is held against a replica.
    """

    mode: Mode = Mode.DRY_RUN
    cluster: str | None = None
    replica_sizes: tuple[str, ...] = ()
    min_ready: int = 1
    max_replicas: int = 5
    max_credits_per_hour: float | None = None
    allow_downtime: bool = False
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    crash_lookback_s: float = CRASH_LOOKBACK_S

    @classmethod
    def checked(cls, **given: Any) -> StrategiesPolicy:
        """Build a policy from untyped settings, or say which key holds what it may not.

        None means "not given" for every key, so that a run config may leave any of them empty.

        >>> StrategiesPolicy.checked(mode="apply", cluster="^prod").apply
        True
        """
        known = {one.name for one in fields(cls)}
        for key, value in given.items():
            if key not in known:
                raise InvalidSettingError(key, value, f"one of {', '.join(sorted(known))}")
        present = {key: value for key, value in given.items() if value is not None}
        if "mode" in present:
            present["mode"] = _mode(present["mode"])
        if "replica_sizes" in present:
            present["replica_sizes"] = _sizes(present["replica_sizes"])
        policy = cls(**present)
        policy._refuse_what_cannot_work()
        return policy

    @property
    def apply(self) -> bool:
        """Whether anything may be changed."""
        return self.mode is Mode.APPLY

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.cluster or "")

    def concerns(self, cluster: str) -> bool:
        """Whether a cluster of this name is to be looked after."""
        return self._pattern.search(cluster) is not None

    def limits(self, cluster: str) -> Json:
        """Return the limits of a cluster, as a case has them."""
        general = {name: getattr(self, name) for name in _LIMITS}
        return {**general, **self.overrides.get(cluster, {})}

    def _refuse_what_cannot_work(self) -> None:
        try:
            _ = self._pattern
        except re.error as error:
            allowed = f"a regular expression ({error})"
            raise InvalidSettingError("cluster", self.cluster, allowed) from error
        if not 0 < self.crash_lookback_s <= _LONGEST_LOOKBACK_S:
            allowed = f"seconds, up to {_LONGEST_LOOKBACK_S:g}"
            raise InvalidSettingError("crash_lookback_s", self.crash_lookback_s, allowed)
        _check_limits("", {name: getattr(self, name) for name in _LIMITS})
        for cluster, limits in self.overrides.items():
            _check_limits(f"overrides.{cluster}.", limits)


def _mode(given: object) -> Mode:
    try:
        return Mode(str(given))
    except ValueError:
        raise InvalidSettingError("mode", given, "dry_run or apply") from None


def _sizes(given: Any) -> tuple[str, ...]:
    sizes = tuple(str(size).strip() for size in given)
    if not all(sizes) or len(set(sizes)) != len(sizes):
        raise InvalidSettingError("replica_sizes", ",".join(sizes), "names of sizes, each once")
    return sizes


def _check_limits(where: str, limits: object) -> None:
    if not isinstance(limits, Mapping):
        allowed = f"an object of {', '.join(_LIMITS)}"
        raise InvalidSettingError(where.rstrip("."), limits, allowed)
    for key, value in limits.items():
        if key not in _LIMITS:
            allowed = f"one of {', '.join(_LIMITS)}"
            raise InvalidSettingError(f"{where}{key}", value, allowed)
        _check_limit(f"{where}{key}", str(key), value)


def _check_limit(path: str, key: str, value: object) -> None:
    if key == "allow_downtime":
        if not isinstance(value, bool):
            raise InvalidSettingError(path, value, "true or false")
    elif key == "max_credits_per_hour":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (
            number and math.isfinite(float(str(value))) and float(str(value)) >= 0
        ):
            raise InvalidSettingError(path, value, "a number of at least 0")
    elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidSettingError(path, value, "a whole number of at least 0")
