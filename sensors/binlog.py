"""Keeps exactly one binlog_sync alive, and respects the operator who stopped it."""

# No postponed annotations here: Dagster reads those of a sensor as they stand.
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import dagster as dg

from caretaker.binlog.policy import SyncPolicy
from caretaker.binlog.supervision import (
    Ended,
    Ending,
    Fail,
    Life,
    Running,
    Start,
    Suspect,
    Suspicion,
    decide,
)
from caretaker.errors import CaretakerError, TransientError
from ops.binlog_observing import BINLOG_OFFSETS
from ops.binlog_standing import RESUMED, for_a_trail, standing_options
from resources.clock import utc_now
from resources.mongodb.offsets import Holder
from resources.mongodb.resource import MongoDBResource
from resources.mongodb.settings import DATABASE, URI
from resources.mysql.settings import MYSQL_URL

_JOB = "binlog_sync"
_NEEDED = (MYSQL_URL, URI, DATABASE)
_ENDINGS = {
    dg.DagsterRunStatus.SUCCESS: Ending.SUCCESS,
    dg.DagsterRunStatus.FAILURE: Ending.FAILURE,
    dg.DagsterRunStatus.CANCELED: Ending.CANCELED,
}
#: Enough to count failures up to the longest pause.
_LOOKED_AT = 10
_PAGE = 100
#: A run that lived shorter has no two observations that differ.
_OBSERVED_AFTER_S = 30.0
#: Observations at either end of a run: a look is two, and the first ones may know no position yet.
_OBSERVED = 10


@dg.sensor(
    job_name=_JOB,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags={"caretaker/wing": "binlog"},
    description=(
        "Starts binlog_sync when none lives, with growing pauses after failures; fails a run that "
        "gives no sign of life. A run that an operator terminated or paused is left alone until "
        "somebody resumes. On by default: it changes nothing but the audit trail."
    ),
)
def binlog_supervisor(
    context: dg.SensorEvaluationContext, mongodb: MongoDBResource
) -> dg.SensorResult:
    """Decide once: start one, give one up, or say why not."""
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        return dg.SensorResult(skip_reason=f"not configured: {', '.join(missing)} is not set")
    instance, memory = context.instance, Memory.of(context.cursor)
    life = Life(reachable=False)
    try:
        options = standing_options(instance)
        source = str(options.get("source", SyncPolicy.source))
        life = _life(mongodb, source)
        ended = _ended(instance, source, wrote=life.reachable and memory.outgrown(life.seq))
        running = _running(instance, source)
        decision = decide(running, ended, life, utc_now(), memory.suspicion)
    except CaretakerError as error:
        return dg.SensorResult(skip_reason=str(error), cursor=memory.unsuspecting().text())
    if isinstance(decision, Start):
        if "start" in options and not life.reachable:
            # Only the trail knows whether it is to begin there, or has begun.
            return dg.SensorResult(
                skip_reason="MongoDB does not say where to start",
                cursor=memory.unsuspecting().text(),
            )
        config = for_a_trail(options, begun=life.begun)
        request = dg.RunRequest(run_key=decision.run_key, run_config=config)
        started = Memory(started_at=life.seq if life.reachable else None)
        return dg.SensorResult(run_requests=[request], cursor=started.text())
    if isinstance(decision, Suspect):
        suspecting = Memory(decision.suspicion, memory.started_at)
        return dg.SensorResult(skip_reason=decision.reason, cursor=suspecting.text())
    if isinstance(decision, Fail):
        run = instance.get_run_by_id(decision.run_id)
        if run is not None:
            # Its process, if there is one, finds out within 5 s, and its commits are fenced anyway.
            instance.report_run_failed(run, decision.reason)
    return dg.SensorResult(skip_reason=decision.reason, cursor=memory.unsuspecting().text())


