"""CrateDB has no master for 40 s: longer than a read is tried, and no reason to lose a replica.

The waits are those that ship; only the seconds are shorter, the lab's and ours alike.
"""

from __future__ import annotations

import time

import pytest

from caretaker.translog.outcome import ResetOutcome
from lab.cratedb import LabCrateDB
from lab.faults import Action
from ops.translog_config import TranslogResetConfig
from resources.clock import Clock
from tests.world import NUDGE, SHORT

#: Seconds of the lab in one of ours.
SPEED = 60.0

OUTAGE_S = 40.0
AS_SHIPPED = TranslogResetConfig().model_dump(include=set(SHORT))

COMPLETED, FAILED_RESTORED = ResetOutcome.COMPLETED, ResetOutcome.FAILED_RESTORED


@pytest.fixture
def lab():
    with LabCrateDB(nodes=3, speed=SPEED) as running:
        yield running


@pytest.fixture
def world(world, monkeypatch):
    """A reset whose seconds are the lab's."""
    lab_time = Clock(
        monotonic=world.lab.clock.now, sleep=lambda s: time.sleep(world.lab.clock.real(s))
    )
    monkeypatch.setattr("ops.translog_run.Clock", lambda: lab_time)
    # Not in the lab's seconds: the lab answers in time, and whoever waits for one second only gives
    # up on a machine that is busy.
    world.statement_timeout_s = 60
    return world


def no_master(world, seconds):
    """Reads are answered, changes wait for 30 s and are answered with 503."""
    world.lab.drop_master(seconds)


def nothing_but_503(world, seconds):
    """As seen right after an election that failed: reads, too."""
    rule = world.fault("", Action.ERROR)
    with world.lab.world.lock:
        world.lab.world.after(seconds, lambda: world.lab.faults.remove(rule.id))


OUTAGES = pytest.mark.parametrize("outage", [no_master, nothing_but_503])


@OUTAGES
def test_it_is_lost_as_the_zero_arrives(world, outage):
    """Nobody knows whether the 0 will land, so the original is sent until it is acknowledged."""
    table = world.table("doc.metrics", replicas="1")
    world.on_zero("error", before=lambda _: outage(world, OUTAGE_S))

    run = world.reset(**AS_SHIPPED)

    assert (run.outcome, run.exit_code) == (FAILED_RESTORED, 2)
    assert table.number_of_replicas == "1"
    sent = [replicas for _, replicas in world.altered]
    assert (sent[0], set(sent[1:])) == ("0", {"1"})
    assert world.changes[-1].applied
    assert world.open_tickets == []


@OUTAGES
def test_it_is_lost_during_the_wait(world, outage):
    """What cannot be looked at is looked at again; the wait is not given up for it."""
    table = world.table("doc.metrics", leases_stuck=True)

    def lost(_):
        outage(world, OUTAGE_S)
        with world.lab.world.lock:
            world.lab.world.after(60, lambda: setattr(table, "leases_stuck", False))

    world.fault(NUDGE, times=1, after=lost)

    run = world.reset(**AS_SHIPPED)

    assert (run.outcome, run.exit_code) == (COMPLETED, 0)
    assert world.altered == [('"doc"."metrics"', "0"), ('"doc"."metrics"', "0-1")]
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])
    assert run.result.lease_wait_s >= OUTAGE_S


@OUTAGES
def test_it_is_lost_as_the_restore_arrives(world, outage):
    """Longer than a read's three tries, 5 s apart: the restore has a back-off of its own."""
    table = world.table("doc.metrics", replicas="0-all")
    world.on_restore("error", times=1, before=lambda _: outage(world, OUTAGE_S))

    run = world.reset(**AS_SHIPPED)

    assert (run.outcome, run.exit_code) == (COMPLETED, 0)
    assert (table.number_of_replicas, world.open_tickets) == ("0-all", [])
    assert run.result.final_replicas == "0-all"
    assert world.said("critical") == []


@OUTAGES
def test_it_is_lost_while_the_replicas_come_back(world, outage):
    """The text is back already; that is not lost again."""
    table = world.table("doc.metrics", shards=1)
    world.on_restore(times=1, after=lambda _: outage(world, OUTAGE_S))

    run = world.reset(**AS_SHIPPED)

    assert run.outcome is COMPLETED
    assert run.outcome in {COMPLETED, FAILED_RESTORED}
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])
    assert world.said("critical") == []


def test_before_the_ticket_it_is_a_reason_not_to_begin(world):
    world.table("doc.metrics", sick_mb=1300)
    second = world.table("doc.second")
    world.on_restore(times=1, after=lambda _: world.lab.drop_master())

    run = world.reset(**AS_SHIPPED)

    assert run.outcomes == {"doc.metrics": COMPLETED, "doc.second": ResetOutcome.SKIPPED}
    assert "no master" in world.said("preflight_refused")[0]["reason"]
    assert (run.exit_code, second.number_of_replicas) == (3, "0-1")
    assert {name for name, _ in world.altered} == {'"doc"."metrics"'}


def test_a_master_that_stays_away_is_for_a_human_and_the_promise_is_kept_after_it(world):
    table = world.table("doc.metrics", replicas="1")
    world.on_restore(times=1, before=lambda _: world.lab.drop_master())

    run = world.reset(**AS_SHIPPED | {"restore_timeout_s": 60})

    assert (run.outcome, run.exit_code) == (ResetOutcome.NOT_RESTORED, 4)
    (ticket,) = world.open_tickets
    assert ticket.original_replicas == "1"

    world.lab.elect_master()
    assert world.restore().exit_code == 0
    assert (table.number_of_replicas, world.open_tickets) == ("1", [])
