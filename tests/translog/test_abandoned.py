"""Tickets of runs that are gone, in every way that a run can be gone: each is seen to its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from caretaker.errors import TransientError
from caretaker.translog.model import TableRef
from caretaker.translog.outcome import ResetOutcome
from lab.faults import Action
from ops import guard, translog_run
from ops.reset import Reset
from tests.translog.abandoned import GONE, forgotten, left_at_zero, reset_of_the_environment
from tests.translog.steps import STEPS, hands_in, journey_to
from tests.world import NUDGE, SHORT

COMPLETED, SKIPPED = ResetOutcome.COMPLETED, ResetOutcome.SKIPPED
NOT_RESTORED, FAILED_RESTORED = ResetOutcome.NOT_RESTORED, ResetOutcome.FAILED_RESTORED
CHANGED_UNDERNEATH = ResetOutcome.CHANGED_UNDERNEATH


@pytest.mark.parametrize("by_number", [True, False], ids=["by number", "whoever is dead"])
def test_a_silent_run_that_dagster_shows_at_work_is_taken_over(world, by_number):
    """Its machine is gone, and nobody told Dagster: it says STARTED for ever."""

    @dg.job(name="translog_reset")
    def stub() -> None:
        pass

    ghost = world._instance.create_run_for_job(stub, status=dg.DagsterRunStatus.STARTED)
    owner = type(GONE)(ghost.run_id, GONE.host, GONE.pid, GONE.boot_id)
    table = left_at_zero(world, "metrics", owner=owner)

    run = world.restore(**({"ticket_ids": [1]} if by_number else {}))

    assert (run.success, run.exit_code) == (True, 0)
    assert (table.number_of_replicas, world.open_tickets) == ("1", [])


def test_a_ticket_of_another_cluster_is_refused_by_name(world):
    world.table("doc.metrics", replicas="0")
    forgotten(world, "metrics", cluster_id="the-old-cluster", zero_sent=True)

    run = world.restore(ticket_ids=[1])

    assert not run.success
    assert "is of cluster the-old-cluster" in run.failure
    assert (world.altered, len(world.open_tickets)) == ([], 1)


def test_no_table_waits_at_zero_while_another_is_only_watched(world):
    """Every table is restored before the first is verified, which takes minutes."""
    tables = [left_at_zero(world, name) for name in ("a", "b", "c")]
    closed_before = []
    world.fault("^ALTER", before=lambda _: closed_before.append(len(world.recorded)))

    run = world.restore()

    assert run.exit_code == 0
    assert closed_before == [0, 0, 0]
    assert [table.number_of_replicas for table in tables] == ["1", "1", "1"]


def test_a_table_that_was_never_touched_is_not_counted_as_tried(world):
    """Killed between the ticket and the first ALTER, three times: it is not set aside for that."""
    table = world.table("doc.metrics", replicas="1")
    for _ in range(3):
        forgotten(world, "metrics")
        assert world.restore().outcome is SKIPPED

    assert world.altered == []
    assert world.reset().outcome is COMPLETED
    assert table.number_of_replicas == "1"


def test_a_table_that_is_dropped_calls_for_a_human_once_and_blocks_nobody_for_ever(world):
    """The second look settles it: the master's word, to a user who sees everything."""
    world.table("doc.metrics", sick_mb=1500)
    world.table("doc.other")
    world.on_zero(after=lambda _: world.lab.sql("DROP TABLE doc.metrics"))

    assert world.reset().outcomes["doc.metrics"] is NOT_RESTORED
    restored = world.restore()

    assert (restored.outcome, restored.exit_code) == (CHANGED_UNDERNEATH, 0)
    assert (restored.result.reason, world.open_tickets) == ("dropped meanwhile", [])
    assert world.reset(retry_after_s=0).outcomes == {"doc.other": COMPLETED}


def hidden(world, _table):
    world.lab.create_user("caretaker", None, "DQL ON SCHEMA sys")
    world.user = "caretaker"


def renamed(world, table):
    """As `ALTER TABLE ... RENAME TO` leaves it."""
    table.drop()
    world.table("doc.new_name", shards=1, replicas="0")


@pytest.mark.parametrize("vanishes", [hidden, renamed])
def test_a_table_that_only_looks_dropped_goes_on_calling_for_a_human(world, vanishes):
    table = left_at_zero(world, "metrics", attempts=3)
    vanishes(world, table)

    run = world.restore()

    assert (run.outcome, run.exit_code) == (NOT_RESTORED, 4)
    assert [ticket.attempts for ticket in world.open_tickets] == [4]


