"""What moves by itself: StatefulSets make pods, pods get nodes, budgets are counted, nodes lost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from datetime import datetime

from lab.kubernetes import pods as ends
from lab.kubernetes.errors import ApiError
from lab.kubernetes.kinds import BUDGETS, CLAIMS, NODES, PODS, STATEFULSETS
from lab.kubernetes.pods import PROTECTION, selected_by
from lab.kubernetes.store import Json, Store, stamp

#: Without a sign of life for so long a node is lost (the control plane's default is 50 s).
NODE_GRACE_S = 40.0
_PAUSE_S = 0.02

_UNREACHABLE = "node.kubernetes.io/unreachable"


class Controllers:
    """All of them, in one thread: each look works off whatever is not as it should be."""

    def __init__(self, store: Store, node_grace_s: float = NODE_GRACE_S) -> None:
        """Take the store that they work on."""
        self._store = store
        self._node_grace_s = node_grace_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lab-controllers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        with self._store.lock:
            self._store.changed.notify_all()
        self._thread.join(5.0)

    def _run(self) -> None:
        for _ in self._store.subscribe(PODS, self._stop.is_set):
            for look in (self._statefulsets, self._schedule, self._budgets, self._nodes):
                with contextlib.suppress(ApiError):
                    look()
            ends.release_claims(self._store)
            # What changes together is looked at together.
            self._stop.wait(_PAUSE_S)

    def _statefulsets(self) -> None:
        for item in self._store.all(STATEFULSETS):
            with contextlib.suppress(ApiError), self._store.lock:
                _reconcile(self._store, item)

    def _schedule(self) -> None:
        store = self._store
        with store.lock:
            waiting = [pod for pod in store.all(PODS) if not pod["spec"].get("nodeName")]
            if not waiting:
                return
            nodes = [node for node in store.all(NODES) if _takes_pods(node)]
            load = {node["metadata"]["name"]: 0 for node in nodes}
            for pod in store.all(PODS):
                name = pod["spec"].get("nodeName")
                if name in load:
                    load[name] += 1
            labels = {
                node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in nodes
            }
            for pod in waiting:
                wanted = (pod["spec"].get("nodeSelector") or {}).items()
                fit = [name for name in load if wanted <= labels[name].items()]
                if not fit:
                    continue
                chosen = min(fit, key=lambda name: (load[name], name))
                load[chosen] += 1
                pod["spec"]["nodeName"] = chosen
                store.update(PODS, pod)

    def _budgets(self) -> None:
        for budget in self._store.all(BUDGETS):
            with self._store.lock:
                _count(self._store, budget)

    def _nodes(self) -> None:
        for node in self._store.all(NODES):
            with self._store.lock:
                _judge(self._store, node, self._node_grace_s)


# --- StatefulSets ---------------------------------------------------------------------------------


def _reconcile(store: Store, item: Json) -> None:
    meta, spec = item["metadata"], item["spec"]
    template = spec["template"]
    revision = f"{meta['name']}-{_digest(template)}"
    namespace, wanted = meta["namespace"], spec.get("replicas", 1)
    mine = {
        pod["metadata"]["name"]: pod
        for pod in store.all(PODS, namespace)
        if any(
            each.get("uid") == meta["uid"] for each in pod["metadata"].get("ownerReferences") or []
        )
    }
    status = item.get("status") or {}
    current = status.get("currentRevision") or revision
    ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    for number in range(wanted):
        name = f"{meta['name']}-{number}"
        pod = mine.get(name)
        if pod is None:
            mine[name] = _create_pod(store, item, number, revision)
        elif _has_ended(pod) and not pod["metadata"].get("deletionTimestamp"):
            ends.delete(store, PODS, pod, {"gracePeriodSeconds": 0})
        if ordered and not _is_ready(mine[name]):
            break
    for name, pod in sorted(mine.items(), reverse=True):
        if int(name.rpartition("-")[2]) >= wanted and not pod["metadata"].get("deletionTimestamp"):
            ends.delete(store, PODS, pod, {})
            break
    living = [pod for pod in mine.values() if store.find(PODS, namespace, pod["metadata"]["name"])]
    fresh = [pod for pod in living if _revision(pod) == revision]
    if (
        spec.get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
        and len(fresh) < len(living)
        and len(living) == wanted
        and all(_is_ready(pod) and not pod["metadata"].get("deletionTimestamp") for pod in living)
    ):
        first = (spec.get("updateStrategy", {}).get("rollingUpdate") or {}).get("partition") or 0
        for number in reversed(range(first, wanted)):
            pod = mine[f"{meta['name']}-{number}"]
            if _revision(pod) != revision:
                ends.delete(store, PODS, pod, {})
                break
    ready = sum(_is_ready(pod) for pod in living)
    if len(fresh) == wanted:
        current = revision
    item["status"] = {
        **status,
        "observedGeneration": meta.get("generation", 1),
        "replicas": len(living),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": sum(_revision(pod) == current for pod in living),
        "updatedReplicas": len(fresh),
        "currentRevision": current,
        "updateRevision": revision,
        "collisionCount": 0,
    }
    if store.find(STATEFULSETS, namespace, meta["name"]) is not None:
        store.update(STATEFULSETS, item)


def _create_pod(store: Store, item: Json, number: int, revision: str) -> Json:
    meta, spec = item["metadata"], item["spec"]
    name, namespace = f"{meta['name']}-{number}", meta["namespace"]
    template = json.loads(json.dumps(spec["template"]))
    labels = {
        **(template.get("metadata", {}).get("labels") or {}),
        "controller-revision-hash": revision,
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": str(number),
    }
    pod_spec = template["spec"]
    pod_spec.setdefault("terminationGracePeriodSeconds", ends.DEFAULT_GRACE_S)
    pod_spec.setdefault("restartPolicy", "Always")
    pod_spec.update(hostname=name, subdomain=spec.get("serviceName") or "")
    volumes = list(pod_spec.get("volumes") or [])
    for claim in spec.get("volumeClaimTemplates") or []:
        claim_name = f"{claim['metadata']['name']}-{name}"
        if store.find(CLAIMS, namespace, claim_name) is None:
            _create_claim(store, namespace, claim_name, claim)
        reference = {"claimName": claim_name}
        volumes.append({"name": claim["metadata"]["name"], "persistentVolumeClaim": reference})
    pod_spec["volumes"] = volumes
    owner = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return store.create(
        PODS,
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels,
                "annotations": template.get("metadata", {}).get("annotations") or {},
                "ownerReferences": [owner],
            },
            "spec": pod_spec,
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        },
    )


def _create_claim(store: Store, namespace: str, name: str, template: Json) -> None:
    store.create(
        CLAIMS,
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": template["metadata"].get("labels") or {},
                "finalizers": [PROTECTION],
            },
            "spec": template.get("spec") or {},
            "status": {"phase": "Bound"},
        },
    )


def _digest(template: Json) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _revision(pod: Json) -> str:
    return str((pod["metadata"].get("labels") or {}).get("controller-revision-hash"))


def _has_ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def _is_ready(pod: Json) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in (pod.get("status") or {}).get("conditions") or []
    )


# --- budgets --------------------------------------------------------------------------------------


def _count(store: Store, budget: Json) -> None:
    namespace, spec = budget["metadata"]["namespace"], budget.get("spec") or {}
    mine = [pod for pod in store.all(PODS, namespace) if selected_by(budget)(pod)]
    owners = {
        each["name"]
        for pod in mine
        for each in pod["metadata"].get("ownerReferences") or []
        if each["kind"] == "StatefulSet"
    }
    sets = [store.find(STATEFULSETS, namespace, name) for name in owners]
    expected = sum(each["spec"].get("replicas", 1) for each in sets if each) or len(mine)
    healthy = sum(_is_ready(pod) and not pod["metadata"].get("deletionTimestamp") for pod in mine)
    if "maxUnavailable" in spec:
        desired = expected - _share(spec["maxUnavailable"], expected)
    else:
        desired = _share(spec.get("minAvailable", 1), expected)
    budget["status"] = {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "currentHealthy": healthy,
        "desiredHealthy": max(0, desired),
        "disruptionsAllowed": max(0, healthy - desired) if expected else 0,
        "expectedPods": expected,
    }
    store.update(BUDGETS, budget)


def _share(value: int | str, of: int) -> int:
    """A number, or a percentage rounded up."""
    if isinstance(value, str) and value.endswith("%"):
        return -(-int(value[:-1]) * of // 100)
    return int(value)


# --- nodes ----------------------------------------------------------------------------------------


def _takes_pods(node: Json) -> bool:
    spec = node.get("spec") or {}
    barred = any(
        taint.get("effect") in {"NoSchedule", "NoExecute"} for taint in spec.get("taints") or []
    )
    return not spec.get("unschedulable") and not barred and _says_ready(node) == "True"


def _says_ready(node: Json) -> str:
    conditions = (node.get("status") or {}).get("conditions") or []
    return next((each["status"] for each in conditions if each["type"] == "Ready"), "Unknown")


def _judge(store: Store, node: Json, grace_s: float) -> None:
    """Taint a node that is silent, and let its pods be not Ready; forgive one that is back."""
    status, spec = node.get("status") or {}, node.setdefault("spec", {})
    ready = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), None)
    if ready is None:
        return
    heard = datetime.fromisoformat(ready["lastHeartbeatTime"]).timestamp()
    taints = [each for each in spec.get("taints") or [] if each["key"] != _UNREACHABLE]
    if time.time() - heard <= grace_s:
        if len(taints) != len(spec.get("taints") or []):
            spec["taints"] = taints
            store.update(NODES, node)
        return
    if ready["status"] == "Unknown":
        return
    ready.update(status="Unknown", reason="NodeStatusUnknown", lastTransitionTime=stamp())
    ready["message"] = "Kubelet stopped posting node status."
    spec["taints"] = [
        *taints,
        *({"key": _UNREACHABLE, "effect": effect, "timeAdded": stamp()}
          for effect in ("NoSchedule", "NoExecute")),
    ]  # fmt: skip
    store.update(NODES, node)
    for pod in store.all(PODS):
        if pod["spec"].get("nodeName") == node["metadata"]["name"]:
            for condition in (pod.get("status") or {}).get("conditions") or []:
                if condition["type"] == "Ready":
                    # containerStatuses[].ready stays true (seen live).
                    condition.update(status="False", lastTransitionTime=stamp())
            store.update(PODS, pod)
