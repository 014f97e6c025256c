"""A table that cannot be given back what it had: a human is called, the promise is kept open."""

from __future__ import annotations

import pytest

from caretaker.translog.model import ResetState, TableRef
from caretaker.translog.outcome import ResetOutcome
from tests.translog.steps import carried
from tests.world import NUDGE

COMPLETED, NOT_RESTORED = ResetOutcome.COMPLETED, ResetOutcome.NOT_RESTORED
SKIPPED = ResetOutcome.SKIPPED

RESTORE = 'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = \'0-1\')'

GRANTS = ("DQL ON SCHEMA sys", "DDL ON SCHEMA doc")


@pytest.fixture
def operator(world):
    """A user with the least that a reset needs."""
    world.lab.create_user("caretaker", None, *GRANTS)
    world.user = "caretaker"
    return "caretaker"


def test_a_privilege_removed_before_the_restore_calls_for_a_human(world, operator):
    table = world.table("doc.metrics")
    world.fault(NUDGE, times=1, after=lambda _: world.lab.revoke(operator, "DDL ON SCHEMA doc"))

    run = world.reset()

    assert not run.success
    assert (run.outcome, run.exit_code) == (NOT_RESTORED, 4)
    assert table.number_of_replicas == "0"
    (critical,) = world.said("critical")
    assert critical["level"] == "CRITICAL"
    assert "MANUAL INTERVENTION REQUIRED: Failed to rollback doc.metrics" in critical["reason"]
    assert (critical["sql"], critical["original_replicas"]) == (RESTORE, "0-1")
    assert RESTORE in run.result.reason


def test_the_promise_outlives_the_run_and_is_kept_once_that_is_possible(world, operator):
    table = world.table("doc.metrics")
    world.fault(NUDGE, times=1, after=lambda _: world.lab.revoke(operator, "DDL ON SCHEMA doc"))
    world.reset()
    (ticket,) = world.open_tickets
    assert (ticket.state, ticket.original_replicas) == (ResetState.FAILED, "0-1")
    assert ticket.attempts == 1

    again = world.restore()
    assert (again.outcome, again.exit_code) == (NOT_RESTORED, 4)
    assert world.open_tickets[0].attempts == 2

    world.lab.sql(f'GRANT DDL ON SCHEMA doc TO "{operator}"')
    repaired = world.restore()

    assert (repaired.success, repaired.exit_code) == (True, 0)
    assert table.number_of_replicas == "0-1"
    assert world.open_tickets == []
    assert [replicas for _, replicas in world.altered if replicas == "0"] == ["0"]


def test_while_a_table_waits_for_a_human_no_other_is_begun(world, operator):
    """A cluster that refuses one restore will refuse the next."""
    world.table("doc.metrics", sick_mb=1400)
    world.table("doc.next")
    world.fault(NUDGE, times=1, after=lambda _: world.lab.revoke(operator, "DDL ON SCHEMA doc"))

    run = world.reset()

    assert run.outcomes["doc.metrics"] is NOT_RESTORED
    assert run.outcomes["doc.next"] is SKIPPED
    assert {table for table, _ in world.altered} == {'"doc"."metrics"'}
    (refused,) = world.said("preflight_refused")
    assert refused["table"] == "doc.next"
    assert "doc.metrics was not restored" in refused["reason"]

    refused_run = world.reset()
    assert not refused_run.success
    assert "doc.metrics was not restored" in refused_run.failure


def test_a_dropped_table_calls_for_a_human(world):
    """A privilege that was removed would look the same."""
    table = world.table("doc.metrics")
    world.fault(NUDGE, after=lambda _: table.drop())

    run = world.reset()

    assert (run.outcome, run.exit_code) == (NOT_RESTORED, 4)
    assert len(world.open_tickets) == 1


