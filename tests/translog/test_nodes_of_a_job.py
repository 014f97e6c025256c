"""A node leaves while a table is at 0 replicas, and returns."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome
from lab.faults import Action
from tests.world import NUDGE

COMPLETED, PRIMARY_LOST = ResetOutcome.COMPLETED, ResetOutcome.PRIMARY_LOST

LEASES = "retention_leases"


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    """A read is tried as often as ever, and not five seconds apart."""
    monkeypatch.setattr("resources.cratedb.retries.retrying.__defaults__", ((0.1, 0.1),))


def primaries_on(world, table):
    """Return the numbers of the nodes that hold a primary of the table."""
    holders = {row["node"]["name"] for row in table.shards if row["primary"]}
    return {number for number, name in enumerate(world.lab.nodes) if name in holders}


def is_seen_dead(world):
    """Live through the moment until the master has noticed."""
    world.lab.advance(1.0)


def test_a_node_with_the_only_copy_of_a_shard_ends_the_wait_and_the_text_is_back(world):
    """Copies of what is left are made at once, and the rest when the node returns."""
    table = world.table("doc.metrics", shards=3, replicas="1", leases_stuck=True)
    gone = []

    def crash(_):
        gone.append(max(primaries_on(world, table)))
        world.lab.crash(gone[0])
        is_seen_dead(world)

    world.fault(NUDGE, times=1, after=crash)

    run = world.reset(max_wait_s=600, wait_ladder_s=[600])

    assert (run.outcome, run.exit_code) == (PRIMARY_LOST, 2)
    assert "1 of 3 primaries unassigned" in run.result.reason
    assert (table.number_of_replicas, world.open_tickets) == ("1", [])

    world.lab.restart(gone[0])
    world.lab.advance(3)
    world.lab.advance(3)
    assert world.lab.sql("SELECT health FROM sys.cluster_health")["rows"] == [["GREEN"]]


def test_a_node_that_was_away_between_two_looks_costs_nothing(world):
    """UNASSIGNED, and back with its shard before anybody looked."""
    table = world.table("doc.metrics", shards=3, leases_stuck=True)

    def away(_):
        # Not the node that is asked: its client would go to another, and look, before this is over.
        number = max(primaries_on(world, table))
        world.lab.crash(number)
        is_seen_dead(world)
        assert any(row["routing_state"] == "UNASSIGNED" for row in table.shards)
        world.lab.restart(number)
        for _ in range(3):
            world.lab.advance(2)
        table.leases_stuck = False

    world.fault(NUDGE, times=1, after=away)

    run = world.reset()

    assert (run.outcome, run.exit_code) == (COMPLETED, 0)
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])


def test_a_node_without_a_primary_of_the_table_may_leave_and_return(world):
    """Its copies were taken away already; the wait goes on, and clears."""
    table = world.table("doc.metrics", shards=1, leases_stuck=True)
    looks: list[None] = []

    def leaves_and_returns(_):
        looks.append(None)
        (other, *_) = {0, 1, 2} - primaries_on(world, table)
        if len(looks) == 3:
            world.lab.crash(other)
            is_seen_dead(world)
        if len(looks) == 6:
            world.lab.restart(other)
            world.lab.advance(2)
            table.leases_stuck = False

    world.fault(NUDGE, after=lambda _: world.fault(LEASES, after=leaves_and_returns))

    run = world.reset(max_wait_s=60)

    assert run.outcome is COMPLETED
    assert len(looks) > 6
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])


@pytest.mark.parametrize("moment", ["during the wait", "as the restore arrives"])
def test_the_host_we_talk_to_dies_and_another_one_is_asked(world, moment):
    """Killed with all its connections; it holds no primary of the table."""
    table = world.table("doc.metrics", shards=1, replicas="1", leases_stuck=True)
    # Hosts are asked in this order as long as they answer.
    (other, *_) = {0, 1, 2} - primaries_on(world, table)
    for number in {0, 1, 2} - {other}:
        world.fault("", Action.REFUSE, node=number)
    dead = []

    def dies(entry):
        dead.append(entry.node)
        world.lab.faults.clear()
        table.leases_stuck = False
        world.lab.crash(other)
        is_seen_dead(world)

    if moment == "during the wait":
        world.fault(NUDGE, times=1, after=dies)
    else:
        table.leases_stuck = False
        world.on_restore(times=1, before=dies)

    run = world.reset()

    assert run.outcome is COMPLETED
    assert dead == [world.lab.nodes[other]]
    assert world.lab.journal[-1].node != dead[0]
    assert world.changes[-1].applied
    assert (table.number_of_replicas, world.open_tickets) == ("1", [])
