"""Maintenance windows: when a cluster's nodes may be restarted, and for how much longer.

    [prod]                                # the cluster, or one of its StatefulSets, as "name" or
                                          # "namespace/name"
    timezone = "Europe/Berlin"            # default UTC
    min_window_duration = 30              # minutes that must be left

    [[prod.windows]]
    time = "22:00-02:00"                  # 24:00 is allowed; over midnight it belongs to its start
    weekdays = ["mon", "tue"]
    ordinal_days = ["2nd tue", "last fri"]  # a day that either list names
    description = "after the nightly load"

What cannot be understood refuses: a typing error must not open a window.
"""

from __future__ import annotations

import calendar
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from caretaker.decommission.model import ClusterRef, WindowVerdict
from caretaker.errors import UnsafeError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG = tuple(day.lower() for day in calendar.day_name)
_ORDINALS = {"1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5, "last": -1}
_TIME = re.compile(r"^\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*$")
_DAY_MINUTES = 24 * 60

#: A yearly window such as "5th mon" of February is further away; nobody plans by it.
_LOOK_AHEAD_DAYS = 100

_CLUSTER_KEYS = frozenset({"timezone", "min_window_duration", "windows"})
_WINDOW_KEYS = frozenset({"time", "weekdays", "ordinal_days", "description"})


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """A stretch of some days, from the day on which it begins.

    Attributes:
        start, end: Minutes of the day; an end that is not later than the start is on the next day.
        weekdays: 0 is Monday.
        ordinal_days: (n, weekday): the n-th one of a month, -1 for the last.
    """

    start: int
    end: int
    weekdays: frozenset[int] = frozenset()
    ordinal_days: frozenset[tuple[int, int]] = frozenset()
    description: str = ""

    def begins_on(self, day: date) -> bool:
        """Whether it begins on that day; a window that names no day begins on every one."""
        if not self.weekdays and not self.ordinal_days:
            return True
        weekday = day.weekday()
        if weekday in self.weekdays:
            return True
        nth = (day.day - 1) // 7 + 1
        is_last = (day + timedelta(days=7)).month != day.month
        return (nth, weekday) in self.ordinal_days or (
            is_last and (-1, weekday) in self.ordinal_days
        )


@dataclass(frozen=True, slots=True)
class ClusterWindows:
    """The windows of one cluster.

    Attributes:
        zone: Whose clock the times are of.
        min_left_s: A window with less than this left counts as closed.
    """

    zone: ZoneInfo
    min_left_s: float
    windows: tuple[MaintenanceWindow, ...]

    def verdict(self, now: datetime) -> WindowVerdict:
        """Say whether one is open with enough of it left; windows that touch are one."""
        today = now.astimezone(self.zone).date()
        stretches = self._stretches(today - timedelta(days=1), 4)
        current = next((each for each in stretches if each[0] <= now < each[1]), None)
        if current is not None:
            left_s = (current[1] - now).total_seconds()
            if left_s >= self.min_left_s:
                return WindowVerdict(
                    open=True, why=f"open until {self._told(current[1])}", left_s=left_s
                )
            why = (
                f"{left_s / 60:.0f} min are left of the one that is open, "
                f"{self.min_left_s / 60:.0f} are needed"
            )
            return WindowVerdict(open=False, why=f"{why}; {self._next(current[1])}")
        return WindowVerdict(open=False, why=self._next(now))

    def _next(self, after: datetime) -> str:
        day = after.astimezone(self.zone).date()
        for stretch in self._stretches(day, _LOOK_AHEAD_DAYS):
            length_s = (stretch[1] - stretch[0]).total_seconds()
            if stretch[0] >= after and length_s >= self.min_left_s:
                return f"the next one opens {self._told(stretch[0])}"
        return f"none opens within {_LOOK_AHEAD_DAYS} days"

    def _told(self, at: datetime) -> str:
        return f"{at.astimezone(self.zone):%a %Y-%m-%d %H:%M} {self.zone.key}"

    def _stretches(self, first: date, days: int) -> list[tuple[datetime, datetime]]:
        """Return what is open from a day on, in order; overlapping and touching ones joined."""
        joined: list[tuple[datetime, datetime]] = []
        for begin, end in sorted(self._single(first, days)):
            if joined and begin <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((begin, end))
        return joined

    def _single(self, first: date, days: int) -> Iterator[tuple[datetime, datetime]]:
        for number in range(days):
            day = first + timedelta(days=number)
            for window in self.windows:
                if not window.begins_on(day):
                    continue
                over = window.end <= window.start
                begin = instant(day, window.start, self.zone)
                end = instant(day + timedelta(days=over), window.end, self.zone)
                if begin < end:
                    yield begin, end


def instant(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Return when the clocks of a zone show that many minutes of a day, in UTC.

    A time that the clocks show twice is its first showing; one that they skip is the moment of
    the change, so that a window neither begins before its hour nor outlives it.
    """
    day += timedelta(days=minutes // _DAY_MINUTES)
    hour, minute = divmod(minutes % _DAY_MINUTES, 60)
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    at = local.astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return at
    # Skipped: read with the old offset it lies behind the change, with the new one before it.
    earlier, later = local.replace(fold=1).astimezone(UTC), at
    offset = earlier.astimezone(zone).utcoffset()
    while later - earlier > timedelta(seconds=1):
        middle = earlier + (later - earlier) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            earlier = middle
        else:
            later = middle
    return later.replace(microsecond=0)


def parse_windows(text: str, source: str = "the windows file") -> dict[str, ClusterWindows]:
    """Return the windows by cluster; UnsafeError names the key of what cannot be understood."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnsafeError(f"{source} is no TOML: {error}", target=source) from None
    return {name: _cluster(name, entry, source) for name, entry in document.items()}


def entries_for(
    windows: Mapping[str, ClusterWindows], cluster: ClusterRef, statefulsets: Collection[str] = ()
) -> list[ClusterWindows]:
    """Return what a file says about a cluster: its own entry, else those of these StatefulSets.

    "namespace/name" is looked for before "name".
    """
    for names in ([cluster.name], sorted(set(statefulsets))):
        found = [windows.get(f"{cluster.namespace}/{name}") or windows.get(name) for name in names]
        if entries := [entry for entry in found if entry is not None]:
            return entries
    return []


def verdict_for(
    windows: Mapping[str, ClusterWindows],
    cluster: ClusterRef,
    now: datetime,
    statefulsets: Collection[str] = (),
) -> WindowVerdict | None:
    """Return the verdict of a cluster's entry, or None where it has none: then nothing restricts.

    Where its StatefulSets have several, all must be open.
    """
    verdicts = [entry.verdict(now) for entry in entries_for(windows, cluster, statefulsets)]
    return min(verdicts, key=lambda each: (each.open, each.left_s or 0.0), default=None)


def _cluster(name: str, entry: object, source: str) -> ClusterWindows:
    if not isinstance(entry, Mapping):
        raise _wrong(source, name, entry, "a table, one for each cluster")
    _refuse_unknown(entry, _CLUSTER_KEYS, source, name)
    minutes = entry.get("min_window_duration", 0)
    if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 0:
        raise _wrong(source, f"{name}.min_window_duration", minutes, "minutes, a whole number")
    given = entry.get("windows", [])
    if not isinstance(given, list) or not given:
        raise _wrong(source, f"{name}.windows", given, f"at least one [[{name}.windows]]")
    windows = tuple(
        _window(f"{name}.windows[{number}]", each, source) for number, each in enumerate(given)
    )
    zone = _zone(f"{name}.timezone", entry.get("timezone", "UTC"), source)
    return ClusterWindows(zone, minutes * 60.0, windows)


def _window(path: str, entry: object, source: str) -> MaintenanceWindow:
    if not isinstance(entry, Mapping):
        raise _wrong(source, path, entry, "a table")
    _refuse_unknown(entry, _WINDOW_KEYS, source, path)
    start, end = _times(f"{path}.time", entry.get("time"), source)
    description = entry.get("description", "")
    if not isinstance(description, str):
        raise _wrong(source, f"{path}.description", description, "a text")
    weekdays = [
        _weekday(f"{path}.weekdays", each, source)
        for each in _texts(f"{path}.weekdays", entry.get("weekdays"), source)
    ]
    ordinals = [
        _ordinal_day(f"{path}.ordinal_days", each, source)
        for each in _texts(f"{path}.ordinal_days", entry.get("ordinal_days"), source)
    ]
    return MaintenanceWindow(start, end, frozenset(weekdays), frozenset(ordinals), description)


def _times(path: str, value: object, source: str) -> tuple[int, int]:
    allowed = "a time such as '22:00-02:00', from 00:00 to 24:00"
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(source, path, value, allowed)
    hours, minutes = (int(found[1]), int(found[3])), (int(found[2]), int(found[4]))
    start, end = hours[0] * 60 + minutes[0], hours[1] * 60 + minutes[1]
    if max(minutes) > 59 or start >= _DAY_MINUTES or end > _DAY_MINUTES:  # noqa: PLR2004
        raise _wrong(source, path, value, allowed)
    if start == end:
        raise _wrong(source, path, value, "an end that is not its start (all day is 00:00-24:00)")
    return start, end


def _texts(path: str, value: object, source: str) -> list[str]:
    """Return a list of words; a list that is there and empty is a mistake, not "every day"."""
    if value is None:
        return []
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise _wrong(source, path, value, "a list of days")
    return value


def _weekday(path: str, text: str, source: str) -> int:
    word = text.strip().lower()
    for names in (WEEKDAYS, _LONG):
        if word in names:
            return names.index(word)
    raise _wrong(source, path, text, ", ".join(WEEKDAYS))


def _ordinal_day(path: str, text: str, source: str) -> tuple[int, int]:
    ordinal, _, weekday = " ".join(text.lower().split()).partition(" ")
    if ordinal not in _ORDINALS or not (weekday in WEEKDAYS or weekday in _LONG):
        allowed = f"one of {', '.join(_ORDINALS)} and a weekday, such as '2nd tue'"
        raise _wrong(source, path, text, allowed)
    return _ORDINALS[ordinal], _weekday(path, weekday, source)


def _zone(path: str, value: object, source: str) -> ZoneInfo:
    try:
        return ZoneInfo(str(value) if isinstance(value, str) and value else "?")
    except (OSError, ValueError, KeyError):
        # ZoneInfo raises whatever looking for a file raises.
        raise _wrong(source, path, value, "a time zone such as 'Europe/Berlin'") from None


def _refuse_unknown(
    entry: Mapping[str, Any], known: frozenset[str], source: str, path: str
) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        allowed = f"only {', '.join(sorted(known))}"
        raise _wrong(source, f"{path}.{unknown[0]}", entry[unknown[0]], allowed)


def _wrong(source: str, path: str, found: object, allowed: str) -> UnsafeError:
    return UnsafeError(f"{source}: {path}: found {found!r}, expected {allowed}", target=path)
