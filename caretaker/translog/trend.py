"""How fast a translog grows, and when it will be too large."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import linear_regression
from typing import TypeAlias

#: (when, bytes): the worst replica of one table or partition, oldest first.
Sample: TypeAlias = tuple[datetime, int]

#: Fewer looks, or looks closer together, say more about the moment than about a trend.
FEWEST_SAMPLES = 3
SHORTEST_SPAN = timedelta(minutes=10)


def growth_per_hour(samples: Sequence[Sample]) -> float | None:
    """Return bytes an hour by least squares since the last fall, or None where it is too early.

    A flush or a reset makes a saw-tooth of it. A line through the whole saw is flat however fast
    the translog grows, so only what came after the last fall counts.

    >>> from datetime import UTC
    >>> at = [datetime(2026, 1, 15, hour, tzinfo=UTC) for hour in range(6)]
    >>> growth_per_hour(list(zip(at, [700, 900, 20, 70, 120, 170])))
    50.0
    >>> growth_per_hour(list(zip(at, [700, 900, 20, 70]))) is None
    True
    """
    tooth = since_last_fall(samples)
    if len(tooth) < FEWEST_SAMPLES or tooth[-1][0] - tooth[0][0] < SHORTEST_SPAN:
        return None
    began = tooth[0][0]
    hours = [(at - began) / timedelta(hours=1) for at, _ in tooth]
    return linear_regression(hours, [float(size) for _, size in tooth]).slope


def hours_until(threshold_bytes: int, now_bytes: int, growth: float | None) -> float | None:
    """Return the hours until `threshold_bytes` is exceeded; None where it never will be.

    0.0 where it is already, growing or not.

    >>> hours_until(1000, 400, 50.0)
    12.0
    >>> hours_until(1000, 400, None) is None
    True
    """
    if now_bytes > threshold_bytes:
        return 0.0
    if growth is None or growth <= 0:
        return None
    return (threshold_bytes - now_bytes) / growth


def since_last_fall(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples from the last one on that was smaller than the one before it."""
    for index in range(len(samples) - 1, 0, -1):
        if samples[index][1] < samples[index - 1][1]:
            return samples[index:]
    return samples
