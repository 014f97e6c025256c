"""How fast a translog grows, when it will be too large, and when nobody can tell.

Sizes are a saw-tooth: they fall with every flush and every reset. A line through the whole saw is
flat however fast the translog grows, so only the last tooth counts. Medians throughout, because
one odd look must not move what an operator plans his night by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from statistics import median
from typing import TypeAlias

#: (when, bytes): the worst replica of one table or partition.
Sample: TypeAlias = tuple[datetime, int]

#: With three looks even a straight rise is as likely chance as not; with four it is 1 in 24.
FEWEST_SAMPLES = 4
SHORTEST_SPAN = timedelta(minutes=10)

#: A day is long enough to even out its hours, and what was before it has no say any more.
RECENT = timedelta(hours=24)

#: Further ahead nothing is foretold.
HORIZON = timedelta(days=7)

#: A look below this share of the one before begins a new tooth; statistics waver by a few percent.
FALLS_BELOW = 0.8

#: One-sided 95 % of the normal distribution, for Mann and Kendall's test.
_SURE_ENOUGH = 1.64

#: A rise counts from so many times the scatter around it.
_TIMES_THE_SCATTER = 3.0

#: Looks that a slope is taken from: their pairs are counted, for a thousand tables.
_MOST_LOOKS = 40


class Course(StrEnum):
    """Where a translog is heading."""

    ABOVE = "above"
    CROSSES = "crosses"
    SLOW = "slow"
    STEADY = "steady"
    FLUSHES = "flushes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the looks so far say about one table or partition.

    Attributes:
        growth_per_hour: Bytes; 0.0 where it does not grow, None where it is too early to tell.
        hours_left: Until the threshold is exceeded, 0.0 where it is; None where it is not foretold.
        above_since: The first look of those in a row that saw it above; None where it is not.
        seen_below: Whether there was a look before that, which saw it below.
        looks: How many of them the growth is taken from.
    """

    course: Course
    growth_per_hour: float | None
    hours_left: float | None
    looks: int
    above_since: datetime | None = None
    seen_below: bool = False


def outlook(samples: Sequence[Sample], now: Sample, threshold_bytes: int) -> Outlook:
    """Return what to expect, from earlier looks (oldest first) and the one now.

    A table whose last tooth ended below the threshold flushes by itself, as every healthy one does:
    nothing is foretold of it until it has grown past where it flushed before.
    """
    series = [*(sample for sample in samples if sample[0] < now[0]), now]
    *before, tooth = teeth(series)
    growth = growth_per_hour(tooth)
    looks = len(_recent(tooth))
    if now[1] > threshold_bytes:
        since, seen_below = _above_since(series, threshold_bytes)
        return Outlook(Course.ABOVE, growth, 0.0, looks, since, seen_below)
    if growth is None:
        return Outlook(Course.UNKNOWN, None, None, looks)
    if growth <= 0:
        return Outlook(Course.STEADY, 0.0, None, looks)
    if now[1] <= _flushed_at(before, threshold_bytes):
        return Outlook(Course.FLUSHES, growth, None, looks)
    hours = (threshold_bytes - now[1]) / growth
    if hours > HORIZON / timedelta(hours=1):
        return Outlook(Course.SLOW, growth, None, looks)
    return Outlook(Course.CROSSES, growth, hours, looks)


def growth_per_hour(tooth: Sequence[Sample]) -> float | None:
    """Return bytes an hour by Theil and Sen; 0.0 where no rise can be told from chance.

    None where it is too early: fewer than four looks, or closer together than ten minutes.

    >>> from datetime import UTC
    >>> at = [datetime(2026, 1, 15, hour, tzinfo=UTC) for hour in range(6)]
    >>> growth_per_hour(list(zip(at, [20, 70, 120, 900, 220, 270])))
    50.0
    >>> growth_per_hour(list(zip(at, [300, 280, 310, 290, 305, 295])))
    0.0
    >>> growth_per_hour(list(zip(at, [20, 70, 120]))) is None
    True
    """
    looks = _recent(tooth)
    if len(looks) < FEWEST_SAMPLES or looks[-1][0] - looks[0][0] < SHORTEST_SPAN:
        return None
    began = looks[0][0]
    points = [((at - began) / timedelta(hours=1), float(size)) for at, size in looks]
    slope = median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
    risen = slope * points[-1][0]
    return slope if _rises(points) and risen > _TIMES_THE_SCATTER * _scatter(points, slope) else 0.0


