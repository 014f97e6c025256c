"""The strategies wing in the lineage: Materialize's clusters, what is known, wanted and done."""

# No postponed annotations here: Dagster reads those of an asset as they stand.
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dagster as dg

from assets.frames import column_schema, frame, frame_type
from caretaker.strategies.cycle import Observed, Plan, plan
from caretaker.strategies.policy import Mode, StrategiesPolicy
from ops.errors import step_errors
from ops.strategies_cycle import observe
from ops.strategies_metadata import (
    ACTIONS,
    CONFIGS_ARE_VALID,
    CREDITS_UNDER_BUDGET,
    DESIRED,
    MOST_CHANGES_AN_HOUR,
    NO_FLAPPING,
    SIGNALS,
    Done,
    budget_check,
    configs_check,
    desired_metadata,
    signals_metadata,
)
from ops.strategies_pages import History
from ops.strategies_standing import standing_options
from resources.materialize.resource import MaterializeResource

GROUP = "strategies"
OWNERS = ["team:data-platform"]

SIGNAL_COLUMNS = {
    "cluster": "string",
    "replica": "string",
    "size": "string",
    "credits_per_hour": "float64",
    "ready": "boolean",
    "oom_count": "Int64",
    "crash_count": "Int64",
    "cluster_last_used": "datetime64[us, UTC]",
    "cluster_running": "Int64",
    "created_at": "datetime64[us, UTC]",
}
SIGNAL_WORDS = {
    "replica": "Missing for a cluster that has none.",
    "ready": "Online, and all hydrated that it must hold; missing where unknown.",
    "oom_count": "Times it ran out of memory, in the look-back; missing where unknown.",
    "crash_count": "Times it was restarted, in the look-back; missing where unknown.",
    "cluster_last_used": "When somebody else used it last; missing where unknown or never.",
    "cluster_running": "Statements and subscriptions that run now; missing where unknown.",
}

DESIRED_COLUMNS = {
    "cluster": "string",
    "replica": "string",
    "size": "string",
    "strategy": "string",
    "op": "string",
    "reason": "string",
    "sql": "string",
    "credits_per_hour_delta": "float64",
}
DESIRED_WORDS = {
    "op": "keep, create, drop or alter.",
    "strategy": "Whose word it is; missing where nothing changes.",
}

ACTION_COLUMNS = {
    "at": "datetime64[us, UTC]",
    "cluster": "string",
    "sql": "string",
    "strategy": "string",
    "reason": "string",
    "credits_per_hour_delta": "float64",
    "executed": "boolean",
    "error": "string",
}
ACTION_WORDS = {"executed": "Missing where nobody has written down yet how it ended."}

materialize_clusters = dg.AssetSpec(
    "materialize_clusters",
    description="Clusters of the Materialize environment, with their replicas.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"materialize"},
)

_DESIRED_CHECKS = {
    CONFIGS_ARE_VALID: "Every row of mz_cluster_strategies can be read and applied.",
    CREDITS_UNDER_BUDGET: "No cluster costs more credits an hour than its max_credits_per_hour.",
}


