"""What a saw-tooth of sizes says about the hours that are left, and when it says nothing."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caretaker.translog.trend import Course, about, growth_per_hour, outlook, teeth

NOW = datetime(2026, 1, 15, tzinfo=UTC)
MIB = 2**20
THRESHOLD = 563 * MIB


def hourly(values, until=NOW):
    """Sizes in MiB, a look an hour, the last one now."""
    began = until - timedelta(hours=len(values) - 1)
    return [(began + timedelta(hours=n), round(size * MIB)) for n, size in enumerate(values)]


def seen(values):
    """The outlook of a table with a threshold of 563 MiB that was looked at every hour."""
    *before, now = hourly(values)
    return outlook(before, now, THRESHOLD)


@given(
    now=st.floats(60, 560),
    per_hour=st.floats(1, 300),
    looks=st.integers(4, 100),
)
def test_a_steady_growth_crosses_when_arithmetic_says(now, per_hour, looks):
    values = [now - per_hour * ago for ago in reversed(range(looks))]
    assume(values[0] >= 0)
    hours = (563 - now) / per_hour

    found = seen(values)

    if hours > 7 * 24:
        assert (found.course, found.hours_left) == (Course.SLOW, None)
    else:
        assert found.course is Course.CROSSES
        assert found.hours_left == pytest.approx(hours, rel=0.01, abs=0.01)


@given(
    peak=st.floats(600, 3000),
    before=st.integers(2, 40),
    per_hour=st.floats(5, 60),
    looks=st.integers(4, 9),
)
def test_growth_after_a_reset_is_not_averaged_with_the_time_before(peak, before, per_hour, looks):
    tooth = [per_hour * (n + 1) for n in range(looks)]
    assume(tooth[-1] < 560)
    steep = [peak * (n + 1) / before for n in range(before)]

    found = seen([*steep, *tooth])

    assert found.course is Course.CROSSES
    assert found.growth_per_hour == pytest.approx(per_hour * MIB, rel=1e-3)
    assert found.hours_left == pytest.approx((563 - tooth[-1]) / per_hour, rel=0.01, abs=0.01)


def test_a_fall_of_which_nobody_saw_the_bottom_begins_anew():
    assert seen([100, 400, 700, 1300, 90, 120, 150, 180]).hours_left == pytest.approx(
        (563 - 180) / 30
    )


@given(st.floats(60, 560), st.integers(4, 100))
def test_a_flat_table_is_not_predicted(size, looks):
    found = seen([size] * looks)
    assert (found.course, found.hours_left) == (Course.STEADY, None)


def test_a_flat_table_whose_numbers_waver_is_hardly_ever_predicted():
    """Near its threshold, where little is enough; of a thousand tables a dozen, not fifty."""
    chance = random.Random(20260115)  # noqa: S311 - the same every time
    found = [
        seen([500 * chance.gauss(1, 0.05) for _ in range(chance.randrange(4, 60))]).course
        for _ in range(2000)
    ]
    assert found.count(Course.CROSSES) < 2000 * 0.013


def test_growth_is_seen_through_numbers_that_waver():
    chance = random.Random(20260115)  # noqa: S311 - the same every time
    for _ in range(200):
        looks, per_hour = chance.randrange(10, 24), chance.uniform(10, 20)
        values = [60 + per_hour * n + chance.gauss(0, 8) for n in range(looks)]
        found = seen(values)
        assert found.course is Course.CROSSES
        assert found.growth_per_hour == pytest.approx(per_hour * MIB, rel=0.35)


def test_one_odd_look_does_not_move_the_hour():
    values = [100.0 + 10 * n for n in range(20)]
    values[18] = 355.0
    assert seen(values).hours_left == pytest.approx((563 - 290) / 10, rel=0.02)


@given(st.lists(st.floats(0, 560), min_size=1, max_size=3))
def test_three_looks_are_too_few(values):
    found = seen(values)
    assert (found.course, found.growth_per_hour) == (Course.UNKNOWN, None)


@pytest.mark.parametrize(("minutes", "known"), [(9, False), (10, True)])
def test_looks_within_ten_minutes_are_no_trend(minutes, known):
    looks = [(NOW + timedelta(minutes=minutes * n / 5), 100 * MIB + n * MIB) for n in range(6)]
    assert (growth_per_hour(looks) is not None) is known


def test_a_look_every_minute_for_a_while_does_not_outvote_the_hours_before():
    """Somebody watched it standing still for half an hour of a day on which it grew."""
    day = [(NOW - timedelta(hours=24 - n), (100 + 10 * n) * MIB) for n in range(24)]
    watched = [(NOW - timedelta(minutes=m), 335 * MIB) for m in range(30, 0, -1)]
    found = outlook([*day, *watched], (NOW, 340 * MIB), THRESHOLD)
    assert found.growth_per_hour == pytest.approx(10 * MIB, rel=0.1)


def test_what_was_days_ago_has_no_say():
    slow, fast = [100 + n for n in range(100)], [200 + 12 * n for n in range(1, 25)]
    assert seen([*slow, *fast]).growth_per_hour == pytest.approx(12 * MIB, rel=0.05)


@pytest.mark.parametrize(("peaks", "now"), [((500,), 300), ((480, 500, 430), 490)])
def test_a_table_that_flushes_itself_in_time_is_not_predicted(peaks, now):
    """Every healthy table grows to its flush threshold, and is never above it."""
    before = [size for peak in peaks for size in (100, 200, 300, peak)]
    found = seen([*before, *(now / 5 * n for n in range(1, 6))])
    assert (found.course, found.hours_left) == (Course.FLUSHES, None)


def test_one_that_grows_past_where_it_flushed_is_predicted():
    assert seen([100, 250, 400, 50, 150, 250, 350, 450]).course is Course.CROSSES


def test_one_that_had_to_be_reset_last_time_is_predicted_early():
    found = seen([100, 300, 500, 60, 400, 900, 1300, 10, 60, 110, 160])
    assert found.course is Course.CROSSES
    assert found.hours_left == pytest.approx((563 - 160) / 50)


def test_one_that_is_above_says_since_when():
    found = seen([300, 450, 600, 750, 900])
    assert (found.course, found.hours_left) == (Course.ABOVE, 0.0)
    assert found.above_since == NOW - timedelta(hours=2)
    assert found.seen_below


def test_one_that_was_never_seen_below_says_at_least():
    found = seen([700, 750, 900])
    assert found.above_since == NOW - timedelta(hours=2)
    assert not found.seen_below


def test_one_that_was_reset_and_is_above_again_does_not_count_from_before():
    found = seen([700, 900, 1300, 20, 300, 700])
    assert (found.above_since, found.seen_below) == (NOW, True)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=60))
def test_teeth_are_the_whole_saw(values):
    saw = hourly(values)
    cut = teeth(saw)
    assert [look for tooth in cut for look in tooth] == saw
    assert all(later[1] >= earlier[1] * 0.8 for tooth in cut for earlier, later in pairwise(tooth))


@given(st.floats(0.17, 7 * 24))
def test_a_time_ahead_is_near_the_truth_and_has_two_digits_at_most(hours):
    """Never "in 1 h 37 min": nobody knows that."""
    words = about(hours)
    number, unit = words.removeprefix("about ").split()
    assert float(number) * {"min": 1 / 60, "h": 1, "days": 24}[unit] == pytest.approx(
        hours, rel=0.3, abs=0.1
    )
    assert len(number.replace(".", "").rstrip("0")) <= 2
