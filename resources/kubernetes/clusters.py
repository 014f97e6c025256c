"""Which CrateDB clusters a namespace holds: by label, by name, or as the operator's resource."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from caretaker.decommission.model import ClusterRef, StatefulSetSeen
from caretaker.errors import RefusedError
from resources.kubernetes import reads

#: Labels of the CrateDB operator, and of most charts.
_NAME, _COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
_PART_OF, _INSTANCE = "app.kubernetes.io/part-of", "app.kubernetes.io/instance"
_CRATE = {"crate", "cratedb"}

#: crate-<kind of node>-<cluster>
_BY_NAME = re.compile(r"crate-(?:(?:data-(?:hot|warm|cold|frozen)|data|master|client)-)?(.+)")


@dataclass(frozen=True, slots=True)
class ClusterFound:
    """A cluster: its StatefulSets.

    Attributes:
        selectors: Label selector of each StatefulSet's pods, by its name.
        found_by: 'label', 'name' or 'custom resource'.
        reported_health: What the operator's resource says, for people; never judged by.
    """

    ref: ClusterRef
    statefulsets: tuple[StatefulSetSeen, ...]
    selectors: Mapping[str, str] = field(default_factory=dict)
    found_by: str = "name"
    reported_health: str = ""


def clusters(
    statefulsets: Iterable[Mapping[str, Any]], resources: Iterable[Mapping[str, Any]] = ()
) -> list[ClusterFound]:
    """Group StatefulSets by cluster; `resources` are the operator's, where they can be read."""
    known = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in resources}
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for item in statefulsets:
        if key := _cluster_of(item, known):
            groups.setdefault(key, []).append(item)
    return [_found(key, items, known) for key, items in sorted(groups.items())]


def _cluster_of(
    item: Mapping[str, Any], known: Mapping[tuple[str, str], Any]
) -> tuple[str, str, str] | None:
    """Return namespace, name and how it is known; None where this is no CrateDB."""
    meta = item["metadata"]
    labels, namespace = meta.get("labels") or {}, str(meta["namespace"])
    if made_by := reads.owner(item, kind="CrateDB"):
        return namespace, made_by, "custom resource"
    if _CRATE & {labels.get(_COMPONENT), labels.get(_PART_OF)}:
        named = labels.get(_NAME, "")
        name = labels.get(_INSTANCE, "") if named in {*_CRATE, ""} else named
        if name:
            how = "custom resource" if (namespace, name) in known else "label"
            return namespace, str(name), how
    if found := _BY_NAME.fullmatch(str(meta["name"])):
        how = "custom resource" if (namespace, found[1]) in known else "name"
        return namespace, found[1], how
    return None


def _found(
    key: tuple[str, str, str],
    items: Sequence[Mapping[str, Any]],
    known: Mapping[tuple[str, str], Mapping[str, Any]],
) -> ClusterFound:
    namespace, name, how = key
    status = known.get((namespace, name), {}).get("status") or {}
    return ClusterFound(
        ref=ClusterRef(namespace, name),
        statefulsets=tuple(reads.statefulset(each) for each in items),
        selectors={
            each["metadata"]["name"]: reads.selector_text(each["spec"]["selector"])
            for each in items
        },
        found_by=how,
        reported_health=str((status.get("crateDBStatus") or {}).get("health") or ""),
    )


def the_one(name: str, found: Sequence[ClusterFound], where: str) -> ClusterFound:
    """Return the cluster of that name, or of that StatefulSet; RefusedError unless it is one."""
    matches = [each for each in found if each.ref.name == name] or [
        each for each in found if any(one.name == name for one in each.statefulsets)
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        these = "; ".join(
            f"{each.ref} ({each.found_by}: {', '.join(s.name for s in each.statefulsets)})"
            for each in matches
        )
        raise RefusedError(f"{len(matches)} clusters are called {name}: {these}", target=name)
    known = ", ".join(str(each.ref) for each in found) or "none"
    raise RefusedError(f"Cluster not found: {name} in {where} (there: {known})", target=name)