def teeth(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    """Cut the saw where a size has fallen; at least one tooth, the last one still growing.

    >>> from datetime import UTC
    >>> at = datetime(2026, 1, 15, tzinfo=UTC)
    >>> [[size for _, size in tooth] for tooth in teeth([(at, n) for n in (700, 900, 20, 70)])]
    [[700, 900], [20, 70]]
    """
    cuts = [
        index
        for index in range(1, len(samples))
        if samples[index][1] < samples[index - 1][1] * FALLS_BELOW
    ]
    ends = [*cuts, len(samples)]
    return [samples[begin:end] for begin, end in zip([0, *cuts], ends, strict=True)]


def about(hours: float) -> str:
    """Say a time ahead no more precisely than it is known.

    >>> [about(hours) for hours in (0.04, 0.55, 1.66, 5.8, 39.2, 120)]
    ['less than 10 min', 'about 30 min', 'about 1.5 h', 'about 6 h', 'about 39 h', 'about 5 days']
    """
    if hours * 60 < 10:  # noqa: PLR2004 - closer together than this, looks are no trend
        return "less than 10 min"
    if hours * 60 < 55:  # noqa: PLR2004
        return f"about {round(hours * 6) * 10} min"
    if hours < 9.75:  # noqa: PLR2004 - from where a half no longer matters
        return f"about {round(hours * 2) / 2:g} h"
    return f"about {hours:.0f} h" if hours < 48 else f"about {hours / 24:.0f} days"  # noqa: PLR2004


def _recent(tooth: Sequence[Sample]) -> list[Sample]:
    """Return the looks of the last day, further back where that is too few, evenly in time.

    Evenly, because a look a minute for a while must not outvote the hours before.
    """
    from_here = len(tooth)
    while from_here and (
        tooth[-1][0] - tooth[from_here - 1][0] <= RECENT or len(tooth) - from_here < FEWEST_SAMPLES
    ):
        from_here -= 1
    recent = tooth[from_here:]
    if len(recent) <= FEWEST_SAMPLES:
        return list(recent)
    began, width = recent[0][0], (recent[-1][0] - recent[0][0]) / _MOST_LOOKS
    if not width:
        return [recent[-1]]
    return list({(at - began) // width: (at, size) for at, size in recent}.values())


def _rises(points: Sequence[tuple[float, float]]) -> bool:
    """Whether later looks are larger more often than chance would have it (Mann and Kendall)."""
    count = len(points)
    agree = sum((b[1] > a[1]) - (b[1] < a[1]) for a, b in combinations(points, 2))
    return (agree - 1) / math.sqrt(count * (count - 1) * (2 * count + 5) / 18) > _SURE_ENOUGH


def _scatter(points: Sequence[tuple[float, float]], slope: float) -> float:
    """Return the median distance from the line, as a standard deviation (1.4826 of it)."""
    rest = [size - slope * at for at, size in points]
    middle = median(rest)
    return 1.4826 * median(abs(one - middle) for one in rest)


def _above_since(series: Sequence[Sample], threshold_bytes: int) -> tuple[datetime, bool]:
    since = series[-1][0]
    for at, size in reversed(series):
        if size <= threshold_bytes:
            return since, True
        since = at
    return since, False


def _flushed_at(before: Sequence[Sequence[Sample]], threshold_bytes: int) -> int:
    """Return the largest size at which it fell by itself, since it last had to be reset; or 0."""
    return max(_peaks_below(before, threshold_bytes), default=0)


def _peaks_below(before: Sequence[Sequence[Sample]], threshold_bytes: int) -> Iterator[int]:
    for tooth in reversed(before):
        peak = max(size for _, size in tooth)
        if peak > threshold_bytes:
            return
        yield peak
