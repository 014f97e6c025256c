"""Which tables grow and when they will be too large: in words, as a table, as lines to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from caretaker.translog.detect import SYSTEM_SCHEMAS
from caretaker.translog.model import MIB, Target, target_key
from caretaker.translog.trend import (
    HORIZON,
    RECENT,
    Course,
    Outlook,
    Sample,
    about,
    outlook,
)
from ops.pictures import Line
from ops.shown import clipped, duration, named, table
from ops.translog_look import Look, Size
from resources.state_store import SampleRow

#: Samples are kept for two weeks; an outlook is taken from one of them.
SAMPLES_KEPT = timedelta(days=14)
TREND_WINDOW = timedelta(days=7)

#: Smaller translogs are not worth a row an hour.
SAMPLED_FROM_PERCENT = 10.0

#: Rows that leave the rest of the page in sight; the table of details has more.
MOST_SHOWN = 12

_BARS = "▁▂▃▄▅▆▇█"
_BARS_A_DAY = 12

_DAYS = HORIZON.days

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A table's size now, how it got there, and where it is heading."""

    size: Size
    at: datetime
    trail: Sequence[Sample]
    outlook: Outlook

    @property
    def growth_mib(self) -> float | None:
        """MiB an hour; None where it is too early to tell."""
        growth = self.outlook.growth_per_hour
        return None if growth is None else round(growth / MIB, 1)

    @property
    def words(self) -> str:
        """When it crosses its threshold, or since when it is above."""
        if self.outlook.course is Course.ABOVE:
            return f"above {self.above_for}"
        hours = self.outlook.hours_left
        if hours is not None:
            return f"in {about(hours)}"
        return {
            Course.SLOW: f"not within {_DAYS} days",
            Course.STEADY: "not growing",
            Course.FLUSHES: "flushes by itself",
        }.get(self.outlook.course, "unknown: too few looks")

    @property
    def above_for(self) -> str:
        """How long it has been above; "since now" where this is the first look that saw it so."""
        since = self.outlook.above_since
        if since is None or since == self.at:
            return "since now"
        least = "" if self.outlook.seen_below else "at least "
        return f"for {least}{duration((self.at - since).total_seconds())}"


Forecasts = Mapping[Key, Forecast]


def trails_of(samples: Iterable[SampleRow]) -> dict[Key, list[Sample]]:
    """Return the earlier looks of each target, oldest first, by target key."""
    trails: dict[Key, list[Sample]] = {}
    for row in samples:
        trails.setdefault(target_key(row.target), []).append((row.at, row.worst_bytes))
    return trails


def worth_a_sample(
    look: Look, trails: Mapping[Key, Sequence[Sample]]
) -> list[tuple[Target, int, int]]:
    """Return what to remember of this look, as `add_samples` takes it.

    A small one, too, where the last one was not: that is the fall that begins a new tooth.
    """
    return [
        (size.target, size.worst_bytes, size.threshold_bytes)
        for size in look.sizes
        if size.percentage >= SAMPLED_FROM_PERCENT
        or _was_large(trails.get(target_key(size.target)), size.threshold_bytes)
    ]


def _was_large(trail: Sequence[Sample] | None, threshold_bytes: int) -> bool:
    return trail is not None and trail[-1][1] * 100 >= SAMPLED_FROM_PERCENT * threshold_bytes


def forecasts_of(look: Look, trails: Mapping[Key, Sequence[Sample]]) -> dict[Key, Forecast]:
    """Return an outlook for each target that is large enough to have one, by target key."""
    made = {}
    for size in look.sizes:
        if size.percentage < SAMPLED_FROM_PERCENT:
            break  # worst percentage first
        if size.target.table.schema in SYSTEM_SCHEMAS:
            continue
        key = target_key(size.target)
        trail = trails.get(key, ())
        now = (look.at, size.worst_bytes)
        made[key] = Forecast(size, look.at, trail, outlook(trail, now, size.threshold_bytes))
    return made


def crossing(forecasts: Iterable[Forecast]) -> list[Forecast]:
    """Return those that will cross their threshold, soonest first."""
    found = [one for one in forecasts if one.outlook.course is Course.CROSSES]
    return sorted(found, key=lambda one: one.outlook.hours_left or 0.0)


