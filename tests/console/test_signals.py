"""Ctrl-C once, Ctrl-C twice, SIGTERM, SIGHUP: to a real process with a table at 0 replicas."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import pytest

from lab.faults import Fault
from ops.stops import stopped_before
from resources.cratedb.client import CrateDBClient
from tests.console.conftest import changes_of, wait_for_line

SICK = 1840
REMEDY = """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0-1')"""


@dataclass(frozen=True)
class Waiting:
    """How to start a run that waits, and the table it waits for."""

    start: Any
    table: Any

    def __call__(self, *flags, **options):
        return self.start(*flags, **options)


@pytest.fixture
def waiting(caretaker, lab):
    """A run that waits for leases that never clear, and its table."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)

    def start(*flags, **options):
        process = caretaker.start("translogs", "--autoexec", *flags, **options)
        wait_for_line(process, "MONITORING_LEASES (attempt 1")
        assert lab.at_zero() == ["doc.metrics"]
        return process

    return Waiting(start, table)


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (os.kill, signal.SIGINT),
        (os.kill, signal.SIGTERM),
        (os.killpg, signal.SIGINT),
        (os.killpg, signal.SIGHUP),
    ],
    ids=["ctrl-c", "sigterm", "ctrl-c of a terminal", "a terminal that is closed"],
)
def test_once_stops_cleanly_and_puts_back(caretaker, waiting, send, number):
    """Exit code 3: something was begun and left undone, and every replica is back.

    A terminal sends Ctrl-C to every process of the group, those that carry logs among them.
    """
    process = waiting("--output", "json")

    send(process.pid, number)
    ended = caretaker.wait(process)

    assert ended.code == ended.json["exit_code"] == 3, ended.err
    assert ended.json["tables"][0]["outcome"] == "FAILED_RESTORED"
    assert ended.json["tables"][0]["final_replicas"] == "0-1"
    assert "Rollback successful for doc.metrics" in ended.err
    assert "Traceback" not in ended.err
    assert waiting.table.number_of_replicas == "0-1"
    with caretaker.store as store:
        assert store.open_tickets() == []


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGINT, 0), (signal.SIGINT, 2), (signal.SIGHUP, 0)],
    ids=["ctrl-c", "ctrl-c while the first is being heard", "it is closed"],
)
def test_what_a_terminal_sends_to_every_process_still_puts_back(caretaker, lab, number, seconds):
    """Several at once, a process each: a terminal sends it to all, and Dagster once more."""
    lab.faults.add(Fault("^ALTER", "latency", after_matches=2, seconds=seconds))
    tables = lab.tables(["doc.a", "doc.b"], replicas="1", sick_mb=SICK, leases_stuck=True)
    process = caretaker.start("translogs", "--autoexec", "--concurrent", "2")
    # Not the only look of the step before: the steps that wait are the ones to be told.
    waiting = "MONITORING_LEASES (attempt 1/10"
    read = wait_for_line(process, waiting)
    other = "doc.b" if f"doc.a: {waiting}" in read else "doc.a"
    wait_for_line(process, f"{other}: {waiting}")

    assert lab.most_at_zero == 2
    os.killpg(process.pid, number)
    ended = caretaker.wait(process)

    assert ended.code == 3, ended.err
    # To the last line: whatever Dagster has carry them to the terminal is hit by the Ctrl-C, too.
    for name in ("doc.a", "doc.b"):
        assert f"{name}: FAILED_RESTORED" in ended.err
    assert {table.number_of_replicas for table in tables} == {"1"}
    assert lab.at_zero() == []
    # What a step would have read that was only scheduled: Dagster tells it nothing.
    with caretaker.instance() as instance:
        (run,) = instance.get_runs()
        assert stopped_before(instance, run.run_id)


def test_a_stop_that_a_library_swallows_still_puts_back(caretaker, lab, monkeypatch):
    """Raised where somebody has an `except:` of his own, it is raised again."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)
    observe = CrateDBClient.observe
    told: list[int] = []

    def told_to_stop(*arguments, **options):
        seen = observe(*arguments, **options)
        if not told and lab.at_zero():
            told.append(1)
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
        return seen

    monkeypatch.setattr(CrateDBClient, "observe", told_to_stop)
    ended = caretaker("translogs", "--autoexec", "--max-wait", "20", "--output", "json")

    assert told
    assert ended.json["tables"][0]["outcome"] == "FAILED_RESTORED", ended.err
    assert "the run was stopped" in ended.json["tables"][0]["reason"]
    assert table.number_of_replicas == "0-1"


def test_sigterm_stops_a_command_that_a_shell_started_in_the_background(caretaker, waiting):
    """`caretaker ... &` in a script: SIGINT is ignored there, SIGTERM must not be."""
    process = waiting(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))

    process.terminate()

    assert caretaker.wait(process).code == 3
    assert waiting.table.number_of_replicas == "0-1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_twice_stops_at_once_and_leaves_the_ticket(caretaker, lab, waiting, number):
    """The restore hangs; who cannot wait gets the statement, the exit code 4 and a ticket."""
    process = waiting()
    lab.faults.add(Fault(match="^ALTER", action="hang"))
    lab.faults.add(Fault(match="^ALTER", action="hang"))
    sent = len(changes_of(lab))

    process.send_signal(number)
    while len(changes_of(lab)) == sent:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    ended = caretaker.wait(process)

    assert ended.code == 4, ended.err
    assert "NOT_RESTORED" in ended.out
    assert REMEDY in ended.out
    assert "Traceback" not in ended.err
    with caretaker.store as store:
        assert [ticket.original_replicas for ticket in store.open_tickets()] == ["0-1"]

    lab.faults.clear()
    waiting.table.leases_stuck = False
    assert caretaker("translogs", "--resume").code == 0
    assert waiting.table.number_of_replicas == "0-1"


def test_before_anything_was_touched_it_ends_with_1(caretaker, lab):
    """Ctrl-C in the preflight, whose step has a RetryPolicy: it is not started again."""
    lab.table("doc.metrics", sick_mb=SICK)
    lab.faults.add(Fault(match="sys.snapshots", action="hang"))
    process = caretaker.start("translogs", "--autoexec")
    while not any("sys.snapshots" in entry.stmt for entry in lab.journal):
        assert process.poll() is None
        time.sleep(0.02)
    asked = len(lab.journal)

    process.send_signal(signal.SIGINT)
    ended = caretaker.wait(process)

    ended.refused("stopped")
    assert len(lab.journal) == asked
    assert not changes_of(lab)


def test_a_reader_that_goes_away_changes_nothing(waiting):
    """`caretaker translogs --autoexec 2>&1 | head -1`."""
    process = waiting()
    process.stdout.close()
    process.stderr.close()

    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=120) == 3
    assert waiting.table.number_of_replicas == "0-1"
