"""Which clusters and pods are meant: by name, by label, by the machine they run on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from caretaker.decommission.model import ClusterRef, KubeNodeSeen, KubeSeen, PodSeen
from caretaker.decommission.turns import in_turn
from caretaker.errors import RefusedError, UnsafeError

#: The official operator's labels.
PART_OF, NAME = "app.kubernetes.io/part-of", "app.kubernetes.io/name"
CRATEDB = frozenset({"cratedb", "crate"})

#: What stands between `crate-` and the cluster's name, by the operator's rule.
_ROLES = ("data-hot-", "data-cold-", "master-")

#: Taints of a machine that is, or is about to be, no place to run on.
SUSPENDING_TAINTS = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/out-of-service",
        "node.kubernetes.io/unschedulable",
    }
)


@dataclass(frozen=True, slots=True)
class FoundSet:
    """A StatefulSet, as far as finding clusters goes."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class CrateDBCluster:
    """A cluster and the StatefulSets that its nodes run in."""

    ref: ClusterRef
    statefulsets: tuple[str, ...]
    replicas: int


def find_clusters(
    statefulsets: Iterable[FoundSet], resources: Collection[ClusterRef] = ()
) -> list[CrateDBCluster]:
    """Return the clusters of these StatefulSets, by namespace and name.

    A StatefulSet belongs to the CrateDB custom resource whose name ends its own, else to the
    cluster that its labels name, else to what its own name says: `crate-[role-]<cluster>`. One that
    is none of these is no CrateDB.
    """
    found: dict[ClusterRef, list[FoundSet]] = {}
    for each in statefulsets:
        ref = _cluster_of(each, resources)
        if ref is not None:
            found.setdefault(ref, []).append(each)
    return [
        CrateDBCluster(
            ref,
            tuple(sorted(each.name for each in sets)),
            sum(each.replicas for each in sets),
        )
        for ref, sets in sorted(found.items())
    ]


def choose_clusters(
    names: Sequence[str], clusters: Sequence[CrateDBCluster]
) -> list[CrateDBCluster]:
    """Return the clusters of these names, in their order; "all" stands for every one.

    A name is a cluster's, "namespace/name", or one of its StatefulSets'. RefusedError for one that
    nobody has, UnsafeError for one that several have.
    """
    if list(names) == ["all"]:
        if not clusters:
            raise RefusedError("there is no CrateDB cluster here", target="all")
        return list(clusters)
    chosen: list[CrateDBCluster] = []
    for name in names:
        cluster = _one(name, clusters)
        if cluster not in chosen:
            chosen.append(cluster)
    return chosen


def choose_pods(
    kube: KubeSeen, names: Sequence[str] | None = None, *, only_cordoned: bool = False
) -> list[PodSeen]:
    """Return the pods to restart, in their turn; RefusedError names one that is not there."""
    pods = in_turn(kube.pods)
    if names:
        known = {pod.name for pod in pods}
        strangers = [name for name in names if name not in known]
        if strangers:
            there = ", ".join(sorted(known)) or "none"
            raise RefusedError(
                f"Pod not found: {', '.join(strangers)} (the cluster's pods: {there})",
                target=strangers[0],
            )
        pods = [pod for pod in pods if pod.name in names]
    if only_cordoned:
        if kube.nodes is None:
            raise RefusedError(
                "--only-cordoned needs to read nodes, which is not allowed (get/list nodes)"
            )
        away = {node.name for node in kube.nodes if suspended(node)}
        pods = [pod for pod in pods if pod.kube_node in away]
    return pods


def find_pod(name: str, pods: Iterable[PodSeen]) -> PodSeen:
    """Return the one pod of that name, "namespace/name" too."""
    namespace, slash, short = name.rpartition("/")
    found = [pod for pod in pods if pod.name == short and (not slash or pod.namespace == namespace)]
    if not found:
        raise RefusedError(f"Pod not found: {name}", target=name)
    if len(found) > 1:
        places = ", ".join(sorted(pod.namespace for pod in found))
        raise UnsafeError(
            f"several pods are called {name}, in the namespaces {places}: name one with -n",
            target=name,
        )
    return found[0]


def suspended(node: KubeNodeSeen) -> bool:
    """Whether a machine is cordoned, or tainted as not ready, unreachable or out of service."""
    return node.unschedulable or any(taint in SUSPENDING_TAINTS for taint in node.taints)


def _cluster_of(found: FoundSet, resources: Collection[ClusterRef]) -> ClusterRef | None:
    named = [
        ref
        for ref in resources
        if ref.namespace == found.namespace
        and found.name.startswith("crate-")
        and found.name.endswith(f"-{ref.name}")
    ]
    if named:
        longest = max(named, key=lambda ref: len(ref.name))
        return ClusterRef(longest.namespace, longest.name)
    if found.labels.get(PART_OF) in CRATEDB and found.labels.get(NAME):
        return ClusterRef(found.namespace, found.labels[NAME])
    if not found.name.startswith("crate-"):
        return None
    name = found.name.removeprefix("crate-")
    for role in _ROLES:
        if name.startswith(role) and name != role:
            name = name.removeprefix(role)
            break
    return ClusterRef(found.namespace, name) if name else None


def _one(name: str, clusters: Sequence[CrateDBCluster]) -> CrateDBCluster:
    matching = [each for each in clusters if name in {each.ref.name, str(each.ref)}]
    if not matching:
        matching = [
            each
            for each in clusters
            if name in each.statefulsets
            or name in {f"{each.ref.namespace}/{owned}" for owned in each.statefulsets}
        ]
    if not matching:
        there = ", ".join(str(each.ref) for each in clusters) or "none"
        raise RefusedError(f"no CrateDB cluster is called {name!r} (there: {there})", target=name)
    if len(matching) > 1:
        which = ", ".join(str(each.ref) for each in matching)
        raise UnsafeError(
            f"several clusters are called {name!r}: {which}; name one with its namespace",
            target=name,
        )
    return matching[0]