def test_a_full_shard_budget_refuses_the_restore_until_there_is_room(world):
    """Tried again and again within the run, with the very text."""
    table = world.table("doc.metrics", replicas="1")

    def budget(shards):
        world.lab.sql(f"SET GLOBAL TRANSIENT cluster.max_shards_per_node = {shards}")

    world.fault(NUDGE, times=1, after=lambda _: budget(1))
    world.on_restore(after_matches=3, times=1, before=lambda _: budget(1000))

    run = world.reset()

    assert run.outcome is COMPLETED
    assert [replicas for _, replicas in world.altered] == ["0", "1", "1", "1"]
    refused = [change for change in world.changes if change.status == 400]
    assert len(refused) == 2
    assert table.number_of_replicas == "1"


def test_a_shard_budget_that_stays_full_calls_for_a_human(world):
    table = world.table("doc.metrics", replicas="1")
    full = "SET GLOBAL TRANSIENT cluster.max_shards_per_node = 1"
    world.fault(NUDGE, times=1, after=lambda _: world.lab.sql(full))

    run = world.reset(restore_timeout_s=1)

    assert (run.outcome, run.exit_code) == (NOT_RESTORED, 4)
    assert "maximum shards open" in run.result.reason
    assert table.number_of_replicas == "0"

    world.lab.sql("RESET GLOBAL cluster.max_shards_per_node")
    assert world.restore().exit_code == 0
    assert table.number_of_replicas == "1"


def test_a_restore_leaves_alone_what_somebody_has_mended_or_changed(world, operator):
    table = world.table("doc.metrics")
    world.fault(NUDGE, times=1, after=lambda _: world.lab.revoke(operator, "DDL ON SCHEMA doc"))
    world.reset()
    sent = len(world.changes)
    world.lab.sql(f'GRANT DDL ON SCHEMA doc TO "{operator}"')
    table.set_replicas("2")

    run = world.restore()

    assert run.outcome is ResetOutcome.CHANGED_UNDERNEATH
    assert table.number_of_replicas == "2"
    assert len(world.changes) == sent
    assert world.open_tickets == []


def test_a_restore_with_nothing_to_do_is_a_success(world):
    world.table("doc.metrics")
    run = world.restore()
    assert (run.success, run.exit_code, run.results) == (True, 0, ())
    assert world.changes == []


def test_only_the_tickets_that_were_asked_for_are_honoured(world, operator):
    table = world.table("doc.metrics")
    world.fault(NUDGE, times=1, after=lambda _: world.lab.revoke(operator, "DDL ON SCHEMA doc"))
    world.reset()
    world.lab.sql(f'GRANT DDL ON SCHEMA doc TO "{operator}"')
    (ticket,) = world.open_tickets

    assert world.restore(ticket_ids=[ticket.id + 1]).results == ()
    assert table.number_of_replicas == "0"
    assert world.restore(ticket_ids=[ticket.id]).exit_code == 0
    assert table.number_of_replicas == "0-1"


def test_a_zombie_stops_where_its_ticket_was_taken_over(world):
    """Every changing statement checks the epoch first."""
    table = world.table("doc.metrics", leases_stuck=True)

    def taken_over(_):
        (ticket,) = world.store.open_tickets()
        world.store.take_over(ticket, ticket.owner)

    world.fault(NUDGE, times=1, after=taken_over)

    run = world.reset(max_wait_s=600)

    assert (run.outcome, run.exit_code) == (NOT_RESTORED, 4)
    assert "taken over" in run.result.reason
    assert [replicas for _, replicas in world.altered] == ["0"]
    assert table.number_of_replicas == "0"
    assert len(world.open_tickets) == 1


@pytest.mark.parametrize(
    ("state", "sent"), [("SETTING_REPLICAS_ZERO", []), ("RESTORING_REPLICAS", ["0"])]
)
def test_a_zombie_does_not_send_what_it_was_about_to_send(world, state, sent):
    """Taken over after its last word to the store: the statement itself is fenced."""
    world.table("doc.metrics")

    def emit(event):
        if event.fields.get("to_state") == state:
            (ticket,) = world.store.open_tickets()
            world.store.take_over(ticket, ticket.owner)

    result = carried(world, TableRef("doc", "metrics"), emit)

    assert [replicas for _, replicas in world.altered] == sent
    assert result is not None
    assert "taken over" in result.reason
    assert len(world.open_tickets) == 1
