"""The decommission wing's sensor: it finishes what a dead run began, and begins nothing."""

# No postponed annotations here: Dagster reads those of a sensor as they stand.
from datetime import datetime

import dagster as dg

from caretaker.errors import CaretakerError
from ops.owners import death_seen_from
from resources.clock import utc_now
from resources.state_store import RestartRow
from resources.state_store.resource import StateStoreResource
from sensors.live_runs import BELIEVED_FOR, end_ghosts
from sensors.translog import turn

_JOB = "rolling_restart"

#: Tag of a run that takes a restart over.
TAKES_OVER = "caretaker/restart"

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job_name=_JOB,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags={"caretaker/wing": "decommission"},
    description=(
        "Starts rolling_restart for every restart whose run is dead: it sees a drain that is in "
        "flight to its end, puts back allocation and every other setting, and resumes with the "
        "pods that are left; again, with growing pauses, where that could not be done. Asks the "
        "state store only. On by default: it begins nothing that nobody asked for."
    ),
)
def restart_open_tickets(
    context: dg.SensorEvaluationContext, state: StateStoreResource
) -> dg.SensorResult:
    """Request a takeover for each abandoned restart whose turn it is."""
    now = utc_now()
    try:
        rows = state.store.open_restarts()
    except CaretakerError as error:
        return dg.SensorResult(skip_reason=str(error))
    if not rows:
        return dg.SensorResult(skip_reason="no restart is open")
    if ghosts := end_ghosts(context.instance, rows):
        context.log.warning("called off, because nobody is at work on it: %s", ", ".join(ghosts))
    requests = [
        _request(row, (now - since).total_seconds())
        for row in rows
        if (since := _abandoned_since(context.instance, row, now)) is not None
        and not _is_being_taken_over(context.instance, row, now)
    ]
    if not requests:
        return dg.SensorResult(skip_reason=f"{len(rows)} open, of runs that live or not due yet")
    return dg.SensorResult(run_requests=requests)


def _abandoned_since(
    instance: dg.DagsterInstance, row: RestartRow, now: datetime
) -> datetime | None:
    """Return since when a restart waits for somebody; None where it does not, or not yet."""
    if row.next_try_at is not None:
        return row.next_try_at if row.next_try_at <= now else None
    dead = death_seen_from(instance)(row.owner, row.heartbeat_at)
    return row.heartbeat_at if dead else None


def _is_being_taken_over(instance: dg.DagsterInstance, row: RestartRow, now: datetime) -> bool:
    records = instance.get_run_records(
        dg.RunsFilter(job_name=_JOB, tags={TAKES_OVER: f"r{row.id}"}, statuses=_UNFINISHED),
        limit=10,
    )
    return any(
        # The owner that is dead may itself have been such a run.
        record.dagster_run.run_id != row.owner.run_id
        and (
            record.dagster_run.status is dg.DagsterRunStatus.QUEUED
            or now - record.create_timestamp < BELIEVED_FOR
        )
        for record in records
    )


def _request(row: RestartRow, waited_s: float) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"restart-{row.id}-{row.epoch}-{row.attempts}-{turn(waited_s)}",
        run_config={"ticket_id": row.id},
        tags={TAKES_OVER: f"r{row.id}", "caretaker/cluster": str(row.cluster)},
    )
