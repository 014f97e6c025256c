"""When a cluster may be restarted: clocks, midnights, changes of the clock, and typing errors."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.decommission.model import ClusterRef
from caretaker.decommission.windows import instant, parse_windows, verdict_for
from caretaker.errors import UnsafeError

PROD = ClusterRef("db", "prod")
BERLIN = ZoneInfo("Europe/Berlin")


def windows(*entries: str, zone: str = "UTC", least: int = 0) -> str:
    """A file with windows, each given as its lines."""
    head = f'[prod]\ntimezone = "{zone}"\nmin_window_duration = {least}\n'
    return head + "".join(f"[[prod.windows]]\n{entry}\n" for entry in entries)


def verdict(text: str, at: str, zone: str = "UTC"):
    now = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return verdict_for(parse_windows(text), PROD, now)


def is_open(text: str, at: str, zone: str = "UTC"):
    return verdict(text, at, zone).open


# 2026-01-15 is a Thursday.
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-15T21:59:59", False),
        ("2026-01-15T22:00:00", True),
        ("2026-01-16T01:59:59", True),
        ("2026-01-16T02:00:00", False),
    ],
)
def test_a_window_over_midnight_ends_on_the_next_day(at, expected):
    assert is_open(windows('time = "22:00-02:00"'), at) is expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-15T23:00:00", True),
        ("2026-01-16T01:00:00", True),
        ("2026-01-16T23:00:00", False),
        ("2026-01-15T01:00:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(at, expected):
    assert is_open(windows('time = "22:00-02:00"\nweekdays = ["thu"]'), at) is expected


def test_until_twenty_four_is_until_the_end_of_the_day():
    text = windows('time = "20:00-24:00"')
    assert is_open(text, "2026-01-15T23:59:59")
    assert not is_open(text, "2026-01-16T00:00:00")
    assert verdict(text, "2026-01-15T23:00:00").left_s == 3600


def test_all_day_every_day_never_closes():
    text = windows('time = "00:00-24:00"', least=60)
    assert is_open(text, "2026-01-15T23:59:59")


def test_windows_that_touch_are_one():
    text = windows('time = "20:00-24:00"', 'time = "00:00-04:00"', least=180)
    found = verdict(text, "2026-01-15T23:30:00")
    assert found.open
    assert found.left_s == 4.5 * 3600


def test_a_window_with_too_little_left_is_closed_and_says_when_the_next_one_opens():
    text = windows('time = "22:00-02:00"', least=30)
    assert is_open(text, "2026-01-16T01:30:00")
    found = verdict(text, "2026-01-16T01:31:00")
    assert not found.open
    assert "29 min are left" in found.why
    assert "Fri 2026-01-16 22:00 UTC" in found.why


@pytest.mark.parametrize(
    ("days", "at", "expected"),
    [
        ('["2nd thu"]', "2026-01-08T12:30:00", True),
        ('["2nd thu"]', "2026-01-15T12:30:00", False),
        ('["3rd thu"]', "2026-01-15T12:30:00", True),
        ('["last fri"]', "2026-01-30T12:30:00", True),
        ('["last fri"]', "2026-01-23T12:30:00", False),
        ('["last sat"]', "2026-02-28T12:30:00", True),
        ('["1st thu"]', "2026-01-01T12:30:00", True),
        ('["5th thu"]', "2026-01-29T12:30:00", True),
        ('["5th mon"]', "2026-01-26T12:30:00", False),
        ('["Last  Friday"]', "2026-01-30T12:30:00", True),
    ],
)
def test_ordinal_days_are_those_of_the_month(days, at, expected):
    assert is_open(windows(f'time = "12:00-13:00"\nordinal_days = {days}'), at) is expected


def test_a_day_that_either_list_names_counts():
    text = windows('time = "12:00-13:00"\nweekdays = ["mon"]\nordinal_days = ["2nd tue"]')
    assert is_open(text, "2026-01-12T12:30:00")
    assert is_open(text, "2026-01-13T12:30:00")
    assert not is_open(text, "2026-01-14T12:30:00")


def test_times_are_those_of_the_windows_own_zone():
    text = windows('time = "22:00-23:00"', zone="America/New_York")
    assert is_open(text, "2026-01-15T22:30:00", "America/New_York")
    assert is_open(text, "2026-01-16T03:30:00", "UTC")


def test_the_night_in_which_the_clock_goes_forward_is_an_hour_shorter():
    """2026-03-29 in Berlin: 02:00 is 03:00."""
    text = windows('time = "01:00-04:00"', zone="Europe/Berlin")
    assert verdict(text, "2026-03-29T01:30:00", "Europe/Berlin").left_s == 1.5 * 3600


def test_a_window_that_begins_in_the_skipped_hour_begins_with_the_change():
    text = windows('time = "02:30-04:00"', zone="Europe/Berlin")
    assert not is_open(text, "2026-03-29T01:59:00", "Europe/Berlin")
    assert is_open(text, "2026-03-29T03:00:00", "Europe/Berlin")


def test_a_window_that_ends_in_the_skipped_hour_ends_with_the_change():
    text = windows('time = "01:00-02:30"', zone="Europe/Berlin")
    assert is_open(text, "2026-03-29T01:59:00", "Europe/Berlin")
    assert not is_open(text, "2026-03-29T03:00:00", "Europe/Berlin")


def test_a_window_that_ends_in_the_repeated_hour_ends_the_first_time():
    """2026-10-25 in Berlin: 02:30 comes twice."""
    text = windows('time = "01:00-02:30"', zone="Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN).astimezone(UTC)
    entry = parse_windows(text)["prod"]
    assert entry.verdict(first - timedelta(minutes=1)).open
    assert not entry.verdict(first).open
    assert not entry.verdict(first + timedelta(hours=1)).open


@given(st.dates(date(2020, 1, 1), date(2030, 12, 31)), st.integers(0, 1440))
def test_no_moment_of_a_day_lies_outside_of_it(day, minutes):
    """Whatever the clocks do: the minutes of a day are in order, from its start to its end."""
    at, next_at = instant(day, minutes, BERLIN), instant(day, min(1440, minutes + 1), BERLIN)
    assert at <= next_at
    assert instant(day, 0, BERLIN) <= at <= instant(day, 1440, BERLIN)


DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=3),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001 - made UTC below
)
def test_a_window_is_open_exactly_where_a_calendar_would_say_so(start, end, days, at):
    if start == end:
        return
    text = windows(
        f'time = "{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"\nweekdays = {days}'
    )
    minute = at.hour * 60 + at.minute
    today = DAYS[at.weekday()] in days
    yesterday = DAYS[(at.weekday() - 1) % 7] in days
    expected = today and start <= minute < end
    if end <= start:
        expected = (today and minute >= start) or (yesterday and minute < end)
    assert is_open(text, at.isoformat()) is expected


@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001 - made UTC below
)
def test_what_is_said_to_be_left_is_left(start, end, at):
    if start == end:
        return
    text = windows(f'time = "{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"')
    entry, now = parse_windows(text)["prod"], at.replace(tzinfo=UTC)
    found = entry.verdict(now)
    if found.open and found.left_s is not None and found.left_s < 86400:
        assert entry.verdict(now + timedelta(seconds=found.left_s - 1)).open
        assert not entry.verdict(now + timedelta(seconds=found.left_s)).open


# --- which cluster --------------------------------------------------------------------------------


def test_a_cluster_without_an_entry_is_not_restricted():
    other = parse_windows(windows('time = "22:00-02:00"'))
    assert verdict_for(other, ClusterRef("db", "test"), datetime(2026, 1, 15, tzinfo=UTC)) is None


def test_a_namespace_in_the_name_goes_first():
    text = (
        windows('time = "00:00-24:00"') + '["db/prod"]\n[["db/prod".windows]]\ntime = "1:00-2:00"'
    )
    assert not verdict(text, "2026-01-15T12:00:00").open


HOT, MASTER = "crate-data-hot-prod", "crate-master-prod"


def of_sets(text: str, *names: str, at: str = "2026-01-15T12:00:00"):
    """The verdict for pods of these StatefulSets."""
    return verdict_for(parse_windows(text), PROD, datetime.fromisoformat(f"{at}+00:00"), names)


@pytest.mark.parametrize("name", [HOT, f"db/{HOT}"])
def test_an_entry_under_the_name_of_its_statefulset_restricts_a_cluster(name):
    text = f'["{name}"]\n[["{name}".windows]]\ntime = "22:00-02:00"'
    assert not of_sets(text, HOT).open
    assert of_sets(text, HOT, at="2026-01-15T23:00:00").open
    assert of_sets(text, MASTER) is None


def test_the_clusters_own_entry_goes_before_one_of_its_statefulset():
    text = windows('time = "22:00-02:00"') + f'[{HOT}]\n[[{HOT}.windows]]\ntime = "00:00-24:00"'
    assert not of_sets(text, HOT).open


@pytest.mark.parametrize(("at", "expected"), [("12", False), ("21", False), ("22", True)])
def test_where_two_statefulsets_have_windows_both_must_be_open(at, expected):
    text = (
        f'[{HOT}]\n[[{HOT}.windows]]\ntime = "20:00-23:00"\n'
        f'[{MASTER}]\n[[{MASTER}.windows]]\ntime = "22:00-24:00"'
    )
    assert of_sets(text, HOT, MASTER, at=f"2026-01-15T{at}:30:00").open is expected


# --- typing errors --------------------------------------------------------------------------------

BROKEN = {
    "no TOML": ("[prod", "is no TOML"),
    "an unknown key": (windows('time = "22:00-02:00"\nweekday = ["mon"]'), "weekday"),
    "an unknown key of the cluster": (
        '[prod]\ntimezon = "UTC"\n[[prod.windows]]\ntime = "1:00-2:00"',
        "prod.timezon",
    ),
    "no windows": ("[prod]\n", "at least one"),
    "an empty list of windows": ("[prod]\nwindows = []", "at least one"),
    "no table": ('prod = "22:00-02:00"', "a table"),
    "no time": (windows('description = "x"'), "None"),
    "a time without an end": (windows('time = "22:00"'), "'22:00'"),
    "an hour too many": (windows('time = "22:00-25:00"'), "25:00"),
    "past twenty-four": (windows('time = "22:00-24:01"'), "24:01"),
    "a start at twenty-four": (windows('time = "24:00-02:00"'), "24:00-02:00"),
    "sixty minutes": (windows('time = "22:60-23:00"'), "22:60"),
    "an empty window": (windows('time = "22:00-22:00"'), "22:00-22:00"),
    "a day of no week": (windows('time = "1:00-2:00"\nweekdays = ["mond"]'), "mond"),
    "no days": (windows('time = "1:00-2:00"\nweekdays = []'), "weekdays"),
    "days as text": (windows('time = "1:00-2:00"\nweekdays = "mon"'), "weekdays"),
    "an ordinal that is none": (windows('time = "1:00-2:00"\nordinal_days = ["2th tue"]'), "2th"),
    "an ordinal without a day": (windows('time = "1:00-2:00"\nordinal_days = ["last"]'), "last"),
    "no zone": (windows('time = "1:00-2:00"', zone="Mars/Base"), "Mars/Base"),
    "a zone outside the folder": (windows('time = "1:00-2:00"', zone="../../etc/passwd"), "passwd"),
    "an empty zone": (windows('time = "1:00-2:00"', zone=""), "timezone"),
    "negative minutes": (windows('time = "1:00-2:00"', least=-1), "min_window_duration"),
    "minutes as truth": (
        '[prod]\nmin_window_duration = true\n[[prod.windows]]\ntime = "1:00-2:00"',
        "min_window_duration",
    ),
    "a number as description": (windows('time = "1:00-2:00"\ndescription = 3'), "description"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_with_a_mistake_refuses_and_names_it(name):
    text, named = BROKEN[name]
    with pytest.raises(UnsafeError, match=r"^windows\.toml") as caught:
        parse_windows(text, "windows.toml")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value).partition(": ")[0]


@given(st.text(max_size=80))
def test_no_file_whatever_lets_through_by_accident(text):
    with contextlib.suppress(UnsafeError):
        parse_windows(text)


def test_the_example_of_the_page_is_understood():
    text = """
[cluster]
timezone = "UTC"
min_window_duration = 30
[[cluster.windows]]
time = "22:00-02:00"
weekdays = ["mon"]
ordinal_days = ["2nd tue", "last fri"]
description = "maintenance"
"""
    now = datetime(2026, 1, 12, 23, tzinfo=UTC)
    found = verdict_for(parse_windows(text), ClusterRef("x", "cluster"), now)
    assert found is not None
    assert found.open
