"""Somebody changes a table that has its replicas back already."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome

COMPLETED, CHANGED_UNDERNEATH = ResetOutcome.COMPLETED, ResetOutcome.CHANGED_UNDERNEATH

VERIFYING = "SELECT 1 FROM caretaker_tickets WHERE state = 'VERIFYING'"


def while_verifying(world, act, *, look, times=1):
    """Act before the n-th look at a table that is being verified is answered."""
    looks: list[None] = []

    def seen(_):
        if world.look_into_store(VERIFYING):
            looks.append(None)
            if look <= len(looks) < look + times:
                act()
                world.lab.world.recovery_s = 0.05
                world.lab.advance(60)

    world.fault("information_schema.tables", before=seen)


LOOKS = pytest.mark.parametrize("look", [1, 3], ids=["at the first look", "at a later look"])


@pytest.fixture
def table(world):
    """A table whose replicas are not back before the look that matters."""
    world.lab.world.recovery_s = 30
    return world.table("doc.metrics", shards=1)


@LOOKS
def test_another_value_is_theirs(world, table, look):
    while_verifying(world, lambda: table.set_replicas("2"), look=look)

    run = world.reset()

    assert (run.outcome, run.exit_code) == (CHANGED_UNDERNEATH, 2)
    assert "somebody set number_of_replicas to '2'" in run.result.reason
    assert (table.number_of_replicas, run.result.final_replicas) == ("2", "2")
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]
    assert world.open_tickets == []


@LOOKS
def test_a_zero_is_not_called_a_success(world, table, look):
    """The ticket would be closed over a table without replicas: they are put back once more."""
    while_verifying(world, lambda: table.set_replicas("0"), look=look)

    run = world.reset()

    assert (run.outcome, run.exit_code) == (COMPLETED, 0)
    assert (table.number_of_replicas, run.result.final_replicas) == ("0-1", "0-1")
    assert [replicas for _, replicas in world.altered] == ["0", "0-1", "0-1"]
    assert any("at 0 again after the restore" in note["reason"] for note in world.said("note"))
    assert world.open_tickets == []


def test_a_zero_that_comes_again_is_theirs(world, table):
    """Whoever insists gets it, and it is told as what it is."""
    while_verifying(world, lambda: table.set_replicas("0"), look=1, times=100)

    run = world.reset()

    assert (run.outcome, run.exit_code) == (CHANGED_UNDERNEATH, 2)
    assert "somebody set number_of_replicas to '0'" in run.result.reason
    assert (table.number_of_replicas, run.result.final_replicas) == ("0", "0")
    assert [replicas for _, replicas in world.altered] == ["0", "0-1", "0-1"]
