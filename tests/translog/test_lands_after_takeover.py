"""A SET to 0 that nobody answered, its run killed, the ticket taken over, and then it lands."""

from __future__ import annotations

import signal
import time

import pytest

from lab.faults import Action
from resources.clock import Clock
from tests.waiting import in_time
from tests.world import ended

#: Seconds of the lab's time that only `advance` lets pass.
SOME_DAY = 100_000


@pytest.fixture
def killed(world, monkeypatch):
    """A run killed with -9 while its SET to 0 is on its way; the table still has its replicas."""
    monkeypatch.setattr("ops.reset.SETTLE_LOOK_S", 0.1)
    table = world.table("doc.metrics", shards=1, replicas="1")
    world.on_zero(Action.LATE, seconds=SOME_DAY)
    process = world.start()
    # Not as it arrives: its delay begins after that, and the day would pass in between.
    in_time(lambda: any(change.delayed for change in world.changes))
    process.send_signal(signal.SIGKILL)
    assert ended(process) == {}
    assert table.number_of_replicas == "1"
    (ticket,) = world.open_tickets
    assert (ticket.zero_sent, ticket.zero_acknowledged) == (True, False)
    return table


def lands(world):
    world.lab.advance(SOME_DAY)


def kept(world, table):
    """The original was the last word, and 0 was asked for once."""
    sent = [replicas for _, replicas in world.altered]
    assert (sent.count("0"), sent[-1], table.number_of_replicas) == (1, "1", "1")
    assert world.open_tickets == []
    assert [row.outcome for row in world.recorded] == ["FAILED_RESTORED"]


def test_before_anybody_looks(world, killed):
    lands(world)
    assert killed.number_of_replicas == "0"

    assert world.restore().exit_code == 0

    kept(world, killed)


@pytest.fixture
def only_what_was_slept(monkeypatch):
    """A run whose seconds are those it slept: however busy the machine is, it looks in between."""
    slept = [0.0]

    def sleep(seconds):
        time.sleep(seconds)
        slept[0] += seconds

    clock = Clock(monotonic=lambda: slept[0], sleep=sleep)
    monkeypatch.setattr("ops.translog_run.Clock", lambda: clock)


@pytest.mark.usefixtures("only_what_was_slept")
def test_while_whoever_took_over_watches(world, killed):
    """The original was sent although the table showed it, and is sent again."""
    watched: list[None] = []

    def landing(_):
        restored = [replicas for _, replicas in world.altered] == ["0", "1"]
        if restored and not watched:
            watched.append(None)
        elif watched == [None]:
            watched.append(lands(world))

    world.fault("information_schema.tables", before=landing)

    run = world.restore(settle_s=0.6)

    assert (run.success, run.exit_code) == (True, 0)
    assert [replicas for _, replicas in world.altered] == ["0", "1", "1"]
    assert any("landed late" in note["reason"] for note in world.said("note"))
    kept(world, killed)


def test_not_at_all(world, killed):
    """The original is sent all the same: it cannot be known that nothing will land."""
    assert world.restore().exit_code == 0

    assert [replicas for _, replicas in world.altered] == ["0", "1"]
    kept(world, killed)
