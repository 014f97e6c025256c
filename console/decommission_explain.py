"""How a pod's node, or each of a StatefulSet's or cluster's, would be drained, and why."""

from __future__ import annotations

from typing import Any

from caretaker.decommission.model import PodSeen, StatefulSetSeen
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.strategy import detect
from caretaker.decommission.turns import in_turn
from caretaker.errors import CaretakerError, RefusedError
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.clusters import ClusterFound


def explain(kube: KubernetesClient, name: str, policy: RestartPolicy) -> dict[str, Any]:
    """Return the detection for a pod, StatefulSet or cluster; nothing else is looked at."""
    cluster, pods = _meant(kube, name, policy)
    seen = kube.seen(cluster, container=policy.container)
    chosen = [pod for pod in in_turn(seen.pods) if pods is None or pod.name in pods]
    sets = {each.name: each for each in seen.statefulsets}
    return {
        "cluster": cluster.ref.name,
        "namespace": cluster.ref.namespace,
        "found_by": cluster.found_by,
        "pods": [
            _detected(pod, sets[pod.statefulset], policy)
            for pod in chosen
            if pod.statefulset in sets
        ],
    }


def _meant(
    kube: KubernetesClient, name: str, policy: RestartPolicy
) -> tuple[ClusterFound, set[str] | None]:
    """Return the cluster, and which of its pods; None for all."""
    namespace, _, short = name.rpartition("/")
    try:
        cluster = kube.cluster(short, namespace)
    except RefusedError as not_a_cluster:
        try:
            return kube.cluster_of_pod(short, namespace), {short}
        except RefusedError as error:
            if not str(error).startswith("Pod not found"):
                raise
            raise CaretakerError(
                f"{name} is no pod, StatefulSet or cluster ({not_a_cluster})", target=name
            ) from error
    if short == cluster.ref.name:
        return cluster, None
    seen = kube.seen(cluster, container=policy.container)
    return cluster, {pod.name for pod in seen.pods if pod.statefulset == short}


def _detected(pod: PodSeen, statefulset: StatefulSetSeen, policy: RestartPolicy) -> dict[str, Any]:
    found = detect(statefulset, policy, pod)
    return {
        "name": pod.name,
        "statefulset": statefulset.name,
        "strategy": found.strategy.value,
        "has_prestop_hook": found.has_prestop_hook,
        "has_dc_util": found.has_dc_util,
        "timeout_s": found.timeout_s,
        "dc_util_timeout_s": found.dc_util_timeout_s,
        "own_grace_s": found.own_grace_s,
        "grace_s": found.grace_s,
        "min_availability": found.min_availability.value,
        "explanation": list(found.explanation),
        "warnings": list(found.warnings),
        "problem": found.problem or None,
    }
