"""Partitions: only the sick one is altered, whatever its values look like."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome
from ops.reset import Reset
from tests.translog.steps import STEPS, hands_in, journey_to

COMPLETED = ResetOutcome.COMPLETED

#: Columns with their types, the sick partition's values, a sibling's, and the clause.
SHAPES = {
    "timestamp": (
        [("ts", "timestamp")],
        {"ts": 1704067200000},
        {"ts": 1704153600000},
        'PARTITION ("ts" = ?)',
    ),
    "text with quotes": (
        [("Region", "text")],
        {"Region": "it's \"e'u:{}\""},
        {"Region": "eu"},
        'PARTITION ("Region" = ?)',
    ),
    "null": ([("k", "text")], {"k": None}, {"k": ""}, 'PARTITION ("k" = ?)'),
    "boolean": ([("b", "boolean")], {"b": False}, {"b": True}, 'PARTITION ("b" = ?)'),
    "several columns": (
        [("ts", "timestamp"), ("region", "text"), ("n", "integer")],
        {"ts": 1704067200000, "region": "eu", "n": 7},
        {"ts": 1704067200000, "region": "us", "n": 7},
        'PARTITION ("ts" = ?, "region" = ?, "n" = ?)',
    ),
    "a sub-column": (
        [("o['a']", "text"), ("ts", "timestamp")],
        {"o['a']": "x", "ts": 1},
        {"o['a']": "y", "ts": 1},
        'PARTITION ("o"[\'a\'] = ?, "ts" = ?)',
    ),
}


@pytest.mark.parametrize(
    ("columns", "sick", "sibling", "clause"), SHAPES.values(), ids=SHAPES.keys()
)
def test_only_the_sick_partition_is_altered(world, columns, sick, sibling, clause):
    table = world.table(
        "doc.parted", partitioned_by=columns, partitions=[sick, sibling], sick_partitions=[0]
    )

    run = world.reset()

    assert run.outcome is COMPLETED
    assert run.result.target.values == tuple((name, sick[name]) for name, _ in columns)
    named = f'"doc"."parted" {clause}'
    assert world.altered == [(named, "0"), (named, "0-1")]
    values = [sick[name] for name, _ in columns]
    assert [change.args for change in world.changes] == [[*values, "0"], values, [*values, "0-1"]]
    assert (table.partition(sick).number_of_replicas, table.partition(sick).worst_mb < 1) == (
        "0-1",
        True,
    )


def test_what_was_set_for_one_partition_or_for_new_ones_stays(world):
    """A plain ALTER TABLE would give all of them one value."""
    table = world.table(
        "doc.parted",
        replicas="1",
        partitioned_by=[("ts", "timestamp")],
        partitions=[{"ts": 1}, {"ts": 2}, {"ts": 3}],
        sick_partitions=[0],
    )
    table.partition({"ts": 1}).set_replicas("2")
    table.partition({"ts": 2}).set_replicas("0-all")
    table.partition({"ts": 1}).make_sick(1200)

    run = world.reset()

    assert run.outcome is COMPLETED
    texts = [table.partition({"ts": number}).number_of_replicas for number in (1, 2, 3)]
    assert (texts, table.number_of_replicas) == (["2", "0-all", "1"], "1")


def test_two_partitions_of_one_table_are_never_at_zero_together(world):
    table = world.table(
        "doc.parted", partitioned_by=[("n", "integer")], partitions=[{"n": 1}, {"n": 2}]
    )

    run = world.reset()

    assert set(run.outcomes.values()) == {COMPLETED}
    assert len(run.results) == 2
    assert world.lab.most_at_zero == 1
    assert [table.partition({"n": n}).number_of_replicas for n in (1, 2)] == ["0-1", "0-1"]


def test_of_two_partitions_that_begin_at_one_moment_the_younger_waits(world):
    """Each has found its table free, as steps in processes of their own may; one goes first."""
    world.table("doc.parted", partitioned_by=[("n", "integer")], partitions=[{"n": 1}, {"n": 2}])
    with hands_in(world) as hands:
        targets = [found.target for found in hands.crate.observe_tables()]
        first = [Reset(hands, journey_to(world, targets[0]))]

        def begins_too(_):
            first.append(Reset(hands, first[0].remember()))

        def ends(_seconds):
            journey = first[1].drain()
            for step in STEPS[2:]:
                journey = step(Reset(hands, journey))

        world.fault("partition_ident = [?]", times=1, before=begins_too)
        with hands_in(world, sleep=ends) as others:
            second = Reset(others, journey_to(world, targets[1])).remember()

    assert world.open_tickets == [second.ticket]
    assert second.target == targets[1]
    assert [row.target for row in world.recorded] == [targets[0]]
    assert not world.open_tickets[0].zero_sent


def test_a_partition_dropped_during_the_wait_calls_for_a_human(world):
    """It may as well have been the privilege that went: the ticket stays open."""
    table = world.table(
        "doc.parted",
        partitioned_by=[("n", "integer")],
        partitions=[{"n": 1}, {"n": 2}],
        sick_partitions=[0],
        leases_stuck=True,
    )
    gone = table.partition({"n": 1})
    world.fault("^OPTIMIZE", after=lambda _: gone.drop())

    run = world.reset()

    assert (run.outcome, run.exit_code) == (ResetOutcome.NOT_RESTORED, 4)
    (ticket,) = world.open_tickets
    assert ticket.target.values == (("n", 1),)
    (critical,) = world.said("critical")
    assert critical["sql"] == (
        'ALTER TABLE "doc"."parted" PARTITION ("n" = 1) SET ("number_of_replicas" = \'0-1\')'
    )
    assert table.partition({"n": 2}).number_of_replicas == "0-1"
