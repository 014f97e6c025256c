"""How a reset ended, and what a script is told of all of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.translog.model import ResetState
from caretaker.translog.outcome import (
    ResetOutcome,
    ResetResult,
    exit_code,
    outcome_of,
    summarise,
)
from tests.translog.observed import METRICS, ticket

DONE, SKIPPED, STUCK = ResetOutcome.COMPLETED, ResetOutcome.SKIPPED, ResetOutcome.NOT_RESTORED
FAILURES = sorted(set(ResetOutcome) - {DONE, SKIPPED, STUCK})


def result(outcome, *, left_undone=False, degraded=False):
    return ResetResult(
        METRICS, ResetState.DETECTED, outcome, left_undone=left_undone, degraded=degraded
    )


UNDONE = result(SKIPPED, left_undone=True)
PLANNED = result(None)


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([], 0),
        ([PLANNED], 0),
        ([result(DONE)], 0),
        ([result(DONE, degraded=True), result(SKIPPED)], 0),
        ([result(SKIPPED)], 0),
        ([UNDONE], 1),
        ([UNDONE, result(SKIPPED)], 1),
        *(([result(failure)], 2) for failure in FAILURES),
        ([result(failure) for failure in FAILURES], 2),
        ([result(FAILURES[0]), result(SKIPPED)], 2),
        *(([result(DONE), result(failure)], 3) for failure in FAILURES),
        ([result(DONE), UNDONE], 3),
        ([result(STUCK)], 4),
        ([result(STUCK), result(DONE), UNDONE, result(FAILURES[0])], 4),
    ],
)
def test_the_exit_code_says(results, code):
    assert exit_code(results) == code


def test_all_that_were_tried_failed_however_many_were_not_tried():
    """2 is about those that were tried; the report names those that were not."""
    assert exit_code([result(ResetOutcome.LEASES_TIMED_OUT), UNDONE]) == 2


possible = st.builds(
    result,
    st.none() | st.sampled_from(ResetOutcome),
    left_undone=st.booleans(),
    degraded=st.booleans(),
)


@given(st.lists(possible, max_size=6), st.randoms())
def test_a_table_without_its_replicas_wins_whatever_else_happened(results, random):
    results.append(result(STUCK))
    random.shuffle(results)
    assert exit_code(results) == 4


@given(st.lists(possible, max_size=5))
def test_the_order_of_tables_and_being_degraded_do_not_matter(results):
    code = exit_code(results)
    assert {exit_code(order) for order in itertools.permutations(results)} == {code}


@given(st.lists(possible, max_size=6))
def test_only_a_run_without_failure_and_leftovers_is_a_success(results):
    clean = not any(one.failed or one.left_undone for one in results)
    assert (exit_code(results) == 0) == clean


def test_the_summary_counts_each_table_once():
    summary = summarise(
        [result(DONE), result(STUCK), result(FAILURES[0]), result(SKIPPED), UNDONE, PLANNED]
    )
    assert (summary.found, summary.attempted, summary.completed) == (6, 3, 1)
    assert (summary.failed, summary.not_restored, summary.skipped) == (2, 1, 1)


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        ("clear", ResetOutcome.COMPLETED),
        ("timed_out", ResetOutcome.LEASES_TIMED_OUT),
        ("primary_lost", ResetOutcome.PRIMARY_LOST),
        ("unreadable", ResetOutcome.FAILED_RESTORED),
        ("orphaned", ResetOutcome.FAILED_RESTORED),
        ("changed", ResetOutcome.FAILED_RESTORED),
        ("", ResetOutcome.FAILED_RESTORED),
    ],
)
def test_a_table_that_has_its_replicas_back_ended_as_its_wait_did(verdict, outcome):
    assert outcome_of(ticket(leases_verdict=verdict)) is outcome
