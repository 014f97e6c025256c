"""Which runs of a job are at work, told from those that only look like it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

import dagster as dg

from caretaker.translog.model import Owner
from ops.owners import death_seen_from, end_ghost

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STOPPED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

#: A younger run is believed: it may still be connecting, and has no ticket to show.
BELIEVED_FOR = timedelta(minutes=10)


class Holder(Protocol):
    """A ticket or a lock: whose it is, and when that was last heard of."""

    @property
    def owner(self) -> Owner:
        """Whose it is."""

    @property
    def heartbeat_at(self) -> datetime | None:
        """When its owner was last heard of."""


def live_run(
    instance: dg.DagsterInstance, job_name: str, holders: Iterable[Holder], now: datetime
) -> dg.DagsterRun | None:
    """Return a run of this job that is at work, or None.

    An unfinished status is no proof: a run whose code server was killed stays STARTED for ever
    (dagster.md, trap 3). Its tickets or locks tell: it is at work while the owner of one lives,
    and gone, however young, when the owners of all are dead; a table at 0 replicas must not wait
    for it.
    """
    seen_dead = death_seen_from(instance)
    at_work: set[str] = set()
    gone: set[str] = set()
    for holder in holders:
        dead = seen_dead(holder.owner, holder.heartbeat_at)
        (gone if dead else at_work).add(holder.owner.run_id)
    for record in instance.get_run_records(
        dg.RunsFilter(job_name=job_name, statuses=_UNFINISHED), limit=50
    ):
        run = record.dagster_run
        if run.run_id in gone - at_work:
            continue
        queued = run.status is dg.DagsterRunStatus.QUEUED
        if queued or now - record.create_timestamp < BELIEVED_FOR or run.run_id in at_work:
            return run
    return None


def end_ghosts(instance: dg.DagsterInstance, holders: Iterable[Holder]) -> list[str]:
    """Tell Dagster that runs whose owners are all dead have ended; return their ids.

    Such a run would stay STARTED for ever (dagster.md, trap 3), and a run that may exist once only
    would wait in the queue behind it as long. A run of which one owner lives is at work.
    """
    seen_dead = death_seen_from(instance)
    gone: dict[str, Holder] = {}
    at_work: set[str] = set()
    for holder in holders:
        if seen_dead(holder.owner, holder.heartbeat_at):
            gone[holder.owner.run_id] = holder
        else:
            at_work.add(holder.owner.run_id)
    return [
        run_id
        for run_id in sorted(gone.keys() - at_work)
        if end_ghost(instance, gone[run_id].owner, gone[run_id].heartbeat_at)
    ]


def last_stopped(
    instance: dg.DagsterInstance, job_name: str, within: timedelta, now: datetime
) -> dg.DagsterRun | None:
    """Return the newest run of this job if it failed or was canceled not longer ago than that."""
    newest = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=1)
    if not newest or newest[0].dagster_run.status not in _STOPPED:
        return None
    ended = newest[0].end_time
    recent = ended is not None and now.timestamp() - ended < within.total_seconds()
    return newest[0].dagster_run if recent else None
