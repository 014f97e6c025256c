"""What is under reset is dropped, made anew or added to meanwhile.

Of a table only the name is known. A new one of that name is never taken to 0, keeps what its
maker gave it, and where that is 0 it gets the replicas of the old one: the side to err on.
"""

from __future__ import annotations

import pytest

from caretaker.translog.model import ResetState
from caretaker.translog.outcome import ResetOutcome
from tests.world import NUDGE

COMPLETED, SKIPPED = ResetOutcome.COMPLETED, ResetOutcome.SKIPPED
FAILED_RESTORED, NOT_RESTORED = ResetOutcome.FAILED_RESTORED, ResetOutcome.NOT_RESTORED
CHANGED_UNDERNEATH = ResetOutcome.CHANGED_UNDERNEATH


def made_anew(world, table, text):
    table.drop()
    world.lab.table("doc.metrics", shards=1, replicas=text)


@pytest.mark.parametrize(("text", "outcome"), [("2", CHANGED_UNDERNEATH), ("0-1", FAILED_RESTORED)])
def test_a_table_made_anew_during_the_wait_is_left_as_it_was_made(world, text, outcome):
    table = world.table("doc.metrics", leases_stuck=True)
    world.fault(NUDGE, times=1, after=lambda _: made_anew(world, table, text))

    run = world.reset(max_wait_s=600)

    assert (run.outcome, run.exit_code) == (outcome, 2)
    assert world.altered == [('"doc"."metrics"', "0")]
    assert (table.number_of_replicas, world.open_tickets) == (text, [])


def test_a_table_made_anew_without_replicas_is_given_those_of_the_old_one(world):
    """It cannot be told from the one that was taken to 0."""
    table = world.table("doc.metrics", replicas="1-2", leases_stuck=True)
    world.fault(NUDGE, times=1, after=lambda _: made_anew(world, table, "0"))

    run = world.reset(max_wait_s=600)

    assert (table.number_of_replicas, world.open_tickets) == ("1-2", [])
    assert world.altered == [('"doc"."metrics"', "0"), ('"doc"."metrics"', "1-2")]
    assert run.result.final_replicas == "1-2"


def test_a_healthy_table_made_anew_before_its_turn_is_not_touched(world):
    """It was found sick, and is looked at again before its ticket is written."""
    world.table("doc.first", sick_mb=1300)
    table = world.table("doc.metrics")
    world.on_restore(times=1, after=lambda _: made_anew(world, table, "0-1"))

    run = world.reset()

    assert run.outcomes == {"doc.first": COMPLETED, "doc.metrics": SKIPPED}
    assert {name for name, _ in world.altered} == {'"doc"."first"'}
    assert (run.exit_code, world.store.last_attempts(world.lab.world.cluster_id).keys()) == (
        0,
        {("doc", "first", "")},
    )


def test_a_dropped_table_waits_for_a_human_until_one_of_its_name_is_there_again(world):
    """Dropped and hidden look alike; what comes in its place settles the promise untouched."""
    table = world.table("doc.metrics")
    world.fault(NUDGE, times=1, after=lambda _: table.drop())
    assert world.reset().outcome is NOT_RESTORED
    assert [ticket.state for ticket in world.open_tickets] == [ResetState.FAILED]
    sent = len(world.changes)

    world.lab.table("doc.metrics", replicas="3")
    run = world.restore()

    assert run.outcome is CHANGED_UNDERNEATH
    assert (table.number_of_replicas, world.open_tickets) == ("3", [])
    assert len(world.changes) == sent


@pytest.mark.parametrize("sick", [[0], [0, 1]], ids=["one is reset", "all are reset"])
def test_a_partition_added_meanwhile_and_the_value_for_new_ones_are_not_touched(world, sick):
    """It takes the table's own number_of_replicas, which nobody has changed."""
    table = world.table(
        "doc.parted",
        replicas="1",
        partitioned_by=[("n", "integer")],
        partitions=[{"n": 1}, {"n": 2}],
        sick_partitions=sick,
    )
    for n in (1, 2):
        table.partition({"n": n}).set_replicas("0-2")
        if n - 1 in sick:
            table.partition({"n": n}).make_sick(1300 - n)
    seen = []

    def added(_):
        seen.append(table.number_of_replicas)
        table.add_partition({"n": 3})

    world.fault(NUDGE, times=1, after=added)

    run = world.reset()

    assert set(run.outcomes.values()) == {COMPLETED}
    assert len(run.results) == len(sick)
    assert (seen, table.number_of_replicas) == (["1"], "1")
    texts = [table.partition({"n": n}).number_of_replicas for n in (1, 2, 3)]
    assert texts == ["0-2", "0-2", "1"]
    touched = {name for name, _ in world.altered}
    assert touched == {'"doc"."parted" PARTITION ("n" = ?)'}
    assert {change.args[0] for change in world.changes} == {n + 1 for n in sick}


def test_a_partition_dropped_before_its_turn_is_no_failure(world):
    table = world.table(
        "doc.parted", partitioned_by=[("n", "integer")], partitions=[{"n": 1}, {"n": 2}]
    )
    table.partition({"n": 1}).make_sick(1300)
    gone = table.partition({"n": 2})
    world.on_restore(times=1, after=lambda _: gone.drop())

    run = world.reset()

    assert sorted(run.outcomes.values()) == [COMPLETED, SKIPPED]
    assert (run.exit_code, world.open_tickets) == (0, [])
    assert {change.args[0] for change in world.changes} == {1}
