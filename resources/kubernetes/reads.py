"""Kubernetes' objects, as they come as JSON, turned into what the core judges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from caretaker.decommission.model import (
    BudgetSeen,
    ContainerSeen,
    ContainerSpec,
    KubeNodeSeen,
    PodSeen,
    StatefulSetSeen,
)

Json = Mapping[str, Any]


def time_of(text: str | None) -> datetime | None:
    """A timestamp, with or without fractions; None for none.

    >>> time_of("2026-01-15T12:00:00Z").isoformat()
    '2026-01-15T12:00:00+00:00'
    """
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def owner(item: Json, kind: str = "StatefulSet") -> str:
    """Name of the controller that made an object; '' where it is of another kind."""
    for reference in item["metadata"].get("ownerReferences") or []:
        if reference.get("kind") == kind and reference.get("controller", True):
            return str(reference["name"])
    return ""


def is_orphan_of(item: Json, statefulsets: Collection[str]) -> bool:
    """Tell whether a pod has lost its StatefulSet (`kubectl delete --cascade=orphan`): it runs."""
    stem, _, ordinal = str(item["metadata"]["name"]).rpartition("-")
    return not owner(item) and stem in statefulsets and ordinal.isdecimal()


def container_specs(spec: Json) -> tuple[ContainerSpec, ...]:
    """How each container of a pod (or of a template) ends."""
    return tuple(_container_spec(each) for each in spec.get("containers") or [])


def _container_spec(container: Json) -> ContainerSpec:
    hook = (container.get("lifecycle") or {}).get("preStop") or {}
    if "exec" in hook:
        command = tuple(map(str, (hook["exec"] or {}).get("command") or ()))
        return ContainerSpec(str(container["name"]), command)
    return ContainerSpec(str(container["name"]), prestop_other=next(iter(hook), ""))


def statefulset(item: Json) -> StatefulSetSeen:
    """A StatefulSet."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    template = spec["template"]["spec"]
    strategy = spec.get("updateStrategy") or {}
    replicas = spec.get("replicas")
    return StatefulSetSeen(
        namespace=meta["namespace"],
        name=meta["name"],
        containers=container_specs(template),
        labels=dict(meta.get("labels") or {}),
        grace_s=template.get("terminationGracePeriodSeconds"),
        replicas=1 if replicas is None else int(replicas),
        ready_replicas=int(status.get("readyReplicas") or 0),
        updated_replicas=int(status.get("updatedReplicas") or 0),
        current_revision=str(status.get("currentRevision") or ""),
        update_revision=str(status.get("updateRevision") or ""),
        update_strategy=str(strategy.get("type") or "RollingUpdate"),
        partition=int((strategy.get("rollingUpdate") or {}).get("partition") or 0),
        settled=int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0),
    )


def pod(
    item: Json,
    container: str,
    *,
    claims_in_deletion: Iterable[str] = (),
    events: Sequence[str] = (),
) -> PodSeen:
    """A pod; `container` is the name of CrateDB's."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    mine = set(claims_of(item))
    return PodSeen(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        statefulset=owner(item),
        kube_node=str(spec.get("nodeName") or ""),
        phase=str(status.get("phase") or "Unknown"),
        ready=any(
            each.get("type") == "Ready" and each.get("status") == "True"
            for each in status.get("conditions") or []
        ),
        deletion_at=time_of(meta.get("deletionTimestamp")),
        grace_s=spec.get("terminationGracePeriodSeconds"),
        container=_container(status, container),
        containers=container_specs(spec),
        claims_in_deletion=tuple(sorted(mine.intersection(claims_in_deletion))),
        finalizers=tuple(meta.get("finalizers") or ()),
        events=tuple(events),
        resource_version=str(meta.get("resourceVersion") or ""),
    )


def claims_of(item: Json) -> list[str]:
    """Names of the claims that a pod mounts."""
    return [
        str(volume["persistentVolumeClaim"]["claimName"])
        for volume in item["spec"].get("volumes") or []
        if volume.get("persistentVolumeClaim")
    ]


def _container(status: Json, name: str) -> ContainerSeen | None:
    for each in status.get("containerStatuses") or []:
        if each.get("name") != name:
            continue
        state, last = each.get("state") or {}, each.get("lastState") or {}
        ended = state.get("terminated") or last.get("terminated") or {}
        return ContainerSeen(
            running="running" in state,
            restart_count=int(each.get("restartCount") or 0),
            exit_code=ended.get("exitCode"),
            waiting=str((state.get("waiting") or {}).get("reason") or ""),
        )
    return None


def node(item: Json) -> KubeNodeSeen:
    """A machine."""
    spec = item.get("spec") or {}
    return KubeNodeSeen(
        name=item["metadata"]["name"],
        unschedulable=bool(spec.get("unschedulable")),
        taints=tuple(str(taint.get("key")) for taint in spec.get("taints") or []),
    )


def budget(item: Json, pods: Iterable[Json]) -> BudgetSeen:
    """A PodDisruptionBudget, with those of `pods` that its selector takes."""
    selector = (item.get("spec") or {}).get("selector")
    return BudgetSeen(
        name=item["metadata"]["name"],
        disruptions_allowed=int((item.get("status") or {}).get("disruptionsAllowed") or 0),
        pods=tuple(
            each["metadata"]["name"]
            for each in pods
            # policy/v1: an empty selector takes every pod, none takes no pod.
            if selector is not None and selects(selector, each["metadata"].get("labels") or {})
        ),
    )


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes an object with these labels.

    >>> selects({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "1"})
    True
    """
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    value, wanted = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case _:
            return value is None


def selector_text(selector: Json) -> str:
    """A label selector as the query parameter has it.

    >>> selector_text({"matchLabels": {"app": "crate", "tier": "hot"}})
    'app=crate,tier=hot'
    """
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or []:
        key, values = each["key"], ",".join(each.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
            }.get(each["operator"], f"!{key}")
        )
    return ",".join(parts)


def event_lines(items: Iterable[Json], limit: int = 8) -> tuple[str, ...]:
    """Events as people read them, newest first."""
    return tuple(_event_line(each) for each in sorted(items, key=event_time, reverse=True)[:limit])


def event_time(item: Json) -> str:
    """When it happened last; the scheduler's have neither count nor timestamps (seen live)."""
    series = item.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or item.get("lastTimestamp")
        or item.get("eventTime")
        or item["metadata"].get("creationTimestamp")
        or ""
    )


def _event_line(item: Json) -> str:
    count = int(item.get("count") or (item.get("series") or {}).get("count") or 1)
    times = f" ({count} times)" if count > 1 else ""
    message = " ".join(str(item.get("message") or "").split())
    return f"{event_time(item)} {item.get('reason') or '?'}: {message}{times}"
