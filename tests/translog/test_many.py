"""Many tables in one run: no more of them at 0 replicas at once than was allowed."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome
from tests.world import ended


def test_fifty_tables_go_one_after_another(world):
    tables = world.lab.tables((f"doc.t{n:02}" for n in range(50)), shards=1, sick_mb=1200)

    run = world.reset()

    assert (run.success, run.exit_code) == (True, 0)
    assert set(run.outcomes.values()) == {ResetOutcome.COMPLETED}
    assert world.lab.most_at_zero == 1
    assert world.altered == [
        (f'"doc"."t{n:02}"', replicas) for n in range(50) for replicas in ("0", "0-1")
    ]
    assert {table.number_of_replicas for table in tables} == {"0-1"}
    assert world.open_tickets == []


@pytest.mark.slow
def test_three_at_a_time_are_never_four_and_never_two_of_one_table(world):
    """A process for each step, three at once."""
    tables = world.lab.tables((f"doc.t{n:02}" for n in range(9)), shards=1, sick_mb=1200)
    parted = world.table(
        "doc.parted",
        shards=1,
        sick_mb=1400,
        partitioned_by=[("n", "integer")],
        partitions=[{"n": n} for n in range(3)],
    )
    partitions_at_zero = []
    world.fault(
        "^OPTIMIZE",
        after=lambda _: partitions_at_zero.append(
            sum(name.startswith("doc.parted.") for name in world.lab.at_zero())
        ),
    )

    printed = ended(world.start(concurrent=3))

    assert (printed["success"], printed["exit_code"]) == (True, 0)
    assert set(printed["outcomes"].values()) == {"COMPLETED"}
    assert len(printed["outcomes"]) == 12
    assert 1 < world.lab.most_at_zero <= 3
    assert max(partitions_at_zero) == 1
    assert {table.number_of_replicas for table in [*tables, parted]} == {"0-1"}
    assert world.open_tickets == []
