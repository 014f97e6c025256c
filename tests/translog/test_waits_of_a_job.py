"""The wait at 0 replicas: however it ends, the replicas come back."""

from __future__ import annotations

import os
import signal

import pytest

from caretaker.translog.outcome import ResetOutcome
from tests.world import NUDGE

LEASES = "retention_leases"


def test_replicas_come_back_even_when_leases_never_clear(world):
    """A timeout costs the reset, not the redundancy."""
    table = world.table("doc.metrics", shards=4, replicas="1-2", leases_stuck=True)

    run = world.reset(max_wait_s=0.3)

    assert not run.success
    assert (run.outcome, run.exit_code) == (ResetOutcome.LEASES_TIMED_OUT, 2)
    assert table.number_of_replicas == "1-2"
    assert world.open_tickets == []


def test_a_timeout_says_what_was_there_what_was_wanted_and_what_may_help(world):
    world.table("doc.metrics", shards=4, leases_stuck=True)

    run = world.reset(max_wait_s=0.3)

    for words in ("8 now, 4 wanted", "back to '0-1'", "every 30 s since 6.0", "5 min"):
        assert words in run.result.reason
    assert world.recorded[0].reason == run.result.reason
    assert run.result.lease_wait_s >= 0.3


def test_the_last_look_is_at_the_deadline(world):
    world.table("doc.metrics", leases_stuck=True)

    world.reset(max_wait_s=0.25, wait_ladder_s=[0.1])

    looks = world.said("leases")
    assert [(look["attempt"], look["attempts"]) for look in looks] == [
        (1, 4),
        (2, 4),
        (3, 4),
        (4, 4),
    ]
    pauses = [look.get("next_look_s") for look in looks]
    assert pauses == [0.1, 0.1, pytest.approx(0.05), None]


def test_a_table_that_clears_at_the_deadline_is_completed(world):
    """The nudge is lost, and the tick comes after the first look and before the only other one."""
    table = world.table("doc.metrics", leases_stuck=True)
    world.fault(NUDGE, "error", status=400, code=4000)

    def clear_from_the_next_tick_on(_):
        table.leases_stuck = table.number_of_replicas != "0"

    world.fault(r"retention_leases\['leases'\]", after=clear_from_the_next_tick_on)

    run = world.reset(max_wait_s=2.0, wait_ladder_s=[60])

    assert run.outcome is ResetOutcome.COMPLETED
    assert len(world.said("leases")) == 2
    assert table.number_of_replicas == "0-1"


def test_a_primary_lost_during_the_wait_ends_it_at_once(world):
    """Minutes more at 0 replicas would help nobody."""
    table = world.table("doc.metrics", shards=4, leases_stuck=True)
    world.fault(NUDGE, after=lambda _: table.lose_primary(0))

    run = world.reset(max_wait_s=600, wait_ladder_s=[600])

    assert (run.outcome, run.exit_code) == (ResetOutcome.PRIMARY_LOST, 2)
    assert "primary lost while replicas were 0: 1 of 4" in run.result.reason
    assert table.number_of_replicas == "0-1"
    assert world.open_tickets == []


def test_a_lost_primary_of_one_table_keeps_the_next_from_being_touched(world):
    first = world.table("doc.first", sick_mb=1300)
    world.table("doc.second")
    world.fault(NUDGE, after=lambda _: first.lose_primary(0))

    run = world.reset()

    assert run.outcomes == {
        "doc.first": ResetOutcome.PRIMARY_LOST,
        "doc.second": ResetOutcome.SKIPPED,
    }
    assert {table for table, _ in world.altered} == {'"doc"."first"'}
    assert world.said("preflight_refused")[0]["table"] == "doc.second"


def test_leases_that_cannot_be_read_any_more_end_the_wait(world):
    table = world.table("doc.metrics", leases_stuck=True)
    world.fault(LEASES, "error", after_matches=4, times=1, status=400, code=4000, message="no")

    run = world.reset(max_wait_s=600)

    assert run.outcome is ResetOutcome.FAILED_RESTORED
    assert "cannot be read any more" in run.result.reason
    assert table.number_of_replicas == "0-1"


def test_a_wait_that_is_stopped_puts_the_table_back(world):
    """What Dagster raises on a termination in the UI, SIGTERM or Ctrl-C."""
    first = world.table("doc.first", sick_mb=1300, leases_stuck=True, replicas="0-all")
    second = world.table("doc.second")
    world.fault(
        LEASES, after_matches=6, times=1, after=lambda _: os.kill(os.getpid(), signal.SIGINT)
    )

    run = world.reset(max_wait_s=60)

    assert not run.success
    assert (first.number_of_replicas, second.number_of_replicas) == ("0-all", "0-1")
    assert world.altered == [('"doc"."first"', "0"), ('"doc"."first"', "0-all")]
    (recorded,) = world.recorded
    assert (recorded.outcome, recorded.reason) == ("FAILED_RESTORED", "the run was stopped")
    assert world.open_tickets == []
    assert any("Rollback successful for doc.first" in note["reason"] for note in world.said("note"))
    # Its lock is nobody's any more.
    first.leases_stuck = False
    assert world.reset(retry_after_s=0).outcomes["doc.second"] is ResetOutcome.COMPLETED


def test_replicas_set_back_by_somebody_else_end_the_wait(world):
    table = world.table("doc.metrics", leases_stuck=True)
    world.fault(NUDGE, after=lambda _: table.set_replicas("0-1"))

    run = world.reset(max_wait_s=600)

    assert run.outcome is ResetOutcome.FAILED_RESTORED
    assert "number_of_replicas became '0-1'" in run.result.reason
    assert world.altered == [('"doc"."metrics"', "0")]


def test_replicas_changed_by_somebody_else_are_left_alone(world):
    table = world.table("doc.metrics", leases_stuck=True)
    world.fault(NUDGE, after=lambda _: table.set_replicas("2"))

    run = world.reset(max_wait_s=600)

    assert (run.outcome, run.exit_code) == (ResetOutcome.CHANGED_UNDERNEATH, 2)
    assert "'2'" in run.result.reason
    assert table.number_of_replicas == "2"
    assert world.altered == [('"doc"."metrics"', "0")]
    assert world.open_tickets == []


def test_replicas_changed_between_ticket_and_alter_are_left_alone(world):
    """Nothing was sent yet, and what was remembered is no longer so."""
    table = world.table("doc.metrics")

    def changed(_):
        if world.look_into_store("SELECT 1 FROM caretaker_tickets"):
            table.set_replicas("2")

    world.fault("information_schema.tables", before=changed)

    run = world.reset()

    assert run.outcome is ResetOutcome.CHANGED_UNDERNEATH
    assert (table.number_of_replicas, world.altered) == ("2", [])