@dg.multi_asset(
    name="look_at_clusters",
    outs={
        "cluster_signals": dg.AssetOut(
            key=SIGNALS,
            group_name=GROUP,
            owners=OWNERS,
            kinds={"materialize", "pandas"},
            description=(
                "What is known of each cluster: replicas that are ready, last use, out-of-memory "
                "kills and restarts. What could not be read is unknown, and takes nothing away."
            ),
            dagster_type=frame_type(
                "ClusterSignals", SIGNAL_COLUMNS, "A row for each replica, or empty cluster."
            ),
            metadata={"columns": column_schema(SIGNAL_COLUMNS, SIGNAL_WORDS)},
        ),
        "cluster_desired_state": dg.AssetOut(
            key=DESIRED,
            group_name=GROUP,
            owners=OWNERS,
            kinds={"pandas"},
            description=(
                "What the strategies want of each cluster, and which statements would lead there, "
                "with their reasons. Nothing is changed."
            ),
            dagster_type=frame_type(
                "ClusterDesiredState", DESIRED_COLUMNS, "A row for each replica that is wanted."
            ),
            metadata={"columns": column_schema(DESIRED_COLUMNS, DESIRED_WORDS)},
        ),
    },
    deps=[materialize_clusters],
    internal_asset_deps={
        "cluster_signals": {dg.AssetKey("materialize_clusters")},
        "cluster_desired_state": {SIGNALS},
    },
    check_specs=[
        dg.AssetCheckSpec(name, asset=DESIRED, description=words)
        for name, words in _DESIRED_CHECKS.items()
    ],
)
def look_at_clusters(materialize: MaterializeResource) -> Iterator[Any]:
    """Look once, and decide from exactly that; read-only."""
    with step_errors(), materialize.open() as source:
        policy = StrategiesPolicy.checked(**{**standing_options(), "mode": Mode.DRY_RUN})
        store = materialize.store(source)
        try:
            observed = observe(source, store, policy)
        finally:
            store.close()
        planned = plan(observed, policy)
    yield dg.MaterializeResult(
        asset_key=SIGNALS,
        value=frame(_signal_rows(observed), SIGNAL_COLUMNS),
        metadata=signals_metadata(observed),
    )
    yield dg.MaterializeResult(
        asset_key=DESIRED,
        value=frame(_desired_rows(planned), DESIRED_COLUMNS),
        metadata=desired_metadata(planned),
        check_results=[
            dg.AssetCheckResult(check_name=CONFIGS_ARE_VALID, **configs_check(planned)),
            dg.AssetCheckResult(check_name=CREDITS_UNDER_BUDGET, **budget_check(planned)),
        ],
    )


@dg.asset(
    key=ACTIONS,
    deps=[DESIRED],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"materialize", "pandas"},
    description=(
        "What was done to clusters in the last day, with the reason of each action, and a picture "
        "of replicas and credits per hour over time."
    ),
    dagster_type=frame_type("ClusterActions", ACTION_COLUMNS, "A row for each action."),
    metadata={"columns": column_schema(ACTION_COLUMNS, ACTION_WORDS)},
    check_specs=[
        dg.AssetCheckSpec(
            NO_FLAPPING,
            asset=ACTIONS,
            description=f"No cluster was changed more than {MOST_CHANGES_AN_HOUR} times an hour.",
        )
    ],
)
def cluster_actions(
    materialize: MaterializeResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """Read the audit, and the history of replicas that Materialize keeps."""
    with step_errors(), materialize.open() as source:
        store = materialize.store(source)
        try:
            history = History.read(source, store, source.cluster_names())
        finally:
            store.close()
    return dg.MaterializeResult(
        value=frame(map(_action_row, history.done), ACTION_COLUMNS),
        metadata=history.metadata(),
        check_results=[dg.AssetCheckResult(check_name=NO_FLAPPING, **history.check())],
    )


def _signal_rows(observed: Observed) -> Iterator[dict[str, Any]]:
    prices = {row["size"]: row["credits_per_hour"] for row in observed.sizes}
    for cluster in observed.clusters:
        if not cluster["id"].startswith("u"):
            continue
        found = observed.signals.get(cluster["id"], {})
        activity = found.get("activity") or {}
        of_all = {
            "cluster": cluster["name"],
            "cluster_last_used": _moment(activity.get("last_at")),
            "cluster_running": activity.get("running"),
        }
        for one in cluster["replicas"] or [{}]:
            signals = found.get("replicas", {}).get(one.get("name")) or {}
            yield {
                **of_all,
                "replica": one.get("name"),
                "size": one.get("size"),
                "created_at": _moment(one.get("created_at")),
                "credits_per_hour": prices.get(one.get("size")),
                **{key: signals.get(key) for key in ("ready", "oom_count", "crash_count")},
            }


def _desired_rows(planned: Plan) -> Iterator[dict[str, Any]]:
    for cluster in planned.clusters:
        changed = {action["replica"] for action in cluster.actions}
        for action in cluster.actions:
            yield {**dict.fromkeys(DESIRED_COLUMNS), **action, "cluster": cluster.name}
        for name, size in cluster.result["desired"].items():
            if name not in changed:
                row = {"cluster": cluster.name, "replica": name, "size": size, "op": "keep"}
                yield {**dict.fromkeys(DESIRED_COLUMNS), **row}


def _action_row(one: Done) -> dict[str, Any]:
    return {
        **{name: getattr(one, name, None) for name in ACTION_COLUMNS},
        "credits_per_hour_delta": one.credits_delta,
    }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
