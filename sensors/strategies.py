"""Start a cycle when a cluster stands idle, or when a query has found it suspended."""

# No postponed annotations here: Dagster reads those of a sensor as they stand.
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from caretaker.errors import CaretakerError
from caretaker.strategies.cycle import ClusterPlan, Observed, plan
from caretaker.strategies.policy import Mode, StrategiesPolicy
from ops.shown import named
from ops.strategies_cycle import observe
from ops.strategies_lock import controller_of
from ops.strategies_standing import standing_options
from resources.clock import utc_now
from resources.materialize.resource import MaterializeResource
from resources.state_store.resource import StateStoreResource
from sensors.live_runs import end_ghosts, live_run

_JOB = "cluster_strategies"

#: A tick has 60 s in all (DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS).
STATEMENT_TIMEOUT_S = 10.0

#: An observation is an event that is kept for ever.
OBSERVE_EVERY = timedelta(minutes=5)

#: What was asked for, and is still to be done as it was: again after this, then twice as long.
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=30)

_CLUSTERS = dg.AssetKey("materialize_clusters")


@dataclass(frozen=True)
class Asked:
    """What a run was started for, and when.

    Attributes:
        what: Names the actions: the same ones are the same.
        times: Runs that were started for it so far.
    """

    what: str
    at: datetime
    times: int

    def due(self, now: datetime) -> bool:
        """Whether it is time to ask again: what has refused it will refuse it once more."""
        doubled: int = 2 ** min(self.times - 1, 10)
        pause = min(FIRST_PAUSE * doubled, LONGEST_PAUSE)
        return now - self.at >= pause


@dg.sensor(
    job_name=_JOB,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.STOPPED,
    tags={"caretaker/wing": "strategies"},
    description=(
        "Looks at clusters that have strategies, and starts cluster_strategies when one stands "
        "idle, when a query failed because its cluster is suspended, or when something else is to "
        "be done. Each tick says what it saw. Off until switched on: it starts changes."
    ),
)
def cluster_idleness(
    context: dg.SensorEvaluationContext, materialize: MaterializeResource, state: StateStoreResource
) -> dg.SensorResult:
    """Look and decide, read-only, and request a run for what is to be done."""
    if not materialize.url:
        return dg.SensorResult(skip_reason="not configured: DATABASE_URL is not set")
    now, memory = utc_now(), _remembered(context.cursor)
    try:
        locks = state.store.held_locks()
        end_ghosts(context.instance, locks)
        if run := live_run(context.instance, _JOB, locks, now):
            reason = f"run {run.run_id} is {run.status.value.lower()}"
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
        options = standing_options()
        policy = StrategiesPolicy.checked(**{**options, "mode": Mode.DRY_RUN})
        observed = _look(materialize, policy, controller_of(state.store))
    except CaretakerError as error:
        reason = f"{error}{f' ({error.hint})' if error.hint else ''}"
        return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
    planned = plan(observed, policy)
    wanted = {one.name: one for one in planned.clusters if one.actions}
    due = {
        name: one
        for name, one in wanted.items()
        if (asked := memory.asked.get(name)) is None or asked.what != _what(one) or asked.due(now)
    }
    observe_now = now - memory.observed_at >= OBSERVE_EVERY
    kept = {name: asked for name, asked in memory.asked.items() if name in wanted}
    cursor = _Memory(
        {**kept, **{name: _ask(one, memory, now) for name, one in due.items()}},
        now if observe_now else memory.observed_at,
    )
    return dg.SensorResult(
        skip_reason=None if due else _why_not(planned.clusters, wanted, observed),
        run_requests=[_request(due, wanted, options)] if due else [],
        cursor=cursor.text(),
        asset_events=[_observation(observed)] if observe_now else [],
    )


def _look(materialize: MaterializeResource, policy: StrategiesPolicy, controller: str) -> Observed:
    """Look as the run would: nobody with our lock is at work now, so what it left open is over."""
    impatient = materialize.model_copy(
        update={"timeout_s": min(materialize.timeout_s, STATEMENT_TIMEOUT_S)}
    )
    with impatient.open() as source:
        store = impatient.store(source)
        try:
            return observe(source, store, policy, controller=controller)
        finally:
            store.close()


