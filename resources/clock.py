"""Time, in one place, so that a test can hold it still."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def utc_now() -> datetime:
    """Return the time as an aware UTC datetime."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds that only grow, also while the machine sleeps, where it can tell them.

    Python's stand still meanwhile (Linux's CLOCK_MONOTONIC): what was seen before a laptop was
    closed would pass for fresh when it is opened.
    """
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall-clock for what is written down, a monotonic one for how long it took, and sleep."""

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = time.sleep
