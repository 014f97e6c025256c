"""What happens between two steps of ours: each finds out, and the last word is the original's."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from caretaker.translog.model import ResetTicket, TableRef
from caretaker.translog.outcome import ResetOutcome
from lab.faults import Action
from ops.preflight import why_not_to_begin
from ops.reset import Reset
from resources.state_store import OutcomeRow
from tests.translog.abandoned import left_at_zero, silent
from tests.translog.steps import STEPS, hands_in, journey_to
from tests.waiting import in_time
from tests.world import NUDGE, SET_REPLICAS

COMPLETED, SKIPPED = ResetOutcome.COMPLETED, ResetOutcome.SKIPPED
FAILED_RESTORED = ResetOutcome.FAILED_RESTORED
METRICS = TableRef("doc", "metrics")


def test_a_table_that_may_not_be_allocated_any_more_is_not_taken_to_zero(world):
    """Its replicas would not come back; it was found before, and is looked at again."""
    world.table("doc.first", sick_mb=1500)
    second = world.table("doc.second", sick_mb=1300)
    restricted = "ALTER TABLE doc.second SET (\"routing.allocation.enable\" = 'primaries')"
    world.on_zero(after=lambda _: world.lab.sql(restricted))

    run = world.reset()

    assert run.outcomes == {"doc.first": COMPLETED, "doc.second": SKIPPED}
    assert "'primaries'" in run.results[-1].reason
    assert {name for name, _ in world.altered} == {'"doc"."first"'}
    assert second.number_of_replicas == "0-1"


def test_a_zero_that_lands_after_its_ticket_was_closed_by_another_is_undone_by_who_sent_it(world):
    """Nobody else knows of it: whoever took over has seen the replicas stand, and is gone."""
    table = world.table("doc.metrics", replicas="1")
    taken_over = []

    def meanwhile(_):
        world.look_into_store("UPDATE caretaker_tickets SET owner_host = 'elsewhere'")
        silent(world, "metrics")
        taken_over.append(world.restore())

    world.on_zero(before=meanwhile)
    with hands_in(world) as hands:
        journey = journey_to(world, METRICS)
        for step in STEPS:
            journey = step(Reset(hands, journey))

    assert [run.exit_code for run in taken_over] == [0]
    assert table.number_of_replicas == "1"
    assert [replicas for _, replicas in world.altered] == ["0", "1", "1"]
    assert [ticket.id for ticket in world.open_tickets] in ([], [2])


def test_a_table_that_is_being_closed_as_failed_is_not_taken_for_one_without_replicas(
    world, monkeypatch
):
    """A sibling that asks at that moment goes ahead: the table has its replicas back."""
    table = world.table("doc.metrics", replicas="1", leases_stuck=True)
    heard: list[list[str]] = []
    with hands_in(world) as hands, hands_in(world) as sibling:
        journey = journey_to(world, METRICS)
        journey = replace(journey, policy=replace(journey.policy, max_wait_s=0.1, concurrent=2))
        sibling.owner = hands.owner
        for step in STEPS[:4]:
            journey = step(Reset(hands, journey))
        table.leases_stuck = False
        close = hands.store.close_ticket

        def ask_and_close(ticket: ResetTicket, row: OutcomeRow) -> None:
            heard.append(why_not_to_begin(sibling, journey.cluster_id, journey.policy))
            close(ticket, row)

        monkeypatch.setattr(hands.store, "close_ticket", ask_and_close)
        journey = STEPS[4](Reset(hands, journey))

    assert journey.result is not None
    assert journey.result.outcome is ResetOutcome.LEASES_TIMED_OUT
    assert len(heard) == 1
    assert [reason for reason in heard[0] if "not restored" in reason] == []


def test_a_table_that_was_swapped_away_is_looked_for_and_named(world):
    """SWAP TABLE: what is called doc.metrics now has its replicas, and ours stands at 0 elsewhere.

    The catalog shows it as two values that change places.
    """
    table = world.table("doc.metrics", replicas="0-1", leases_stuck=True)
    other = world.table("doc.other", replicas="0-1", sick_mb=0)

    def swapped(_):
        other.set_replicas("0")
        table.set_replicas("0-1")

    world.fault(NUDGE, times=1, after=swapped)

    run = world.reset(table=r"doc\.metrics")

    (critical,) = world.said("critical")
    assert critical["level"] == "CRITICAL"
    assert "doc.other has none" in critical["reason"]
    assert critical["sql"] == 'ALTER TABLE "doc"."other" SET ("number_of_replicas" = \'0-1\')'
    assert "swapped or renamed" in run.result.reason


def test_a_table_that_an_operator_put_back_is_no_alarm(world):
    """Nothing else stands at 0 but what is not alike."""
    table = world.table("doc.metrics", leases_stuck=True)
    world.table("doc.other", shards=7, replicas="0")
    world.fault(NUDGE, times=1, after=lambda _: table.set_replicas("0-1"))

    assert world.reset().outcome is FAILED_RESTORED
    assert world.said("critical") == []


def test_somebody_who_sets_zero_again_and_again_does_not_keep_the_watch_from_ending(
    world, monkeypatch
):
    """An unanswered SET to 0 lands once. After that it is theirs, and told as such."""
    monkeypatch.setattr("ops.reset.SETTLE_LOOK_S", 0.05)
    table = left_at_zero(world, "metrics", zero_acknowledged=False, zero_confirmed=False)
    world.fault("FROM sys.shards", times=40, before=lambda _: table.set_replicas("0"))

    run = world.restore(settle_s=1.0)

    assert (run.exit_code, world.open_tickets) == (0, [])
    assert len(world.altered) < 10


def children(pid):
    """Every process below one."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            below.setdefault(int(parent), []).append(int(folder.name))
    found, todo = [], [pid]
    while todo:
        found += below.get(top := todo.pop(), [])
        todo += below.get(top, [])
    return found


def threads_of(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_a_step_that_is_killed_while_its_run_goes_on_is_not_kept_alive_by_it(world):
    """The run's heart beats for what its steps hold, and for nobody else: the table is restored."""
    tables = {name: world.table(f"doc.{name}", shards=1, leases_stuck=True) for name in "ab"}
    run = world.start(concurrent=2, max_wait_s=1200, wait_ladder_s=[600], nudge=False)
    try:
        waiting = 0
        while waiting < 2:
            line = run.stderr.readline()
            assert line, "the run ended before it waited"
            waiting += '"next_look_s": 600' in line
        steps = [pid for pid in children(run.pid) if threads_of(pid) > 2]
        os.kill(steps[0], signal.SIGKILL)
        silent(world, "a")
        silent(world, "b")
        alive = in_time(lambda: [t.target.name for t in world.open_tickets if _beats(t)])
        (dead,) = {"a", "b"} - set(alive)

        restored = world.restore()

        assert restored.outcomes == {f"doc.{dead}": FAILED_RESTORED}
        assert tables[dead].number_of_replicas == "0-1"
        assert tables[alive[0]].number_of_replicas == "0"
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=120)
    assert [table.number_of_replicas for table in tables.values()] == ["0-1", "0-1"]


def _beats(ticket):
    return ticket.heartbeat_at.year > 2020


@pytest.mark.parametrize("action", [Action.RESET_BEFORE, Action.HTML])
def test_a_restore_whose_answer_is_nonsense_is_sent_until_it_reads_back(world, action):
    table = left_at_zero(world, "metrics")
    world.fault(SET_REPLICAS, action, times=1)

    assert world.restore().exit_code == 0
    assert (table.number_of_replicas, world.open_tickets) == ("1", [])
