"""The decommission wing in the lineage: how each cluster is, and how its restarts went."""

# No postponed annotations here: Dagster reads those of an asset as they stand.
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.frames import column_schema, frame, frame_type
from caretaker.decommission.alerts import Terminating
from caretaker.decommission.cluster_settings import ALLOCATION
from caretaker.decommission.model import KubeSeen
from caretaker.decommission.selection import suspended
from caretaker.decommission.turns import is_master
from caretaker.errors import CaretakerError
from ops.decommission_history import (
    HEALTH,
    RESTARTS,
    RestartHistory,
    check_results,
    check_specs,
    timeline_metadata,
)
from ops.decommission_run import kube_client
from ops.decommission_way import Way, crates_of
from ops.errors import step_errors
from ops.shown import table
from resources.clock import utc_now
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.restarts import look
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.clusters import ClusterFound
from resources.kubernetes.resource import KubernetesResource
from resources.state_store import DecommissionRow
from resources.state_store.resource import StateStoreResource

GROUP = "decommission"
OWNERS = ["team:data-platform"]

HEALTH_COLUMNS = {
    "cluster": "string",
    "namespace": "string",
    "health": "string",
    "allocation": "string",
    "nodes": "float64",
    "pods": "int64",
    "ready": "int64",
    "relocating": "float64",
    "missing_shards": "float64",
    "underreplicated_shards": "float64",
    "suspended_pods": "int64",
    "master_pod": "string",
    "problem": "string",
}

#: No more than the asset's page shows side by side; a count that is not known is left blank.
_SHOWN = {
    "cluster": "string",
    "health": "string",
    "allocation": "string",
    "nodes": "int",
    "pods": "int",
    "ready": "int",
    "suspended": "int",
    "problem": "string",
}

HEALTH_WORDS = {
    "health": "Of the database itself, never that of a custom resource; missing where unknown.",
    "allocation": "cluster.routing.allocation.enable; anything but all is a restricted cluster.",
    "suspended_pods": "Pods on machines that are cordoned, not ready or out of service.",
    "problem": "Why something is not known.",
}

RESTART_COLUMNS = {
    "pod": "string",
    "cluster": "string",
    "namespace": "string",
    "strategy": "string",
    "success": "bool",
    "refused": "bool",
    "error": "string",
    "duration_s": "float64",
    "restarted_in_place": "bool",
    "started_at": "datetime64[us, UTC]",
    "ended_at": "datetime64[us, UTC]",
    "run_id": "string",
}

RESTART_WORDS = {
    "strategy": "kubernetes_managed: its preStop hook drained the node; manual: we did.",
    "refused": "A safety check refused; nothing was touched.",
    "duration_s": "From the pod's turn until it was over.",
    "restarted_in_place": "Its container was started again in the same pod.",
}


crate_statefulsets = dg.AssetSpec(
    "crate_statefulsets",
    description="StatefulSets that CrateDB runs in; observed, never written by Dagster.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"kubernetes"},
)


@dg.asset(
    key=HEALTH,
    deps=[crate_statefulsets],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"cratedb", "kubernetes"},
    description="Every CrateDB cluster of the namespace as it is now; nothing is changed.",
    dagster_type=frame_type("CrateClusterHealth", HEALTH_COLUMNS, "A row for each cluster."),
    metadata={"columns": column_schema(HEALTH_COLUMNS, HEALTH_WORDS)},
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=25)),
)
def crate_cluster_health(
    kubernetes: KubernetesResource, cratedb: CrateDBResource, state: StateStoreResource
) -> dg.MaterializeResult[Any]:
    """Look at each cluster once."""
    with step_errors(), kube_client(kubernetes, Way()) as kube:
        rows = [_health_row(kube, found, cratedb) for found in kube.clusters()]
        latest = state.store.restarts(1, include_closed=True)
        metadata: dict[str, Any] = {
            "clusters": len(rows),
            "green": sum(row["health"] == "GREEN" for row in rows),
            "restricted": sum(row["allocation"] not in {None, "all"} for row in rows),
            "suspended_pods": sum(row["suspended_pods"] for row in rows),
            "now": table([_shown(row) for row in rows], _SHOWN, HEALTH_WORDS),
        }
        for row in latest:
            until = row.closed_at or utc_now()
            metadata |= {
                f"last_restart_{key}": value
                for key, value in timeline_metadata(
                    str(row.cluster), state.store.looks(row.id), until
                ).items()
            }
    return dg.MaterializeResult(value=frame(rows, HEALTH_COLUMNS), metadata=metadata)


