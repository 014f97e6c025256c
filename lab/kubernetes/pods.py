"""The end of a pod as the API server sees it: grace, preconditions, evictions, claims in use."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from lab.kubernetes.errors import ApiError, conflict, not_found
from lab.kubernetes.kinds import BUDGETS, CLAIMS, KINDS, PODS
from lab.kubernetes.selectors import Match
from lab.kubernetes.store import Json, Store, stamp

DEFAULT_GRACE_S = 30

#: In a conflict the real one names the kind, and not its plural.
BY_KIND_NAME = {kind.plural: kind.kind for kind in KINDS}

#: What keeps a claim that a pod uses, however often it is deleted.
PROTECTION = "kubernetes.io/pvc-protection"


def delete(store: Store, key: tuple[str, str], item: Json, options: dict[str, Any]) -> Json:
    """Delete an object as its kind wants it, and return its last state."""
    meta = item["metadata"]
    with store.lock:
        item = store.get(key, meta.get("namespace", ""), meta["name"])
        check_preconditions(key[1], item, options)
        if _is_dry(options):
            return item
        if key == PODS:
            return _delete_pod(store, item, options.get("gracePeriodSeconds"))
        if meta.get("finalizers"):
            if not meta.get("deletionTimestamp"):
                item["metadata"]["deletionTimestamp"] = stamp()
                item["metadata"]["deletionGracePeriodSeconds"] = 0
                return store.update(key, item)
            return item
        store.remove(key, meta.get("namespace", ""), meta["name"])
        return item


def check_preconditions(plural: str, item: Json, options: dict[str, Any]) -> None:
    """Raise 409 where the object is not the one that is meant."""
    wanted = options.get("preconditions") or {}
    meta = item["metadata"]
    for name, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(name) and wanted[name] != meta[name]:
            why = (
                f"the {word} in the precondition ({wanted[name]}) does not match the {word} in "
                f"record ({meta[name]}). The object might have been deleted and then recreated"
            )
            raise conflict(BY_KIND_NAME.get(plural, plural), meta["name"], why)


def _delete_pod(store: Store, item: Json, grace_s: int | None) -> Json:
    meta, spec = item["metadata"], item["spec"]
    status = item.get("status") or {}
    if grace_s is None:
        own = spec.get("terminationGracePeriodSeconds")
        grace_s = DEFAULT_GRACE_S if own is None else own
    if not spec.get("nodeName") or status.get("phase") in {"Succeeded", "Failed"}:
        grace_s = 0
    now = time.time()
    if meta.get("deletionTimestamp"):
        had = int(meta.get("deletionGracePeriodSeconds") or 0)
        if grace_s >= had:
            # A second delete can only shorten.
            return item
        asked_at = _seconds(meta["deletionTimestamp"]) - had
        now = asked_at if grace_s else now
    else:
        meta["generation"] = int(meta.get("generation") or 1) + 1
    meta["deletionTimestamp"] = stamp(now + grace_s)
    meta["deletionGracePeriodSeconds"] = int(grace_s)
    return store.update(PODS, item)


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def evict(store: Store, namespace: str, name: str, eviction: dict[str, Any], *, dry: bool) -> None:
    """Delete a pod where every budget lets it go; 429 where one does not."""
    options = eviction.get("deleteOptions") or {}
    with store.lock:
        pod = store.find(PODS, namespace, name)
        if pod is None:
            raise not_found("pods", name)
        check_preconditions("pods", pod, options)
        done = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed", "Pending"}
        budgets = [] if done else budgets_of(store, pod)
        if len(budgets) > 1:
            raise ApiError(
                500,
                "InternalError",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource "
                "does not support.",
            )
        for budget in budgets:
            _take_one(store, budget, dry=dry or _is_dry(options))
        if not (dry or _is_dry(options)):
            _delete_pod(store, pod, options.get("gracePeriodSeconds"))


def budgets_of(store: Store, pod: Json) -> list[Json]:
    """Return the budgets whose selector takes a pod."""
    return [
        each for each in store.all(BUDGETS, pod["metadata"]["namespace"]) if selected_by(each)(pod)
    ]


def selected_by(item: Json) -> Match:
    """Return whether an object's `spec.selector` takes a pod."""
    selector = (item.get("spec") or {}).get("selector")

    def takes(pod: Any) -> bool:
        labels = pod["metadata"].get("labels") or {}
        wanted = (selector or {}).get("matchLabels") or {}
        return (
            selector is not None
            and all(labels.get(key) == value for key, value in wanted.items())
            and all(_holds(each, labels) for each in selector.get("matchExpressions") or [])
        )

    return takes


def _holds(expression: Json, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[expression["operator"]]


def _take_one(store: Store, budget: Json, *, dry: bool) -> None:
    status = budget.get("status") or {}
    allowed = int(status.get("disruptionsAllowed") or 0)
    name = budget["metadata"]["name"]
    if allowed <= 0:
        desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        why = (
            f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        )
        raise ApiError(
            429,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
            details={"causes": [{"reason": "DisruptionBudget", "message": why}]},
        )
    if not dry:
        budget["status"] = {**status, "disruptionsAllowed": allowed - 1}
        store.update(BUDGETS, budget)


def release_claims(store: Store) -> None:
    """Let claims go that were deleted, and that no pod uses any more."""
    with store.lock:
        used = {
            (pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
            for pod in store.all(PODS)
            for volume in pod["spec"].get("volumes") or []
            if volume.get("persistentVolumeClaim")
        }
        for claim in store.all(CLAIMS):
            meta = claim["metadata"]
            if meta.get("deletionTimestamp") and (meta["namespace"], meta["name"]) not in used:
                meta["finalizers"] = [f for f in meta.get("finalizers") or [] if f != PROTECTION]
                store.update(CLAIMS, claim)


def _is_dry(options: dict[str, Any]) -> bool:
    return "All" in (options.get("dryRun") or [])
