"""Start a reset when a translog has grown too large, and say in words why not."""

# No postponed annotations here: Dagster reads those of a sensor as they stand.
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from caretaker.errors import CaretakerError
from caretaker.translog.detect import Finding
from caretaker.translog.model import MIB
from caretaker.translog.policy import ResetPolicy
from caretaker.translog.preflight import refusals
from ops.owners import death_seen_from
from ops.translog_look import Look, judge
from resources.clock import utc_now
from resources.cratedb.client import CrateDBClient
from resources.cratedb.resource import CrateDBResource
from resources.state_store.resource import StateStoreResource
from resources.state_store.store import StateStore
from sensors.live_runs import last_stopped, live_run

#: A tick has 60 s in all (DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS); a cluster that answers slower than
#: this is in no state for a reset.
STATEMENT_TIMEOUT_S = 10.0

#: An observation is an event that is kept for ever; sizes do not change that fast.
OBSERVE_EVERY = timedelta(minutes=5)

#: After a run that failed or was canceled: what refused it will refuse the next one, too.
PAUSE_AFTER_FAILURE = timedelta(minutes=10)

_MOST_NAMES = 5


@dg.sensor(
    job_name="translog_reset",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    tags={"caretaker/wing": "translog"},
    description=(
        "Looks at the translogs of all tables and starts translog_reset when one holds at least "
        "200 % of its threshold and the cluster can bear it. Each tick says what it saw. "
        "Off until switched on: it starts changes."
    ),
)
def translog_sizes(
    context: dg.SensorEvaluationContext, cratedb: CrateDBResource, state: StateStoreResource
) -> dg.SensorResult:
    """Look, and request one run or give the reason why not."""
    now, policy = utc_now(), ResetPolicy()
    try:
        store = state.store
        if reason := _why_not_look(context.instance, store, now):
            return dg.SensorResult(skip_reason=reason)
        with CrateDBClient(_impatient(cratedb)) as crate:
            connected = crate.connect()
            look = judge(
                connected.cluster_id,
                connected.cluster_name,
                crate.observe_tables(),
                store,
                policy,
                now,
            )
            reason = _why_not_reset(context.instance, store, crate, look, policy)
    except CaretakerError as error:
        return dg.SensorResult(skip_reason=f"{error}{f' ({error.hint})' if error.hint else ''}")
    last = _last_look(context.cursor)
    due = now - _moment(last.get("observed_at")) >= OBSERVE_EVERY
    observed_at = now.isoformat() if due else last.get("observed_at")
    return dg.SensorResult(
        skip_reason=reason or None,
        run_requests=[] if reason else [_request(look)],
        cursor=json.dumps(
            {**_figures(look), "looked_at": now.isoformat(), "observed_at": observed_at}
        ),
        asset_events=[dg.AssetObservation("crate_tables", metadata=_figures(look))] if due else [],
    )


def _impatient(cratedb: CrateDBResource) -> Any:
    settings = cratedb.settings
    timeout_s = min(settings.statement_timeout_s, STATEMENT_TIMEOUT_S)
    return replace(settings, statement_timeout_s=timeout_s)


def _why_not_look(instance: dg.DagsterInstance, store: StateStore, now: datetime) -> str:
    """Return what makes a look pointless; asked before CrateDB is."""
    if run := live_run(instance, "translog_reset", store.open_tickets(), now):
        return f"reset run {run.run_id} is {run.status.value.lower()}"
    if run := last_stopped(instance, "translog_reset", PAUSE_AFTER_FAILURE, now):
        minutes = PAUSE_AFTER_FAILURE // timedelta(minutes=1)
        return (
            f"reset run {run.run_id} ended as {run.status.value}; "
            f"the next one is not started within {minutes} minutes of that"
        )
    return ""


def _why_not_reset(
    instance: dg.DagsterInstance,
    store: StateStore,
    crate: CrateDBClient,
    look: Look,
    policy: ResetPolicy,
) -> str:
    """Return why a run would have nothing to do, or would refuse."""
    selection = look.selection
    if not selection.chosen and not selection.skipped:
        return _calm(look, policy)
    if not selection.chosen:
        named = [f"{finding.target}: {reason}" for finding, reason in selection.skipped]
        return f"{len(named)} found, none to reset now: {_listed(named)}"
    lock = store.lock(look.cluster_id)
    if lock is not None and not death_seen_from(instance)(lock.owner, lock.heartbeat_at):
        return f"the cluster is held by run {lock.owner.run_id} for {lock.purpose}"
    if look.open_tickets:
        ticket = look.open_tickets[0]
        return f"{ticket.target} waits to be restored first (ticket {ticket.id})"
    refused = refusals(crate.observe_cluster(), policy)
    if refused:
        return (
            f"{len(selection.chosen)} to reset, such as {_named(selection.chosen[0])}; "
            f"a run would refuse: {'; '.join(refused)}"
        )
    return ""


def _request(look: Look) -> dg.RunRequest:
    chosen = look.selection.chosen
    return dg.RunRequest(
        run_config={},
        tags={
            "caretaker/found": str(len(chosen)),
            "caretaker/tables": _listed([_named(finding) for finding in chosen]),
        },
    )


def _calm(look: Look, policy: ResetPolicy) -> str:
    worst = look.worst
    if worst is None:
        return "no table was seen: there is none, or the user may not see any"
    fullest = f"{worst.target} at {worst.percentage:.0f} %"
    if look.findings:
        return (
            f"{len(look.findings)} above their threshold, none of them at "
            f"{policy.percentage} % of it; the worst is {fullest}"
        )
    return f"nothing above its threshold; the fullest of {len(look.sizes)} is {fullest}"


def _figures(look: Look) -> dict[str, Any]:
    return {
        "tables_observed": len(look.sizes),
        "tables_over_threshold": len(look.findings),
        "worst_percentage": round(look.worst.percentage, 1) if look.worst else 0.0,
        "worst_table": str(look.worst.target) if look.worst else "",
        "total_uncommitted_mb": round(look.replica_bytes / MIB, 1),
    }


def _last_look(cursor: str | None) -> dict[str, Any]:
    """Return what the last tick wrote; a cursor that somebody edited in the UI counts as none."""
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.fromtimestamp(0).astimezone()
    return moment if moment.tzinfo else moment.astimezone()


def _named(finding: Finding) -> str:
    return f"{finding.target} ({finding.percentage:.0f} %)"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return "; ".join(names[:_MOST_NAMES]) + (f"; and {more} more" if more > 0 else "")
