"""What a saw-tooth of sizes says about the hours that are left."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.translog.trend import growth_per_hour, hours_until, since_last_fall

BEGAN = datetime(2026, 1, 15, tzinfo=UTC)
MIB = 2**20

sizes = st.lists(st.integers(0, 2**43), min_size=1, max_size=60)


def hourly(values):
    return [(BEGAN + timedelta(hours=hour), value) for hour, value in enumerate(values)]


@given(st.integers(0, 2**40), st.integers(0, 2**34), st.integers(3, 200))
def test_a_straight_line_grows_by_its_slope(begin, per_hour, count):
    growth = growth_per_hour(hourly(begin + per_hour * hour for hour in range(count)))
    assert growth == pytest.approx(per_hour, rel=1e-6, abs=1e-3 + begin * 1e-9)


@given(sizes, st.integers(1, 2**30), st.integers(3, 20))
def test_what_was_before_the_last_fall_does_not_count(before, per_hour, count):
    tooth = [per_hour * hour for hour in range(count)]
    growth = growth_per_hour(hourly([*before, before[-1] + 1, *tooth]))
    assert growth == pytest.approx(per_hour, rel=1e-6)


@given(sizes)
def test_since_the_last_fall_a_size_never_shrinks(values):
    tooth = [size for _, size in since_last_fall(hourly(values))]
    assert tooth == sorted(tooth)
    assert values[-len(tooth) :] == tooth
    growth = growth_per_hour(hourly(values))
    assert growth is None or growth >= 0


@given(st.lists(st.integers(0, 2**40), max_size=2))
def test_two_samples_are_no_trend(values):
    assert growth_per_hour(hourly(values)) is None


@pytest.mark.parametrize(("minutes", "known"), [(9.9, False), (10, True)])
def test_less_than_ten_minutes_are_no_trend(minutes, known):
    times = [BEGAN, BEGAN + timedelta(minutes=minutes / 2), BEGAN + timedelta(minutes=minutes)]
    assert (growth_per_hour(list(zip(times, (1, 2, 3), strict=True))) is not None) is known


@given(st.integers(1, 2**45), st.integers(0, 2**45), st.floats(-1e9, 1e12) | st.none())
def test_the_hours_left_end_at_the_threshold(threshold, now, growth):
    hours = hours_until(threshold, now, growth)
    if now > threshold:
        assert hours == 0
    elif growth is None or growth <= 0:
        assert hours is None
    else:
        assert hours is not None
        assert hours >= 0
        assert now + growth * hours == pytest.approx(threshold) or math.isinf(hours)


def test_uneven_looks_are_weighed_by_when_they_were():
    """A run every minute for a while must not outvote the hours before."""
    samples = [(BEGAN + timedelta(minutes=m), m * MIB) for m in (0, 60, 61, 62, 63, 120)]
    assert growth_per_hour(samples) == pytest.approx(60 * MIB)
