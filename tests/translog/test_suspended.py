"""A run that was suspended and taken over meanwhile sends nothing when it wakes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from caretaker.translog.model import Owner, TableRef
from caretaker.translog.outcome import ResetOutcome
from ops.reset import Reset
from tests.translog.steps import hands_in, journey_to

METRICS = TableRef("doc", "metrics")
ANOTHER = Owner("another-run", "host-b", 4711, "boot")

#: The audit's rows in the order of a reset, and what CrateDB has received when each is written.
WRITTEN_DOWN = {
    "the SET to 0": ("0", []),
    "the flush": ("OPTIMIZE", ["0"]),
    "the restore": ("0-1", ["0"]),
}


@pytest.mark.parametrize(("about_to", "sent"), WRITTEN_DOWN.values(), ids=WRITTEN_DOWN.keys())
def test_who_slept_between_the_audit_and_the_statement_sends_nothing(
    world, monkeypatch, about_to, sent
):
    """The epoch was right when it was looked at, and half a minute ago."""
    world.table("doc.metrics", replicas="0-1")
    slept = [0.0]
    begin = world.store.begin_statement

    def begin_and_sleep(ticket, text):
        entry = begin(ticket, text)
        if text.startswith("OPTIMIZE") if about_to == "OPTIMIZE" else f"= '{about_to}'" in text:
            world.store.take_over(ticket, ANOTHER)
            slept[0] += 60
        return entry

    monkeypatch.setattr(world.store, "begin_statement", begin_and_sleep)
    journey = journey_to(world, METRICS)
    with hands_in(world) as hands:
        hands.clock = replace(hands.clock, monotonic=lambda: time.monotonic() + slept[0])
        for step in (Reset.remember, Reset.drain, Reset.await_leases, Reset.restore):
            journey = step(Reset(hands, journey))

    assert slept == [60]
    assert journey.result is not None
    assert "taken over" in journey.result.reason
    assert [replicas for _, replicas in world.altered] == sent
    assert world.store.statements(1)[-1].result == "not_executed"


def test_a_run_that_was_taken_over_begins_no_further_table(world):
    """It is dead for the cluster, and not for the one table alone."""
    world.table("doc.first", sick_mb=1300)
    world.table("doc.second")
    with hands_in(world) as hands:
        Reset(hands, journey_to(world, TableRef("doc", "first"))).remember()
        # No Dagster knows this run, and its process is the one that asks: it counts as dead.
        assert world.restore().outcomes == {"doc.first": ResetOutcome.SKIPPED}

        woken = Reset(hands, journey_to(world, TableRef("doc", "second"))).remember()
    assert woken.result is not None
    assert woken.result.left_undone
    assert "the lock of the cluster is no longer ours" in woken.result.reason
    assert world.altered == []