def _request(
    due: dict[str, ClusterPlan], wanted: dict[str, ClusterPlan], options: dict[str, Any]
) -> dg.RunRequest:
    run_config = {**options, "mode": "apply"}
    if due.keys() != wanted.keys():
        # The others were asked for a moment ago.
        run_config["cluster"] = f"^({'|'.join(map(re.escape, sorted(due)))})$"
    return dg.RunRequest(
        run_config=run_config,
        tags={
            "caretaker/clusters": named(sorted(due)),
            "caretaker/why": "; ".join(_why(one) for one in list(due.values())[:3])[:250],
        },
    )


def _why(one: ClusterPlan) -> str:
    """Say why a run is started for a cluster, as its tag has it."""
    action = one.actions[0]
    activity = one.case["signals"]["activity"]
    used = activity["last_at"] if activity else None
    if not one.case["cluster"]["replicas"] and action["op"] != "drop" and used:
        return f"{one.name}: woken, used at {used[:19]} while it was suspended"
    return f"{one.name}: {action['strategy']}: {action['reason']}"


def _why_not(
    clusters: list[ClusterPlan], wanted: dict[str, ClusterPlan], observed: Observed
) -> str:
    if wanted:
        return f"asked for a moment ago, and still to be done: {named(sorted(wanted))}"
    if not clusters:
        return "; ".join(observed.warnings) or "no cluster has a strategy"
    suspended = sorted(one.name for one in clusters if _is_suspended(one))
    held = [
        f"{one.name}: {each['reason']}"
        for one in clusters
        if one.name not in suspended
        for each in one.result["held"]
    ]
    count = f"{len(clusters):,} cluster{'s'[: len(clusters) > 1]} with strategies"
    said = f"nothing to do for {count}"
    if suspended:
        said += f"; suspended: {named(suspended)}"
    if held:
        said += f"; held: {named(held)}"
    return said


def _is_suspended(one: ClusterPlan) -> bool:
    types = {row["type"] for row in one.case["strategies"]}
    return "idle_suspend" in types and not one.case["cluster"]["replicas"]


def _observation(observed: Observed) -> dg.AssetObservation:
    clusters = [one for one in observed.clusters if one["id"].startswith("u")]
    prices = {row["size"]: row["credits_per_hour"] or 0.0 for row in observed.sizes}
    replicas = [one for cluster in clusters for one in cluster["replicas"]]
    return dg.AssetObservation(
        _CLUSTERS,
        metadata={
            "clusters": len(clusters),
            "clusters with strategies": len(observed.strategies),
            "replicas": len(replicas),
            "credits per hour": round(sum(prices.get(one["size"], 0.0) for one in replicas), 3),
        },
    )


# --- what the last ticks asked for ----------------------------------------------------------------


def _what(one: ClusterPlan) -> str:
    actions = [each["sql"] for each in one.actions]
    return hashlib.sha256(json.dumps(actions).encode()).hexdigest()[:12]


def _ask(one: ClusterPlan, memory: "_Memory", now: datetime) -> Asked:
    what, before = _what(one), memory.asked.get(one.name)
    again = before is not None and before.what == what
    return Asked(what, now, before.times + 1 if before is not None and again else 1)


@dataclass(frozen=True)
class _Memory:
    asked: dict[str, Asked]
    observed_at: datetime

    def text(self) -> str:
        """Return it as a cursor."""
        asked = {
            name: [one.what, one.at.isoformat(), one.times] for name, one in self.asked.items()
        }
        return json.dumps({"asked": asked, "observed_at": self.observed_at.isoformat()})


def _remembered(cursor: str | None) -> _Memory:
    """Return what the last tick wrote; a cursor that somebody edited in the UI counts as none."""
    long_ago = datetime.fromtimestamp(0).astimezone()
    try:
        found = json.loads(cursor or "{}")
        asked = {
            str(name): Asked(str(what), _aware(at), int(times))
            for name, (what, at, times) in found.get("asked", {}).items()
        }
        return _Memory(asked, _aware(found.get("observed_at", long_ago.isoformat())))
    except (ValueError, TypeError, AttributeError):
        return _Memory({}, long_ago)


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.astimezone()
