"""A run's worker is killed with -9 and the processes of its steps live on: nobody waits for them.

Above one table at a time each step is a process, whose parent is a fork server and not the run.
"""

from __future__ import annotations

import signal
import threading
import time

from tests.world import SET_REPLICAS

WAITING = '"next_look_s": 600'


def killed_while_it_waits(world, tables):
    """Start a run of two at a time, and kill its worker once this many of its steps wait."""
    run = world.start(concurrent=2, max_wait_s=1200, wait_ladder_s=[600])
    waiting = 0
    while waiting < tables:
        line = run.stderr.readline()
        assert line, "the run ended before it waited"
        waiting += WAITING in line
    assert len(world.lab.at_zero()) == tables
    run.send_signal(signal.SIGKILL)
    return run


def all_its_processes_ended(run):
    """Wait for the end of the killed run's output, which its steps' processes hold open."""
    out, _ = run.communicate(timeout=120)
    return [line for line in out.splitlines() if line.startswith('{"success"')] == []


def test_steps_whose_run_was_killed_give_the_tables_back_by_themselves(world):
    tables = world.lab.tables(["doc.a", "doc.b"], shards=1, replicas="1", sick_mb=1200)
    for table in tables:
        table.leases_stuck = True

    run = killed_while_it_waits(world, 2)

    assert all_its_processes_ended(run)
    assert [table.number_of_replicas for table in tables] == ["1", "1"]
    assert world.open_tickets == []
    assert {(row.outcome, row.final_replicas) for row in world.recorded} == {
        ("FAILED_RESTORED", "1")
    }
    assert all("process" in row.reason and "died" in row.reason for row in world.recorded)
    assert sorted(world.altered) == [
        ('"doc"."a"', "0"),
        ('"doc"."a"', "1"),
        ('"doc"."b"', "0"),
        ('"doc"."b"', "1"),
    ]


def test_a_step_that_is_restoring_when_somebody_takes_over_does_no_harm(world):
    """Its statement is on its way already; what comes after it is fenced."""
    table = world.table("doc.metrics", shards=1, replicas="0-all", leases_stuck=True)
    go_on = threading.Event()
    # Not as long as its statement may take: whoever has no answer sends it again.
    held = {"after_matches": 1, "times": 1, "before": lambda _: go_on.wait(50)}
    world.fault(SET_REPLICAS, **held)
    run = killed_while_it_waits(world, 1)
    deadline = time.monotonic() + 120
    while len(world.altered) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert world.altered[-1] == ('"doc"."metrics"', "0-all")
    assert table.number_of_replicas == "0"

    taken_over = world.restore()
    go_on.set()

    assert (taken_over.success, taken_over.exit_code) == (True, 0)
    assert table.number_of_replicas == "0-all"
    assert all_its_processes_ended(run)
    assert [replicas for _, replicas in world.altered].count("0") == 1
    assert {replicas for _, replicas in world.altered} == {"0", "0-all"}
    assert (len(world.recorded), world.open_tickets) == (1, [])
    assert world.store.ticket(1).epoch == 2
