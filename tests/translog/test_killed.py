"""A run that is stopped or killed in the middle: the table gets its exact text back."""

from __future__ import annotations

import itertools
import signal
import subprocess

import pytest

from caretaker.translog.model import ResetState, TableRef
from caretaker.translog.outcome import ResetOutcome
from tests.translog.steps import carried
from tests.world import NUDGE, ended


class Stopped(BaseException):
    """As Dagster's interruption, no Exception."""


def stopped_at(number, *, for_good):
    """Raise at the n-th thing that is told; where `for_good`, at all that follow, too."""
    count = itertools.count()

    def emit(_event):
        told = next(count)
        if told == number or (for_good and told > number):
            raise Stopped

    return emit


@pytest.mark.parametrize(
    ("for_good", "text"), [(False, "0-1"), (True, "2")], ids=["stopped", "killed"]
)
def test_wherever_a_reset_ends_the_text_comes_back(world, for_good, text):
    """At everything it tells: between each write to the store and each statement sent."""
    for number in itertools.count():
        name = f"t{number}"
        table = world.table(f"doc.{name}", shards=1, replicas=text)
        try:
            carried(world, TableRef("doc", name), stopped_at(number, for_good=for_good))
            finished = True
        except Stopped:
            finished = False
        if not for_good:
            # Whoever is asked to stop puts back what he took before he goes. Only where CrateDB
            # has not answered yet, somebody must go on watching.
            assert table.number_of_replicas == text
            assert [t for t in world.open_tickets if t.zero_acknowledged] == []
        if world.open_tickets:
            restored = world.restore()
            assert (restored.success, restored.exit_code) == (True, 0)
        assert world.open_tickets == []
        assert table.number_of_replicas == text
        sent = [replicas for quoted, replicas in world.altered if quoted == f'"doc"."{name}"']
        assert sent.count("0") <= 1
        assert not sent or sent[-1] == text
        if finished:
            break
    assert number > 8


def test_a_stop_while_an_alter_is_unanswered_leaves_the_ticket_to_be_watched(world):
    """Being stopped leaves no minute to see whether the 0 still lands."""
    table = world.table("doc.metrics", shards=1, leases_stuck=True)
    world.statement_timeout_s = 2.0
    world.on_zero("hang")

    def emit(event):
        if event.name == "leases":
            raise Stopped

    with pytest.raises(Stopped):
        carried(world, TableRef("doc", "metrics"), emit)

    assert table.number_of_replicas == "0-1"
    (ticket,) = world.open_tickets
    assert (ticket.zero_acknowledged, ticket.state) == (False, ResetState.VERIFYING)

    assert world.restore().exit_code == 0
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])
    assert [replicas for _, replicas in world.altered].count("0") == 1


MOMENTS = {
    "when the zero has landed": lambda world, kill: world.on_zero(after=kill),
    "when the restore is on its way": lambda world, kill: world.on_restore(
        "reset_before", times=1, before=kill
    ),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_run_killed_with_9_is_picked_up(world, moment):
    table = world.table("doc.metrics", replicas="0-all")
    other = world.table("doc.other", sick_mb=1150)
    killed: list[subprocess.Popen[str]] = []

    def kill(_):
        killed[0].send_signal(signal.SIGKILL)
        killed[0].wait()

    moment(world, kill)
    killed.append(world.start())
    assert ended(killed[0]) == {}
    assert table.number_of_replicas == "0"
    (ticket,) = world.open_tickets
    assert (ticket.original_replicas, ticket.owner.pid) == ("0-all", killed[0].pid)

    run = world.restore()

    assert (run.success, run.exit_code) == (True, 0)
    assert (table.number_of_replicas, world.open_tickets) == ("0-all", [])
    assert other.number_of_replicas == "0-1"
    assert f"died in {ticket.state}" in run.result.reason
    assert world.store.ticket(ticket.id).epoch == 2
    # The lock of the dead is no hindrance either.
    assert world.reset().outcomes["doc.other"] is ResetOutcome.COMPLETED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_puts_the_table_back_first(world, number):
    first = world.table("doc.first", sick_mb=1300, replicas="2", leases_stuck=True)
    second = world.table("doc.second")
    told: list[subprocess.Popen[str]] = []
    world.fault(NUDGE, times=1, after=lambda _: told[0].send_signal(number))
    told.append(world.start(max_wait_s=600, wait_ladder_s=[600]))

    printed = ended(told[0])

    assert printed.get("interrupted") or not printed["success"]
    assert (first.number_of_replicas, second.number_of_replicas) == ("2", "0-1")
    assert world.altered == [('"doc"."first"', "0"), ('"doc"."first"', "2")]
    assert world.open_tickets == []
    assert [row.outcome for row in world.recorded] == ["FAILED_RESTORED"]


def test_the_ticket_of_a_run_that_lives_is_not_touched(world):
    """Neither by a sensor's restore nor by one that asks for it by number."""
    table = world.table("doc.metrics", leases_stuck=True)
    asked = []

    def meanwhile(_):
        ticket = world.store.open_tickets()[0]
        asked.append(ended(world.start("translog_restore")))
        asked.append(ended(world.start("translog_restore", ticket_ids=[ticket.id])))
        table.leases_stuck = False

    # Both take their time on a busy machine, and the one that asked must not give up meanwhile.
    world.statement_timeout_s = 600
    world.fault(NUDGE, times=1, before=meanwhile)

    run = world.reset()

    assert asked == [
        {"success": True, "exit_code": 0, "outcomes": {}},
        {"success": False},
    ]
    assert run.outcome is ResetOutcome.COMPLETED
    assert world.store.ticket(1).epoch == 1
