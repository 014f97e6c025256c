"""Who is dead, so that the promise may be taken over; and who only looks like it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from caretaker.ownership import Signs, describe, is_dead
from tests.translog.observed import NOW, OWNER

FRESH = NOW - timedelta(seconds=30)
STALE = NOW - timedelta(seconds=30, microseconds=1)

SILENT = NOW - timedelta(seconds=300)
ABANDONED = NOW - timedelta(seconds=300, microseconds=1)
AHEAD = NOW + timedelta(seconds=30)
FAR_AHEAD = NOW + timedelta(seconds=30, microseconds=1)

HERE_AND_GONE = {"same_host": True, "process_alive": False}
HERE_AND_ALIVE = {"same_host": True, "process_alive": True}
HERE_UNKNOWN = {"same_host": True, "process_alive": None}
ELSEWHERE = {"same_host": False, "process_alive": None}


@pytest.mark.parametrize(
    ("heartbeat_at", "run_finished", "process", "dead"),
    [
        (FRESH, False, HERE_AND_GONE, True),
        (FRESH, None, HERE_AND_GONE, True),
        (FRESH, True, ELSEWHERE, False),
        (STALE, True, ELSEWHERE, True),
        (None, True, ELSEWHERE, True),
        (STALE, False, ELSEWHERE, False),
        (STALE, None, ELSEWHERE, False),
        (None, False, ELSEWHERE, False),
        (FRESH, True, HERE_AND_ALIVE, False),
        (STALE, False, HERE_AND_ALIVE, False),
        (STALE, True, HERE_AND_ALIVE, True),
        (STALE, False, HERE_UNKNOWN, False),
        (STALE, True, HERE_UNKNOWN, True),
        (FRESH, False, {"same_host": False, "process_alive": False}, False),
        (SILENT, False, ELSEWHERE, False),
        (ABANDONED, False, ELSEWHERE, True),
        (ABANDONED, False, HERE_AND_ALIVE, True),
        (AHEAD, True, ELSEWHERE, False),
        (FAR_AHEAD, True, ELSEWHERE, True),
        (FAR_AHEAD, False, ELSEWHERE, False),
    ],
    ids=[
        "its process is gone",
        "its process is gone, whatever Dagster says",
        "finished, and beat 30 s ago",
        "finished, and silent for more than 30 s",
        "finished, and never beat",
        "silent, and Dagster says it runs",
        "silent, and Dagster cannot tell",
        "never beat, and Dagster says it runs",
        "Dagster called it off, and it still works",
        "alive and suspended",
        "alive here, and both say it is over",
        "silent, and the pid cannot be told",
        "over and silent, and the pid cannot be told",
        "a pid of another host means nothing here",
        "silent for 300 s, and Dagster says it runs",
        "silent for longer, whatever Dagster says",
        "silent for longer, whatever its process looks like",
        "over, and its clock a little ahead",
        "over, and its clock so far ahead that its heartbeat says nothing",
        "its clock far ahead, and Dagster says it runs",
    ],
)
def test_who_is_dead(heartbeat_at, run_finished, process, dead):
    signs = Signs(run_finished=run_finished, **process)
    assert is_dead(heartbeat_at, NOW, signs) is dead


def test_an_owner_is_named_by_run_process_and_host():
    assert describe(OWNER) == "run run-1 (pid 4711 on host-a)"