def test_a_takeover_forgets_when_the_last_one_wanted_to_try_again(world):
    """Should it die, too, nobody waits for a moment that was meant for somebody else."""
    left_at_zero(world, "metrics", next_try_at=datetime.now(UTC) + timedelta(hours=1))
    (ticket,) = world.open_tickets

    taken = world.store.take_over(ticket, GONE)

    assert taken.next_try_at is None
    assert world.store.ticket(1).next_try_at is None


def test_a_table_that_cannot_be_watched_is_tried_again_in_a_moment_and_not_at_once(world):
    """An unanswered SET to 0 has to be watched; where that fails, the ticket says until when."""
    table = left_at_zero(world, "metrics", zero_acknowledged=False, zero_confirmed=False)
    world.fault("sys.shards", Action.ERROR, status=400, code=4000, message="no")
    before = datetime.now(UTC)

    run = world.restore()

    assert (run.outcome, run.exit_code, run.success) == (FAILED_RESTORED, 3, False)
    (ticket,) = world.open_tickets
    assert ticket.next_try_at >= before + timedelta(seconds=30)
    assert "its ticket stays open" in ticket.reason
    assert table.number_of_replicas == "1"

    world.lab.faults.clear()
    assert world.restore().exit_code == 0
    assert world.open_tickets == []


def taken_away(world):
    (ticket,) = world.open_tickets
    world.store.take_over(ticket, GONE)


def test_a_run_that_was_relieved_tells_what_it_last_saw_of_its_table(world):
    """Exit code 4 where it was at 0: nobody here can say that it will be restored."""
    world.table("doc.metrics", replicas="1", leases_stuck=True)
    world.fault(NUDGE, times=1, after=lambda _: taken_away(world))

    run = world.reset()

    assert (run.outcome, run.exit_code) == (NOT_RESTORED, 4)
    assert (run.result.final_replicas, len(world.open_tickets)) == ("0", 1)
    assert "taken over" in run.result.reason


def test_a_run_that_was_relieved_of_a_table_with_its_replicas_says_that(world):
    table = world.table("doc.metrics", replicas="1", leases_stuck=True)

    def relieved(_):
        taken_away(world)
        table.set_replicas("1")

    world.fault(NUDGE, times=1, after=relieved)

    run = world.reset()

    assert (run.outcome, run.exit_code) == (FAILED_RESTORED, 2)
    assert run.result.final_replicas == "1"


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda step: step.__name__)
def test_no_step_carries_on_with_the_ticket_of_another_run(world, step):
    world.table("doc.metrics", replicas="1")
    with hands_in(world) as hands:
        journey = Reset(hands, journey_to(world, TableRef("doc", "metrics"))).remember()
        hands.owner = type(GONE)("run-executed-again", *_but_the_run(hands.owner))
        journey = step(Reset(hands, journey))

    assert "cannot carry on; run: caretaker tickets restore 1" in journey.result.reason
    assert (world.altered, len(world.open_tickets)) == ([], 1)


def _but_the_run(owner):
    return owner.host, owner.pid, owner.boot_id


def test_re_executing_a_run_from_its_failure_takes_no_replica_away(world, monkeypatch):
    """Hours later nobody has checked the cluster, and nobody holds its lock."""
    table = world.table("doc.metrics", replicas="1")
    monkeypatch.setenv("CRATE_CONNECTION_STRING", world.lab.connection_string)
    monkeypatch.setenv("CARETAKER_STATE_URL", world.store_url)
    broken = [True]

    def heartbeat(*arguments, **options):
        if broken and world.open_tickets:
            raise TransientError("the process is gone, says the test")
        return real(*arguments, **options)

    real = guard.heartbeat
    monkeypatch.setattr(translog_run, "heartbeat", heartbeat)
    job = dg.reconstructable(reset_of_the_environment)
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        options: dict[str, Any] = {
            "instance": instance,
            "run_config": SHORT,
            "raise_on_error": False,
        }
        first = dg.execute_job(job, **options)
        assert (first.success, len(world.open_tickets)) == (False, 1)
        broken.clear()
        world.lab.start_snapshot()
        again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        second = dg.execute_job(job, reexecution_options=again, **options)

    assert not second.success
    assert second.run_id != first.run_id
    assert (world.altered, table.number_of_replicas) == ([], "1")
    assert len(world.open_tickets) == 1
