"""The signature test of the house: stop a reset after any step, plan again, and arrive."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.translog.model import ResetState
from caretaker.translog.plan import (
    AwaitLeases,
    AwaitReplicas,
    Flush,
    SetReplicas,
    owes_a_restore,
    plan_reset,
)
from tests.translog.observed import METRICS, primary, table, ticket
from tests.translog.simulated import Fate, Paper

TEXTS = ["0-1", "1", "2", "0-all", "1-2", "1-all"]

#: More steps than any reset takes.
MANY = 20

texts = st.sampled_from(TEXTS)
fates = st.sampled_from(Fate)

#: What a ticket may know of its SET to 0, and the state it is then in.
KNOWLEDGE = {
    "nothing sent": {},
    "sent": {"zero_sent": True, "state": ResetState.SETTING_REPLICAS_ZERO},
    "acknowledged": {
        "zero_sent": True,
        "zero_acknowledged": True,
        "state": ResetState.SETTING_REPLICAS_ZERO,
    },
    "confirmed without an answer": {
        "zero_sent": True,
        "zero_confirmed": True,
        "state": ResetState.MONITORING_LEASES,
    },
    "confirmed": {
        "zero_sent": True,
        "zero_acknowledged": True,
        "zero_confirmed": True,
        "state": ResetState.MONITORING_LEASES,
    },
    "leases clear": {
        "zero_sent": True,
        "zero_acknowledged": True,
        "zero_confirmed": True,
        "leases_verdict": "clear",
        "state": ResetState.MONITORING_LEASES,
    },
    "restoring": {
        "zero_sent": True,
        "zero_acknowledged": True,
        "zero_confirmed": True,
        "leases_verdict": "timed_out",
        "state": ResetState.RESTORING_REPLICAS,
    },
    "restore given up": {
        "zero_sent": True,
        "zero_acknowledged": True,
        "zero_confirmed": True,
        "state": ResetState.FAILED,
    },
}


def fresh(original="0-1", fate=Fate.ANSWERED, *, nudge=True):
    return Paper(ticket(original_replicas=original), original, fate, nudge)


def arrived(paper, original):
    """Nothing is owed, nothing is left to do, and the original was the last word."""
    assert paper.closed
    assert paper.replicas == original
    assert paper.lands_in is None
    assert paper.zeros <= 1
    assert not paper.sent or paper.sent[-1] == original
    assert list(plan_reset(paper.now, paper.ticket)) == []
    assert not owes_a_restore(paper.now, paper.ticket)


@pytest.mark.parametrize("original", TEXTS)
@pytest.mark.parametrize("fate", Fate)
@pytest.mark.parametrize("nudge", [True, False])
def test_a_reset_arrives_from_wherever_it_stopped(original, fate, nudge):
    """After every number of steps there is, until one run needs no second."""
    for interrupted_after in range(MANY):
        paper = fresh(original, fate, nudge=nudge)
        finished = paper.run(interrupted_after)
        paper.run()
        arrived(paper, original)
        if finished:
            break
    else:
        pytest.fail("it never came to its end")


@given(texts, fates, st.booleans(), st.lists(st.integers(0, 8), max_size=8))
def test_it_arrives_however_often_it_is_stopped(original, fate, nudge, stops):
    paper = fresh(original, fate, nudge=nudge)
    for steps in stops:
        paper.run(steps)
    paper.run()
    arrived(paper, original)


@given(
    original=texts,
    knowledge=st.sampled_from(sorted(KNOWLEDGE)),
    at_zero=st.booleans(),
    stops=st.lists(st.integers(0, 6), max_size=5),
)
def test_it_arrives_from_everything_a_ticket_can_know(original, knowledge, at_zero, stops):
    """Whether the catalog shows the original or 0 when the next run looks."""
    known = KNOWLEDGE[knowledge]
    at_zero = at_zero and bool(known)
    paper = Paper(ticket(original_replicas=original, **known), "0" if at_zero else original)
    for steps in stops:
        paper.run(steps)
    paper.run()
    arrived(paper, original)
    assert paper.zeros <= (0 if known else 1)


@given(
    original=texts,
    foreign=st.sampled_from(["3", "0-2", "0-0", "2-all"]),
    knowledge=st.sampled_from(sorted(KNOWLEDGE)),
    stops=st.lists(st.integers(0, 6), max_size=5),
)
def test_what_somebody_else_has_set_is_never_overwritten(original, foreign, knowledge, stops):
    paper = Paper(ticket(original_replicas=original, **KNOWLEDGE[knowledge]), foreign)
    for steps in stops:
        paper.run(steps)
    paper.run()
    assert paper.sent == []
    assert paper.replicas == foreign
    assert paper.ticket.state is ResetState.FAILED


@given(
    original=texts,
    fate=st.sampled_from([Fate.ANSWERED, Fate.SILENT]),
    before=st.integers(0, 12),
    foreign=st.sampled_from(["3", "0-2"]),
)
def test_what_somebody_else_sets_on_the_way_stays(original, fate, before, foreign):
    paper = fresh(original, fate)
    paper.run(before)
    sent_by_then = list(paper.sent)
    paper.replicas = foreign
    paper.run()
    assert paper.replicas == foreign
    assert paper.sent == sent_by_then


def test_a_table_set_to_zero_by_somebody_else_is_not_ours_to_restore():
    """Nothing was sent: the 0 in the catalog is another's decision."""
    paper = Paper(ticket(), "0")
    paper.run()
    assert (paper.sent, paper.replicas) == ([], "0")


def test_the_whole_plan_is_what_a_dry_run_prints():
    now, fresh_ticket = table(primary(), number_of_replicas="2"), ticket(original_replicas="2")
    assert list(plan_reset(now, fresh_ticket)) == [
        SetReplicas(METRICS, "0"),
        Flush(METRICS),
        AwaitLeases(METRICS),
        SetReplicas(METRICS, "2"),
        AwaitReplicas(METRICS),
    ]
    assert Flush(METRICS) not in plan_reset(now, fresh_ticket, nudge=False)


@pytest.mark.parametrize("knowledge", sorted(KNOWLEDGE))
def test_a_table_that_is_no_longer_shown_is_owed_what_was_taken(knowledge):
    """Dropped and "privilege removed" look alike, and only a person can tell them apart."""
    known = ticket(**KNOWLEDGE[knowledge])
    assert owes_a_restore(None, known) is known.zero_sent


def test_an_unanswered_zero_is_followed_by_the_original_even_where_nothing_shows():
    unknown = ticket(zero_sent=True, state=ResetState.SETTING_REPLICAS_ZERO)
    now = table(primary(), number_of_replicas="0-1")
    assert SetReplicas(METRICS, "0-1") in plan_reset(now, unknown)
    answered = replace(unknown, zero_acknowledged=True)
    assert SetReplicas(METRICS, "0-1") not in plan_reset(now, answered)
