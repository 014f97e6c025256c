"""Keeps exactly one binlog_sync alive, and respects the operator who stopped it."""

# No postponed annotations here: Dagster reads those of a sensor as they stand.
import os
import socket
from datetime import UTC, datetime

import dagster as dg

from caretaker.binlog.policy import SyncPolicy
from caretaker.binlog.supervision import Ended, Ending, Fail, Life, Running, Start, decide
from caretaker.errors import CaretakerError, TransientError
from ops.binlog_standing import RESUMED, standing_options
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
    running, ended = _runs(context.instance)
    try:
        options = standing_options(context.instance)
        source = str(options.get("source", SyncPolicy.source))
        decision = decide(running, ended, _life(mongodb, source), utc_now())
    except CaretakerError as error:
        return dg.SensorResult(skip_reason=str(error))
    if isinstance(decision, Start):
        request = dg.RunRequest(run_key=decision.run_key, run_config=options)
        return dg.SensorResult(run_requests=[request])
    if isinstance(decision, Fail):
        run = context.instance.get_run_by_id(decision.run_id)
        if run is not None:
            # Its process, if there is one, finds out within 5 s, and its commits are fenced anyway.
            context.instance.report_run_failed(run, decision.reason)
    return dg.SensorResult(skip_reason=decision.reason)


def _runs(instance: dg.DagsterInstance) -> tuple[list[Running], list[Ended]]:
    running, ended = [], []
    # Not those to a position only: nobody expects them to be there for ever.
    records = instance.get_run_records(dg.RunsFilter(job_name=_JOB), limit=_LOOKED_AT)
    for record in records:
        run = record.dagster_run
        how = _ENDINGS.get(run.status)
        if how is None:
            started = _moment(record.start_time)
            running.append(Running(run.run_id, run.status.value.lower(), started))
        else:
            at = _moment(record.end_time) or record.update_timestamp
            lived_s = (record.end_time or 0.0) - (record.start_time or record.end_time or 0.0)
            ended.append(Ended(run.run_id, how, at, RESUMED in run.tags, lived_s))
    return running, ended


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