@dataclass(frozen=True)
class Memory:
    """What one look tells the next, as the sensor's cursor.

    Attributes:
        started_at: The trail's seq when the last run was started; None where that is not known.
    """

    suspicion: Suspicion | None = None
    started_at: int | None = None

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        """Read a cursor; of another version, or of none, nothing is remembered."""
        try:
            told = json.loads(cursor or "{}")
            seen_at, started_at = told.get("seen_at"), told.get("started_at")
            suspicion = "since" in told and Suspicion(
                str(told["run_id"]),
                None if seen_at is None else datetime.fromisoformat(seen_at),
                datetime.fromisoformat(told["since"]),
            )
            return cls(suspicion or None, None if started_at is None else int(started_at))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def unsuspecting(self) -> Self:
        """Return what is left of it when the suspicion is taken back."""
        return replace(self, suspicion=None)

    def outgrown(self, seq: int) -> bool:
        """Say whether the trail has grown since the last run was started."""
        return self.started_at is not None and seq > self.started_at

    def text(self) -> str:
        """Return the cursor; never an empty one, which would leave the one before in place."""
        told: dict[str, object] = {"started_at": self.started_at}
        if self.suspicion is not None:
            seen_at = self.suspicion.seen_at
            told |= {
                "run_id": self.suspicion.run_id,
                "seen_at": None if seen_at is None else seen_at.isoformat(),
                "since": self.suspicion.since.isoformat(),
            }
        return json.dumps(told)


def _running(instance: dg.DagsterInstance, source: str) -> list[Running]:
    """Return the runs of a source that are not over; those to a position, too: they write."""
    statuses = [status for status in dg.DagsterRunStatus if status not in _ENDINGS]
    records = instance.get_run_records(dg.RunsFilter(job_name=_JOB, statuses=statuses))
    return [
        Running(
            record.dagster_run.run_id,
            record.dagster_run.status.value.lower(),
            _moment(record.start_time),
        )
        for record in records
        if _source(record.dagster_run) == source
    ]


def _ended(instance: dg.DagsterInstance, source: str, *, wrote: bool) -> list[Ended]:
    """Return the newest standing runs of a source that are over, the last to end first.

    Not those to a position only: nobody expects them to be there for ever. `wrote` is what the
    trail says of the last one to end: killed, it may have had no time to observe anything.
    """
    found: list[Ended] = []
    for record in _over(instance):
        run = record.dagster_run
        if _source(run) != source or run.run_config.get("until_current"):
            continue
        at = _moment(record.end_time) or record.update_timestamp
        lived_s = (record.end_time or 0.0) - (record.start_time or record.end_time or 0.0)
        grew = lived_s >= _OBSERVED_AFTER_S and _wrote(instance, run.run_id)
        found.append(Ended(run.run_id, _ENDINGS[run.status], at, RESUMED in run.tags, grew))
        if len(found) >= _LOOKED_AT:
            break
    found.sort(key=lambda each: each.at, reverse=True)
    return [replace(each, wrote=each.wrote or wrote) for each in found[:1]] + found[1:]


def _over(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """Yield the runs that are over, newest first: those of other sources may be many."""
    cursor = None
    while True:
        records = instance.get_run_records(
            dg.RunsFilter(job_name=_JOB, statuses=list(_ENDINGS)), limit=_PAGE, cursor=cursor
        )
        yield from records
        if len(records) < _PAGE:
            return
        cursor = records[-1].dagster_run.run_id


def _source(run: dg.DagsterRun) -> str:
    return str(run.run_config.get("source", SyncPolicy.source))


def _wrote(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Say whether a run left the trail longer than it found it, by what it observed."""
    ends = [_seq_of(instance, run_id, ascending=ascending) for ascending in (True, False)]
    return None not in ends and ends[0] != ends[1]


def _seq_of(instance: dg.DagsterInstance, run_id: str, *, ascending: bool) -> object:
    events = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION, limit=_OBSERVED, ascending=ascending
    )
    for record in events.records:
        seen = record.event_log_entry.asset_observation
        # Before the trail was taken nothing was known of its end.
        if seen is not None and seen.asset_key == BINLOG_OFFSETS and "file" in seen.metadata:
            return seen.metadata["seq"].value
    return None


def _life(mongodb: MongoDBResource, source: str) -> Life:
    try:
        with mongodb.reading() as trail:
            offset = trail.offset(source)
    except TransientError:
        return Life(reachable=False)
    return Life(
        reachable=True,
        holder_run_id=offset.holder.run_id if offset.holder is not None else "",
        seen_at=offset.at,
        paused=f"{offset.paused.by}: {offset.paused.reason}" if offset.paused is not None else "",
        gone=_gone(offset.holder),
        begun=offset.checkpoint is not None,
        seq=0 if offset.checkpoint is None else offset.checkpoint.seq,
    )


def _gone(holder: Holder | None) -> str:
    """Say that a holder's process has ended, where that can be seen from here."""
    if holder is None or not holder.pid or holder.host != socket.gethostname():
        return ""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return f"there is no process {holder.pid} on {holder.host} any more"
    except OSError:
        return ""
    return ""


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
