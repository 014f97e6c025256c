"""From rows of the catalog to signals: a known value, a known absence, or unknown (None)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from caretaker.strategies.model import Json

#: Statements are looked for so far back, and further where a strategy waits longer than that.
ACTIVITY_LOOKBACK_S = 86400.0

#: Materialize keeps its statement history for so long.
HISTORY_KEPT_S = 30 * 86400.0

#: Where nobody's statement was logged for so long, not even one of ours, logging is off.
SILENCE_S = 900.0

#: The processes of a replica go down together, give or take.
_TOGETHER = timedelta(seconds=60)

OOM_KILLED = "oom-killed"


class Online(NamedTuple):
    """How many processes of a replica there are, and how many of them are online."""

    processes: int
    online: int


class Hydration(NamedTuple):
    """Of the objects that a replica must hold: how many, hydrated, and reported without a value.

    `reports` is whether the replica reports any hydration at all; without introspection it never
    does.
    """

    required: int
    hydrated: int
    unknown: int
    reports: bool


class Ended(NamedTuple):
    """A process of a replica went offline; `restart` where it was online before."""

    process: int
    reason: str | None
    at: datetime
    restart: bool


class Used(NamedTuple):
    """What the statement history says of a cluster; `logged_at` counts our own statements, too."""

    last_at: datetime | None
    running: int
    logged_at: datetime | None


def ready(online: Online | None, hydration: Hydration | None, processes: int) -> bool | None:
    """Return whether a replica is online with everything hydrated that it must hold.

    Args:
        online: None where nothing is known of its processes.
        hydration: None where nothing is known of its objects; with nothing required, zeros.
        processes: As many as its size has.

    >>> ready(Online(1, 1), Hydration(0, 0, 0, reports=True), 1)
    True
    >>> ready(Online(1, 1), Hydration(3, 2, 1, reports=True), 1) is None
    True
    """
    if online is None:
        return None
    if online.online < max(online.processes, processes):
        return False
    if hydration is None:
        return None
    if hydration.hydrated >= hydration.required:
        return True
    if not hydration.reports or hydration.hydrated + hydration.unknown >= hydration.required:
        return None
    return False


def crash_counts(ends: Iterable[Ended]) -> tuple[int, int]:
    """Return how often a replica ran out of memory, and how often it was restarted.

    One end of a replica with eight processes is one, whichever of them say so.
    """
    ends = list(ends)
    return (
        _times([one for one in ends if one.reason == OOM_KILLED]),
        _times([one for one in ends if one.restart]),
    )


def _times(ends: Sequence[Ended]) -> int:
    """Return what the busiest process saw, or how many came apart from each other, if more."""
    by_process: defaultdict[int, int] = defaultdict(int)
    apart, before = 0, None
    for end in sorted(ends, key=lambda one: one.at):
        by_process[end.process] += 1
        if before is None or end.at - before > _TOGETHER:
            apart += 1
        before = end.at
    return max(apart, *by_process.values()) if by_process else 0


def is_observable(used: Mapping[str | None, Used] | None, now: datetime) -> bool:
    """Return whether statements are being logged: some statement was, lately, of ours or not."""
    if used is None:
        return False
    since = now - timedelta(seconds=SILENCE_S)
    return any(one.logged_at is not None and one.logged_at >= since for one in used.values())


def activity(
    used: Used | None, subscriptions: int | None, now: datetime, lookback_s: float
) -> Json | None:
    """Return the activity of a cluster, as a case has it, where statements are logged.

    Nothing in the look-back is "never", unless a look-back so long would outlast the history:
    then nobody knows more than that it was not used in that time.
    """
    if subscriptions is None:
        return None
    last_at = used.last_at if used else None
    if last_at is None and lookback_s >= HISTORY_KEPT_S:
        last_at = now - timedelta(seconds=HISTORY_KEPT_S)
    running = (used.running if used else 0) + subscriptions
    return {"last_at": last_at.isoformat() if last_at else None, "running": running}


def lookback_s(configs: Iterable[object]) -> float:
    """Return how far back statements must be looked for, by the configs of idle_suspend."""
    longest = ACTIVITY_LOOKBACK_S
    for config in configs:
        idle_after_s: Any = config.get("idle_after_s") if isinstance(config, dict) else None
        # Compared so, NaN is none either; a bool is of another type.
        if type(idle_after_s) in (int, float) and idle_after_s > 0:
            # Twice, so that the last use is seen and not only that there was none since.
            longest = max(longest, min(2.0 * min(idle_after_s, HISTORY_KEPT_S), HISTORY_KEPT_S))
    return longest
