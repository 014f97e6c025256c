"""An ALTER that nobody answered is unknown, not failed: the original is always the last word."""

from __future__ import annotations

import pytest

from caretaker.translog.model import ResetState, TableRef
from caretaker.translog.outcome import ResetOutcome
from lab.faults import Action
from tests.translog.steps import carried
from tests.waiting import in_time

#: What a run says while it waits for an ALTER without an answer.
WATCHING = "may still land"

COMPLETED, FAILED_RESTORED = ResetOutcome.COMPLETED, ResetOutcome.FAILED_RESTORED


@pytest.mark.parametrize("action", [Action.HANG, Action.RESET_AFTER, Action.HALF_BODY])
def test_a_zero_that_landed_without_an_answer_is_carried_through(world, action):
    """The read-back is proof enough to go on."""
    table = world.table("doc.metrics")
    world.statement_timeout_s = 2.0
    world.on_zero(action)

    run = world.reset()

    assert run.outcome is COMPLETED
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])
    assert any("an ALTER without an answer" in note["reason"] for note in world.said("note"))


def test_a_zero_that_never_landed_is_followed_by_the_original(world, monkeypatch):
    """It may be on its way still."""
    monkeypatch.setattr("ops.hands.READ_BACK_S", 0.2)
    table = world.table("doc.metrics")
    world.on_zero(Action.RESET_BEFORE)

    run = world.reset(verify_timeout_s=0)

    assert run.outcome is FAILED_RESTORED
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]
    assert [change.applied for change in world.changes] == [False, True]
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])


def lands(world):
    """Let the hour pass, and not before it has begun: who sent the 0 has not waited for that."""
    in_time(lambda: any(change.delayed for change in world.changes))
    world.lab.advance(3600)


@pytest.mark.parametrize("when", ["restored", "watched"])
def test_a_zero_that_lands_after_the_restore_is_undone(world, monkeypatch, when):
    """The ticket is open until the text has stood for the whole settle time."""
    monkeypatch.setattr("ops.hands.READ_BACK_S", 0.1)
    monkeypatch.setattr("ops.reset.SETTLE_LOOK_S", 0.1)
    table = world.table("doc.metrics", shards=1)
    query = "SELECT count(*) FROM caretaker_tickets WHERE closed_at IS NULL"
    world.statement_timeout_s = 2.0
    world.on_zero(Action.LATE, seconds=3600)
    open_when_it_landed: list[tuple[int]] = []
    reasons: list[str] = []

    def emit(event):
        reason = event.fields.get("reason") or ""
        reasons.append(reason)
        restored = event.fields.get("state") == ResetState.VERIFYING
        if not open_when_it_landed and (restored if when == "restored" else WATCHING in reason):
            lands(world)
            assert table.number_of_replicas == "0"
            open_when_it_landed.extend(world.look_into_store(query))

    result = carried(world, TableRef("doc", "metrics"), emit)

    assert open_when_it_landed == [(1,)]
    assert result.outcome is FAILED_RESTORED
    assert table.number_of_replicas == "0-1"
    assert world.altered[-1] == ('"doc"."metrics"', "0-1")
    assert [replicas for _, replicas in world.altered].count("0") == 1
    assert any("landed late" in reason for reason in reasons)
    assert world.open_tickets == []


def test_an_operator_s_word_does_not_hide_a_zero_that_may_still_land(world, monkeypatch):
    """It lands on what was said in the meantime; nobody would know of a table that stays at 0."""
    monkeypatch.setattr("ops.hands.READ_BACK_S", 0.1)
    table = world.table("doc.metrics", shards=1)
    world.statement_timeout_s = 2.0
    world.on_zero(Action.LATE, seconds=3600, before=lambda _: table.set_replicas("2"))
    landed: list[str] = []

    def emit(event):
        if WATCHING in (event.fields.get("reason") or "") and not landed:
            landed.append(table.number_of_replicas)
            lands(world)

    result = carried(world, TableRef("doc", "metrics"), emit)

    assert landed == ["2"]
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])
    assert result.outcome is FAILED_RESTORED


def test_a_restore_without_an_answer_is_sent_until_it_reads_back(world):
    table = world.table("doc.metrics")
    world.statement_timeout_s = 2.0
    world.on_restore(Action.RESET_BEFORE, times=2)

    run = world.reset()

    assert run.outcome is COMPLETED
    assert [replicas for _, replicas in world.altered] == ["0", "0-1", "0-1", "0-1"]
    assert table.number_of_replicas == "0-1"


def test_a_restore_that_landed_without_an_answer_is_not_sent_again(world):
    """Read back first: nothing is owed any more."""
    table = world.table("doc.metrics")
    world.statement_timeout_s = 2.0
    world.on_restore(Action.HANG, times=1)

    run = world.reset()

    assert run.outcome is COMPLETED
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]
    assert table.number_of_replicas == "0-1"


def test_a_zero_that_is_refused_changes_nothing(world):
    table = world.table("doc.metrics")
    world.on_zero("error", status=400, code=4000, message="wait_for_active_shards forbids it")

    run = world.reset()

    assert (run.outcome, run.exit_code) == (ResetOutcome.REFUSED, 2)
    assert "wait_for_active_shards" in run.result.reason
    assert [replicas for _, replicas in world.altered] == ["0"]
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])


def test_a_node_that_dies_with_the_zero_in_hand_does_not_stop_the_restore(world):
    """Another host takes the restore."""
    table = world.table("doc.metrics", replicas="2")
    # Its connection is cut, so no patience of the client's is needed to end the wait; with little
    # of it the client asks the very node again before that dies.
    world.on_zero(
        Action.WATCH,
        after=lambda entry: world.fault("", Action.REFUSE, node=entry.node),
    )

    run = world.reset()

    assert run.outcome is COMPLETED
    assert table.number_of_replicas == "2"
    assert world.changes[0].node != world.changes[-1].node