def soonest(forecasts: Iterable[Forecast]) -> str:
    """Say who crosses its threshold when, and what of those nobody can tell about.

    "2 within 7 days: doc.metrics in about 1.5 h, doc.events in about 6 h"
    """
    forecasts = list(forecasts)
    coming = [f"{short_name(one.size.target)} {one.words}" for one in crossing(forecasts)]
    said = f"{len(coming):,} within {_DAYS} days: {named(coming)}" if coming else "none foretold"
    counts = Counter(one.outlook.course for one in forecasts)
    rest = [
        f"{counts[course]:,} {words}"
        for course, words in (
            (Course.UNKNOWN, "not known yet (too few looks)"),
            (Course.SLOW, f"not within {_DAYS} days"),
            (Course.FLUSHES, "flush by themselves"),
            (Course.STEADY, "not growing"),
        )
        if counts[course]
    ]
    return f"{said}; the others: {', '.join(rest)}" if rest else said


def above(forecasts: Iterable[Forecast], observed: int) -> str:
    """Say who is above its threshold, how far and for how long.

    "2 of 18: doc.r_changed 231 % (since now), doc.clicks 160 % (for 14 h)"
    """
    over = [one for one in forecasts if one.outlook.course is Course.ABOVE]
    named_so = [
        f"{short_name(one.size.target)} {one.size.percentage:,.0f} % ({one.above_for})"
        for one in over
    ]
    return f"{len(over):,} of {observed:,}: {named(named_so)}" if over else f"none of {observed:,}"


def growth_table(forecasts: Iterable[Forecast]) -> Any:
    """Return the table of the page: above first, then by when they cross, then by size."""
    order = [Course.ABOVE, Course.CROSSES, Course.SLOW, Course.UNKNOWN]
    places = {course: place for place, course in enumerate(order)}

    def urgency(one: Forecast) -> tuple[int, float, float]:
        place = places.get(one.outlook.course, len(order))
        return place, one.outlook.hours_left or 0.0, -one.size.percentage

    rows = [
        {
            "table": short_name(one.size.target),
            "now %": round(one.size.percentage),
            "MiB/h": one.growth_mib,
            "crosses": one.words,
            "24 h": spark(one),
        }
        for one in sorted(forecasts, key=urgency)
    ]
    return table(rows, _COLUMNS, _WORDS, MOST_SHOWN)


def growing_lines(forecasts: Iterable[Forecast]) -> list[Line]:
    """Return what to draw: those that are above or will be, with their looks."""
    forecasts = list(forecasts)
    over = [one for one in forecasts if one.outlook.course is Course.ABOVE]
    return [
        Line(
            short_name(one.size.target),
            [
                (at, size * 100 / one.size.threshold_bytes)
                for at, size in (*one.trail, (one.at, one.size.worst_bytes))
            ],
            one.outlook.hours_left or None,
        )
        for one in (*crossing(forecasts), *over)
    ]


def spark(forecast: Forecast) -> str:
    """Return the last day in twelve bars, up to its threshold; a dot where nobody looked.

    The looks themselves: a fall shows, and so does a gap.
    """
    bars = ["·"] * _BARS_A_DAY
    step = RECENT / _BARS_A_DAY
    for at, size in (*forecast.trail, (forecast.at, forecast.size.worst_bytes)):
        place = _BARS_A_DAY - 1 - int((forecast.at - at) / step)
        if 0 <= place < _BARS_A_DAY:
            height = size * len(_BARS) // max(1, forecast.size.threshold_bytes)
            bars[place] = _BARS[min(height, len(_BARS) - 1)]
    return "".join(bars)


def short_name(target: Target) -> str:
    """Return a name that leaves room for what is said about it."""
    return clipped(str(target), 60)


_COLUMNS = {
    "table": "string",
    "now %": "int",
    "MiB/h": "float",
    "crosses": "string",
    "24 h": "string",
}

_WORDS = {
    "now %": "Uncommitted translog of the worst replica in % of what it may hold.",
    "MiB/h": "Growth since the last flush or reset, of the last 24 h; empty where too early.",
    "crosses": (
        "When it exceeds its threshold if it goes on like this. Flushes by itself: it fell before "
        "it got there the last times, and is below where it did."
    ),
    "24 h": "Two hours a bar, full at the threshold; a dot where nobody looked.",
}
