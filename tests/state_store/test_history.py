"""Audit, outcomes and samples: what was sent, how it ended, and what detection asks of that."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from caretaker.errors import RefusedError
from caretaker.translog.model import PartitionRef, ResetState, TableRef
from caretaker.translog.outcome import ResetOutcome, ResetResult
from resources.state_store import OutcomeRow

METRICS = TableRef("doc", "metrics")
KEY = ("doc", "metrics", "")


@pytest.fixture
def reset(store, clock, new_ticket):
    """Carry a table through a reset that ends as told, an hour after the last."""

    def run(outcome, *, degraded=False, table=METRICS):
        clock.pass_(3600)
        ticket = store.open_ticket(new_ticket(table))
        row = OutcomeRow.of_ticket(
            ticket, outcome=outcome, ended_at=clock(), final_replicas="0-1", degraded=degraded
        )
        return store.close_ticket(ticket, row)

    return run


def test_a_statement_is_on_record_before_its_answer(store, clock, new_ticket):
    ticket = store.open_ticket(new_ticket())
    first = store.begin_statement(ticket, 'ALTER TABLE "doc"."metrics" SET (x = 0)')
    [sent] = store.statements(ticket.id)
    assert (sent.sql_text, sent.began_at) == ('ALTER TABLE "doc"."metrics" SET (x = 0)', clock())
    assert (sent.run_id, sent.epoch, sent.ended_at, sent.result) == ("run-1", 1, None, None)

    at = clock.pass_(2)
    store.end_statement(first, "unknown", "no answer within 30 s\x00")
    second = store.begin_statement(ticket, "second")
    ended, running = store.statements(ticket.id)
    assert (ended.ended_at, ended.result, ended.error) == (
        at,
        "unknown",
        "no answer within 30 s\\x00",
    )
    assert (running.id, running.ended_at) == (second, None)


def test_an_answer_that_comes_after_a_takeover_is_still_recorded(store, new_ticket, owner):
    ticket = store.open_ticket(new_ticket())
    sent = store.begin_statement(ticket, "ALTER")
    store.take_over(ticket, owner("run-2"))
    store.end_statement(sent, "ok")
    assert store.statements(ticket.id)[0].result == "ok"


def test_every_field_of_an_outcome_comes_back(store, clock):
    result = ResetResult(
        PartitionRef(METRICS, "p1", (("ts", 1),)),
        ResetState.VERIFYING,
        ResetOutcome.COMPLETED,
        reason="why",
        cause="seq_no_gap",
        worst_bytes=2**40,
        threshold_bytes=5,
        original_replicas="0-1",
        final_replicas="0-all",
        degraded=True,
        lease_wait_s=0.1,
        duration_s=0.2,
        seconds_at_zero=0.3,
        started_at=clock(),
        ended_at=clock.pass_(1),
        statements=("a 'b'", "ü\n"),
    )
    stored = store.record_outcome("c1", "run-1", result)
    [read] = store.outcomes()
    assert read == stored
    for name in ResetResult.__slots__:
        if hasattr(read, name):
            assert getattr(read, name) == getattr(result, name), name
    assert (read.cluster_id, read.run_id, read.ticket_id) == ("c1", "run-1", None)


def test_a_dry_run_cannot_be_recorded(store):
    """Its results have no outcome: it writes nothing, and here it could not if it tried."""
    with pytest.raises(RefusedError):
        store.record_outcome("c1", "run-1", ResetResult(METRICS, ResetState.DETECTED, None))


def test_outcomes_are_newest_first_and_can_be_narrowed(store, clock, reset):
    first, second, third = (reset("COMPLETED", table=TableRef("doc", name)) for name in "abc")
    assert store.outcomes() == [third, second, first]
    assert store.outcomes(limit=1) == [third]
    assert store.outcomes(since=second.ended_at) == [third, second]
    assert store.outcomes("c1", clock.pass_(1)) == []
    assert store.outcomes("c2") == []


def test_failures_are_counted_since_the_last_cure(store, reset):
    for outcome in ("LEASES_TIMED_OUT", "COMPLETED", "FAILED_RESTORED", "PRIMARY_LOST"):
        last = reset(outcome)
    assert store.last_attempts("c1") == {KEY: (last.ended_at, 2)}
    assert store.last_attempts("c2") == {}


def test_a_degraded_completion_is_no_cure(store, reset):
    reset("LEASES_TIMED_OUT")
    reset("COMPLETED", degraded=True)
    assert store.last_attempts("c1")[KEY].uncured == 2


def test_what_was_skipped_or_refused_was_no_attempt(store, clock, reset):
    last = reset("FAILED_RESTORED")
    for outcome in (ResetOutcome.SKIPPED, ResetOutcome.REFUSED):
        clock.pass_(60)
        store.record_outcome("c1", "run-2", ResetResult(METRICS, ResetState.DETECTED, outcome))
    assert store.last_attempts("c1") == {KEY: (last.ended_at, 1)}


def test_partitions_are_counted_apart(store, reset):
    reset("FAILED_RESTORED")
    reset("FAILED_RESTORED", table=PartitionRef(METRICS, "p1", (("ts", 1),)))
    counted = store.last_attempts("c1")
    assert {key: seen.uncured for key, seen in counted.items()} == {KEY: 1, (*KEY[:2], "p1"): 1}


def test_an_operator_clears_the_count_but_not_the_cool_off(store, reset):
    for _ in range(3):
        last = reset("FAILED_RESTORED")
    store.clear_set_aside("c1", TableRef("doc", "another"))
    assert store.last_attempts("c1")[KEY].uncured == 3
    store.clear_set_aside("c1", METRICS)
    assert store.last_attempts("c1") == {KEY: (last.ended_at, 0)}
    reset("FAILED_RESTORED")
    assert store.last_attempts("c1")[KEY].uncured == 1
    store.clear_set_aside("c1", METRICS)
    assert store.last_attempts("c1")[KEY].uncured == 0


def test_seconds_without_replicas_are_from_read_back_to_read_back(new_ticket, clock):
    ticket = replace(
        new_ticket(), zeroed_at=clock.pass_(3), restored_at=clock() + timedelta(seconds=1.5)
    )
    row = OutcomeRow.of_ticket(
        ticket, outcome="COMPLETED", ended_at=clock.pass_(9), final_replicas="0-1"
    )
    assert (row.seconds_at_zero, row.duration_s) == (1.5, 12.0)


def test_samples_come_back_in_time_order_and_old_ones_go(store, clock):
    partition = PartitionRef(METRICS, "p1", (("ts", 1),))
    start = clock()
    store.add_samples("c1", clock.pass_(60), [(METRICS, 30, 10), (partition, 40, 10)])
    store.add_samples("c1", start, [(METRICS, 20, 10)])
    store.add_samples("c1", start, [(METRICS, 20, 10)])
    store.add_samples("c1", start, [])
    store.add_samples("c2", start, [(METRICS, 1, 1)])
    assert store.samples("c1", start) == [
        (METRICS, start, 20, 10),
        (METRICS, clock(), 30, 10),
        (partition, clock(), 40, 10),
    ]
    assert len(store.samples("c1", clock())) == 2
    assert store.prune_samples(clock()) == 2
    assert len(store.samples("c1", start)) == 2