def _health_row(
    kube: KubernetesClient, found: ClusterFound, cratedb: CrateDBResource
) -> dict[str, Any]:
    seen = kube.seen(found)
    away = {node.name for node in seen.nodes or () if suspended(node)}
    row: dict[str, Any] = dict.fromkeys(HEALTH_COLUMNS) | {
        "cluster": found.ref.name,
        "namespace": found.ref.namespace,
        "pods": len(seen.pods),
        "ready": sum(pod.ready for pod in seen.pods),
        "suspended_pods": sum(pod.kube_node in away for pod in seen.pods),
    }
    try:
        row |= _crate_columns(kube, seen, cratedb, found)
    except CaretakerError as error:
        row["problem"] = str(error)
    return row


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "cluster": f"{row['namespace']}/{row['cluster']}",
        "suspended": row["suspended_pods"],
    }


def _crate_columns(
    kube: KubernetesClient, seen: KubeSeen, cratedb: CrateDBResource, found: ClusterFound
) -> dict[str, Any]:
    with crates_of(
        kube,
        seen,
        Way(),
        cratedb,
        namespace=found.ref.namespace,
        container="crate",
        statement_timeout_s=60.0,
    ) as (crates, _):
        pods = [pod.name for pod in seen.pods if pod.ready and pod.deletion_at is None]
        now = look(crates.address or crates.in_pod(pods[0]))
    masters = [pod.name for pod in seen.pods if is_master(pod.name, now)]
    return {
        "health": now.health,
        "allocation": str(now.settings.get(ALLOCATION)),
        "nodes": len(now.nodes),
        "relocating": now.relocating,
        "missing_shards": now.missing_shards,
        "underreplicated_shards": now.underreplicated_shards,
        "master_pod": masters[0] if masters else None,
    }


@dg.asset(
    key=RESTARTS,
    # Not of the health: every look at it would then mark the history as out of date.
    deps=[crate_statefulsets],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"cratedb", "kubernetes"},
    description=(
        "What became of every decommission in 30 days, how long each took, and by which strategy."
    ),
    dagster_type=frame_type("Restarts", RESTART_COLUMNS, "A row for each pod whose turn came."),
    metadata={"columns": column_schema(RESTART_COLUMNS, RESTART_WORDS)},
    check_specs=check_specs(),
)
def restarts(kubernetes: KubernetesResource, state: StateStoreResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """Read what the state store keeps, and ask Kubernetes only for what is Terminating."""
    with step_errors():
        history = RestartHistory.read(state.store, utc_now())
        terminating = list(_terminating(kubernetes))
    return dg.MaterializeResult(
        value=frame(map(_restart_row, history.ended), RESTART_COLUMNS),
        metadata=history.metadata(),
        check_results=check_results(history.checks(terminating)),
    )


def _terminating(kubernetes: KubernetesResource) -> Iterator[Terminating]:
    """Yield the pods that are on their way out now; none where Kubernetes cannot be asked."""
    try:
        with kube_client(kubernetes, Way()) as kube:
            for found in kube.clusters():
                for pod in kube.seen(found).pods:
                    if pod.deletion_at is not None:
                        yield Terminating(pod.name, pod.deletion_at)
    except CaretakerError:
        return


def _restart_row(row: DecommissionRow) -> dict[str, Any]:
    return {
        "pod": row.pod_name,
        "cluster": row.cluster.name,
        "namespace": row.cluster.namespace,
        "strategy": row.strategy,
        "success": row.success,
        "refused": row.refused,
        "error": row.error,
        "duration_s": row.duration_s,
        "restarted_in_place": row.restarted_in_place,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "run_id": row.run_id,
    }
