"""How long is waited, and when is looked."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.backoff import exponential, wait_ladder
from caretaker.translog.policy import DEFAULT_LADDER_S

RUNGS = [10, 15, 30, 45, 60, 90, 135, 200, 300, 450, 720]

seconds = st.integers(1, 1000)


def test_the_ladder_is_the_one_operators_settled_on():
    assert list(DEFAULT_LADDER_S) == RUNGS


def test_twelve_minutes_end_with_a_look_at_the_deadline():
    pauses = list(wait_ladder(DEFAULT_LADDER_S, 720))
    assert pauses == [10, 15, 30, 45, 60, 90, 135, 200, 135]
    assert sum(pauses) == 720


def test_past_the_last_rung_it_repeats():
    pauses = list(wait_ladder(DEFAULT_LADDER_S, sum(RUNGS) + 2 * 720 + 1))
    assert pauses == [*RUNGS, 720, 720, 1]


@pytest.mark.parametrize(("limit", "pauses"), [(0, []), (-1, []), (4, [4]), (10, [10])])
def test_a_short_limit_clips_the_first_rung(limit, pauses):
    assert list(wait_ladder(DEFAULT_LADDER_S, limit)) == pauses


@given(st.lists(seconds, min_size=1, max_size=12), st.integers(0, 20_000))
def test_every_ladder_waits_exactly_as_long_as_it_may(steps, limit):
    pauses = list(wait_ladder(steps, limit))
    assert sum(pauses) == limit
    assert all(pause > 0 for pause in pauses)
    endless = itertools.chain(steps, itertools.repeat(steps[-1]))
    whole = list(itertools.islice(endless, len(pauses)))
    assert pauses[:-1] == whole[: len(pauses) - 1]
    assert not pauses or pauses[-1] <= whole[-1]


@given(
    attempts=st.integers(1, 30),
    first=st.floats(0.1, 10),
    cap=st.floats(0.1, 100),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_back_off_doubles_up_to_its_cap_and_never_below_half(attempts, first, cap, jitter):
    pauses = list(exponential(attempts, first, cap, lambda: jitter))
    assert len(pauses) == attempts - 1
    for number, pause in enumerate(pauses):
        nominal = min(cap, first * 2**number)
        assert nominal / 2 <= pause <= nominal
