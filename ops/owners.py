"""Whose run this is, and whether another run is still there, seen from here."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import datetime

import dagster as dg

from caretaker.ownership import Signs, describe, is_dead
from caretaker.translog.model import Owner
from resources import process
from resources.clock import utc_now
from resources.state_store import StateStore

#: A run that has a ticket or a lock has left the queue: these are what Dagster calls it then.
_SHOWN_AT_WORK = frozenset(
    {
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    }
)
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


def lost_the_lock(store: StateStore, owner: Owner, cluster_id: str) -> list[str]:
    """Return why this run may not go on: it looked dead, and another has the cluster."""
    lock = store.lock(cluster_id)
    if lock is not None and lock.owner.run_id == owner.run_id:
        return []
    holder = f"run {lock.owner.run_id} has it" if lock is not None else "nobody has it"
    return [f"the lock of the cluster is no longer ours: {holder}"]


def death_seen_from(instance: dg.DagsterInstance) -> Callable[[Owner, datetime | None], bool]:
    """Return a judge that tells whether an owner, last heard of at a time, is dead."""

    def judge(owner: Owner, heartbeat_at: datetime | None) -> bool:
        return is_dead(heartbeat_at, utc_now(), _signs(owner, instance))

    return judge


def end_ghost(instance: dg.DagsterInstance, owner: Owner, heartbeat_at: datetime | None) -> bool:
    """Tell Dagster that a run has ended which it shows at work and whose owner is dead.

    Such a run would stay STARTED for ever (dagster.md, trap 3), and take the place of another. It
    has failed; one that an operator had terminated is canceled, which whoever finishes its work
    obeys.
    """
    run = instance.get_run_by_id(owner.run_id)
    if run is None or run.status not in _SHOWN_AT_WORK:
        return False
    if not death_seen_from(instance)(owner, heartbeat_at):
        return False
    text = f"caretaker: nobody is at work on it any more: {describe(owner)} is dead"
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, text)
    else:
        instance.report_run_failed(run, text)
    return True


def _signs(owner: Owner, instance: dg.DagsterInstance) -> Signs:
    here = process.is_here(owner)
    run = instance.get_run_by_id(owner.run_id)
    finished = run is None or run.status in _FINISHED
    alive = process.is_alive(owner) if here else None
    if alive and finished and owner.pid == os.getpid():
        # The command line runs one job after another in one process: that run ended, we live on.
        alive = False
    return Signs(run_finished=finished, same_host=here, process_alive=alive)
