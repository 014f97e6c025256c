"""Whose run this is, and whether another run is still there, seen from here."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import datetime

import dagster as dg

from caretaker.ownership import Signs, is_dead
from caretaker.translog.model import Owner
from resources import process
from resources.clock import utc_now

_FINISHED = frozenset(
    {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
)


def owner_of(run_id: str, *, a_process_each: bool) -> Owner:
    """Return the owner record of the run that is executing this step.

    Where each step has a process of its own, the process to look for is the run's, which outlives
    the steps; it is the parent even when a fork server made the child.
    """
    parent = multiprocessing.parent_process() if a_process_each else None
    pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
    return process.owner_of_run(run_id, pid)


def death_seen_from(instance: dg.DagsterInstance) -> Callable[[Owner, datetime | None], bool]:
    """Return a judge that tells whether an owner, last heard of at a time, is dead."""

    def judge(owner: Owner, heartbeat_at: datetime | None) -> bool:
        return is_dead(heartbeat_at, utc_now(), _signs(owner, instance))

    return judge


def _signs(owner: Owner, instance: dg.DagsterInstance) -> Signs:
    here = process.is_here(owner)
    run = instance.get_run_by_id(owner.run_id)
    finished = run is None or run.status in _FINISHED
    alive = process.is_alive(owner) if here else None
    if alive and finished and owner.pid == os.getpid():
        # The command line runs one job after another in one process: that run ended, we live on.
        alive = False
    return Signs(run_finished=finished, same_host=here, process_alive=alive)
