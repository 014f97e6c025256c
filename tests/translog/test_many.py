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
def test_three_at_a_time_are_never_four(world):
    """A process for each step: seconds a step, so only a few tables."""
    tables = world.lab.tables((f"doc.t{n}" for n in range(5)), shards=1, sick_mb=1200)

    printed = ended(world.start(concurrent=3))

    assert (printed["success"], printed["exit_code"]) == (True, 0)
    assert set(printed["outcomes"].values()) == {"COMPLETED"}
    assert len(printed["outcomes"]) == 5
    assert world.lab.most_at_zero <= 3
    assert {table.number_of_replicas for table in tables} == {"0-1"}
    assert world.open_tickets == []
