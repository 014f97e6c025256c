"""Which runs of a job are at work, told from those that only look like it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import dagster as dg

from caretaker.translog.model import ResetTicket
from ops.owners import death_seen_from

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


def live_run(
    instance: dg.DagsterInstance, job_name: str, tickets: Iterable[ResetTicket], now: datetime
) -> dg.DagsterRun | None:
    """Return a run of this job that is at work, or None.

    An unfinished status is no proof: a run whose code server was killed stays STARTED for ever
    (dagster.md, trap 3). Its tickets tell: it is at work while the owner of one lives, and gone,
    however young, when the owners of all are dead; a table at 0 replicas must not wait for it.
    """
    seen_dead = death_seen_from(instance)
    at_work: set[str] = set()
    gone: set[str] = set()
    for ticket in tickets:
        dead = seen_dead(ticket.owner, ticket.heartbeat_at)
        (gone if dead else at_work).add(ticket.owner.run_id)
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
