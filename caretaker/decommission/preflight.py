"""Every reason not to take a node out now, each with what was found and what is needed.

Unknown refuses: a signal that cannot be read is not a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from caretaker.decommission.cluster_settings import ALLOCATION, KEYS, same_value
from caretaker.decommission.model import (
    ClusterRef,
    CrateSeen,
    DecommissionStrategy,
    KubeSeen,
    MinAvailability,
    NodeSeen,
    Observation,
    PodSeen,
    SoleCopy,
    StatefulSetSeen,
)
from caretaker.decommission.naming import node_of
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.strategy import Detection, detect
from caretaker.decommission.ticket import RestartTicket
from caretaker.disks import is_above
from caretaker.errors import UnsafeError

#: What the CrateDB operator labels a StatefulSet with while it has the routing, and for how long
#: that counts (its source).
OWNER_LABEL, OWNED_FOR_S = "dc-util-routing-owner", 7200.0


class Reason(StrEnum):
    """What kind of refusal, for counting."""

    UNREADABLE = "unreadable"
    POD = "pod"
    OTHER_POD = "other_pod"
    CLAIM = "claim"
    ROLLOUT = "rollout"
    OPERATOR = "operator"
    BUDGET = "budget"
    WINDOW = "window"
    TRANSLOG = "translog"
    STRATEGY = "strategy"
    NODE_NAME = "node_name"
    SINGLE_NODE = "single_node"
    HEALTH = "health"
    NODES = "nodes"
    MOVING = "moving"
    SNAPSHOT = "snapshot"
    DECOMMISSION = "decommission"
    ALLOCATION = "allocation"
    DATA = "data"
    VISIBILITY = "visibility"
    SUPERUSER = "superuser"


#: What passes by itself: between two pods it is worth a bounded wait.
PASSING = frozenset(
    {
        Reason.UNREADABLE,
        Reason.OTHER_POD,
        Reason.ROLLOUT,
        Reason.OPERATOR,
        Reason.BUDGET,
        Reason.TRANSLOG,
        Reason.HEALTH,
        Reason.NODES,
        Reason.MOVING,
        Reason.SNAPSHOT,
        Reason.VISIBILITY,
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason, and its sentence."""

    reason: Reason
    sentence: str

    @property
    def passing(self) -> bool:
        """Whether it may be gone in a while without anybody's doing."""
        return self.reason in PASSING


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that may be taken out, with all that follows from its StatefulSet."""

    pod: PodSeen
    node: NodeSeen
    statefulset: StatefulSetSeen
    detection: Detection


def judge(
    seen: Observation, ticket: RestartTicket, pod_name: str, policy: RestartPolicy
) -> Candidate | list[Refusal]:
    """Return the pod as a candidate, or every reason not to take it out now.

    What the ticket has set itself is no reason. `ticket.current` may be this very pod: then it is
    asked once more, right before the drain is sent.
    """
    unread = list(_unread(seen))
    if seen.kube is None or seen.crate is None:
        return unread
    kube, crate = seen.kube, seen.crate
    pod = kube.pod(pod_name)
    if pod is None:
        return [Refusal(Reason.POD, f"Pod not found: {pod_name}")]
    statefulset = kube.statefulset(pod.statefulset)
    detection = detect(statefulset, policy, pod) if statefulset is not None else None
    node, misnamed = _node(pod, ticket.cluster, crate)
    found = [
        *unread,
        *_pod(pod),
        *_other_pods(kube, pod),
        *_statefulsets(kube, pod),
        *_operator(kube, seen.at),
        *_budget(kube, pod),
        *_window(seen, policy),
        *_tickets(seen),
        *_detection(detection),
        *misnamed,
        *_health(crate),
        *_members(crate, ticket),
        *_rest(crate),
        *_allocation(crate, ticket),
        *_visibility(crate),
        *_superuser(crate, detection),
        *(_data(crate, node, detection) if node is not None else ()),
    ]
    if found or statefulset is None or detection is None or node is None:
        return found
    return Candidate(pod, node, statefulset, detection)


def said(refusals: Iterable[Refusal]) -> str:
    """Return all reasons as one sentence."""
    return "; ".join(refusal.sentence for refusal in refusals)


def can_lose(crate: CrateSeen, node: NodeSeen | None) -> bool | None:
    """Whether the cluster has another started copy of everything on a node; None: not known."""
    if crate.missing_shards is None or crate.sole is None:
        return None
    if crate.missing_shards > 0:
        return False
    return node is None or not any(copy.node_id == node.id for copy in crate.sole)


def _unread(seen: Observation) -> Iterator[Refusal]:
    if seen.kube is None:
        yield Refusal(Reason.UNREADABLE, f"Kubernetes does not answer ({seen.kube_error})")
    if seen.crate is None:
        yield Refusal(Reason.UNREADABLE, f"CrateDB does not answer ({seen.crate_error})")
    if seen.open_tickets is None:
        yield Refusal(Reason.UNREADABLE, f"the state store does not answer ({seen.store_error})")


def _pod(pod: PodSeen) -> Iterator[Refusal]:
    if pod.deletion_at is not None:
        yield Refusal(
            Reason.POD, f"pod {pod.name} is being deleted (deletionTimestamp {pod.deletion_at})"
        )
    elif pod.phase != "Running" or not pod.ready:
        ready = "Ready" if pod.ready else "not Ready"
        yield Refusal(
            Reason.POD, f"pod {pod.name} is {pod.phase} and {ready}, it must be Running and Ready"
        )
    elif pod.container is None or not pod.container.running:
        state = "has no status yet" if pod.container is None else f"({pod.container.waiting})"
        yield Refusal(Reason.POD, f"the container of pod {pod.name} is not running {state}")
    for claim in pod.claims_in_deletion:
        yield Refusal(
            Reason.CLAIM,
            f"PersistentVolumeClaim {claim} of pod {pod.name} is being deleted: the next pod would "
            "start with an empty one",
        )


def _other_pods(kube: KubeSeen, pod: PodSeen) -> Iterator[Refusal]:
    down = [
        each.name
        for each in kube.pods
        if each.name != pod.name and (each.deletion_at is not None or not each.ready)
    ]
    if down:
        yield Refusal(
            Reason.OTHER_POD,
            f"{', '.join(down)} of the same cluster is not Ready: one pod is down at a time",
        )


def _statefulsets(kube: KubeSeen, pod: PodSeen) -> Iterator[Refusal]:
    """Refuse while any of them is on its way: the other tiers hold copies, too."""
    if kube.statefulset(pod.statefulset) is None:
        yield Refusal(
            Reason.STRATEGY, f"pod {pod.name} belongs to no StatefulSet that could be read"
        )
    for each in kube.statefulsets:
        yield from _rollout(each)


def _rollout(statefulset: StatefulSetSeen) -> Iterator[Refusal]:
    name = statefulset.name
    if not statefulset.settled:
        yield Refusal(Reason.ROLLOUT, f"StatefulSet {name} was just changed and not yet acted on")
    # With OnDelete a new revision waits for exactly this restart; so do pods below a partition.
    rolling = statefulset.update_strategy == "RollingUpdate"
    due = max(0, statefulset.replicas - statefulset.partition)
    if (
        rolling
        and statefulset.current_revision != statefulset.update_revision
        and (statefulset.partition == 0 or statefulset.updated_replicas < due)
    ):
        yield Refusal(
            Reason.ROLLOUT,
            f"StatefulSet {name} is in the middle of a rollout "
            f"({statefulset.current_revision} -> {statefulset.update_revision})",
        )
    if statefulset.ready_replicas != statefulset.replicas:
        yield Refusal(
            Reason.ROLLOUT,
            f"StatefulSet {name} has {statefulset.ready_replicas} of {statefulset.replicas} "
            "replicas ready",
        )


def _operator(kube: KubeSeen, now: datetime | None) -> Iterator[Refusal]:
    """Refuse while the CrateDB operator restarts this cluster by itself (its label, its source)."""
    for statefulset in kube.statefulsets:
        owner, _, since = statefulset.labels.get(OWNER_LABEL, "").partition("-")
        if owner != "operator":
            continue
        age_s = now.timestamp() - int(since) if now and since.isdecimal() else 0.0
        if age_s < OWNED_FOR_S:
            yield Refusal(
                Reason.OPERATOR,
                f"the CrateDB operator works on StatefulSet {statefulset.name} (label "
                f"{OWNER_LABEL}, {max(age_s, 0.0):.0f} s old)",
            )


def _budget(kube: KubeSeen, pod: PodSeen) -> Iterator[Refusal]:
    if kube.budgets is None:
        yield Refusal(
            Reason.BUDGET, "the PodDisruptionBudgets cannot be read: nobody knows what they allow"
        )
        return
    for budget in kube.budgets:
        if pod.name in budget.pods and budget.disruptions_allowed < 1:
            yield Refusal(
                Reason.BUDGET,
                f"PodDisruptionBudget {budget.name} allows no disruption of {pod.name} now",
            )
    if answer := kube.evictions.get(pod.name, ""):
        yield Refusal(Reason.BUDGET, f"a dry-run eviction of {pod.name} was refused: {answer}")


def _window(seen: Observation, policy: RestartPolicy) -> Iterator[Refusal]:
    if seen.window is None:
        if policy.require_window:
            yield Refusal(
                Reason.WINDOW, "no maintenance window is configured and --require-window was given"
            )
    elif not seen.window.open:
        yield Refusal(Reason.WINDOW, f"the maintenance window is closed: {seen.window.why}")


def _tickets(seen: Observation) -> Iterator[Refusal]:
    if seen.open_tickets:
        yield Refusal(
            Reason.TRANSLOG,
            f"{len(seen.open_tickets)} translog ticket(s) are open, such as "
            f"{seen.open_tickets[0]}: its replicas are away",
        )


def _detection(detection: Detection | None) -> Iterator[Refusal]:
    if detection is not None and detection.strategy is DecommissionStrategy.UNKNOWN:
        yield Refusal(Reason.STRATEGY, detection.problem)


def _node(
    pod: PodSeen, cluster: ClusterRef, crate: CrateSeen
) -> tuple[NodeSeen | None, list[Refusal]]:
    try:
        return node_of(pod, cluster, crate.nodes), []
    except UnsafeError as error:
        return None, [Refusal(Reason.NODE_NAME, str(error))]


def _health(crate: CrateSeen) -> Iterator[Refusal]:
    if crate.master_node is None:
        yield Refusal(Reason.HEALTH, "the cluster has no master (sys.cluster.master_node is NULL)")
    if crate.health is None:
        yield Refusal(Reason.HEALTH, "the health of the cluster is unknown, it must be GREEN")
    elif crate.health != "GREEN":
        yield Refusal(
            Reason.HEALTH,
            f"the cluster is {crate.health} ({crate.missing_shards} shards missing, "
            f"{crate.underreplicated_shards} under-replicated), it must be GREEN",
        )
    elif crate.missing_shards != 0 or crate.underreplicated_shards != 0:
        yield Refusal(
            Reason.HEALTH,
            f"the cluster says GREEN with {crate.missing_shards} shards missing and "
            f"{crate.underreplicated_shards} under-replicated: both must be known to be 0",
        )


def _members(crate: CrateSeen, ticket: RestartTicket) -> Iterator[Refusal]:
    expected, data = ticket.expected_nodes, sum(node.is_data for node in crate.nodes)
    if len(crate.nodes) != expected:
        yield Refusal(
            Reason.NODES, f"{len(crate.nodes)} nodes are present, {expected} are expected"
        )
    elif len(crate.nodes) == 1 or data == 1:
        yield Refusal(
            Reason.SINGLE_NODE,
            f"the cluster has a single {'data ' if data == 1 else ''}node: nobody can take its "
            "shards, a restart is an outage",
        )


def _rest(crate: CrateSeen) -> Iterator[Refusal]:
    if crate.relocating != 0 or crate.initializing != 0:
        yield Refusal(
            Reason.MOVING,
            f"{crate.relocating} shard(s) are relocating and {crate.initializing} are recovering, "
            "none may be",
        )
    if crate.running_snapshots != 0:
        yield Refusal(
            Reason.SNAPSHOT, f"{crate.running_snapshots} snapshot(s) in progress, none may be"
        )
    if crate.decommissions != 0:
        yield Refusal(
            Reason.DECOMMISSION,
            f"{crate.decommissions} ALTER CLUSTER DECOMMISSION of somebody else's is running",
        )


def _allocation(crate: CrateSeen, ticket: RestartTicket) -> Iterator[Refusal]:
    value = crate.settings.get(ALLOCATION)
    unknown = [key for key in KEYS if crate.settings.get(key) is None]
    if unknown:
        yield Refusal(Reason.ALLOCATION, f"{', '.join(unknown)} cannot be read")
    mine = ticket.remembered(ALLOCATION)
    ours = mine.ours if mine is not None and ticket.current is not None else ()
    allowed = ("all", *ours)
    if value is not None and not any(same_value(ALLOCATION, value, each) for each in allowed):
        yield Refusal(
            Reason.ALLOCATION,
            f"{ALLOCATION} is {value!r}: somebody restricts allocation already, it must be 'all'",
        )


def _visibility(crate: CrateSeen) -> Iterator[Refusal]:
    if crate.visible_primaries != crate.expected_primaries:
        yield Refusal(
            Reason.VISIBILITY,
            f"{crate.user} sees {crate.visible_primaries} primaries in sys.shards where the "
            f"catalog has {crate.expected_primaries}: a GREEN would prove nothing",
        )


def _superuser(crate: CrateSeen, detection: Detection | None) -> Iterator[Refusal]:
    manual = detection is not None and detection.strategy is DecommissionStrategy.MANUAL
    if manual and crate.can_decommission is False:
        yield Refusal(
            Reason.SUPERUSER,
            f"ALTER CLUSTER DECOMMISSION needs the superuser: {crate.user} is not, and exec in the "
            "pod is not possible",
        )


def _data(crate: CrateSeen, node: NodeSeen, detection: Detection | None) -> Iterator[Refusal]:
    """Refuse where a shard's only started copy would go, or has nowhere to go."""
    if crate.sole is None:
        yield Refusal(Reason.DATA, f"whether {node.name} has the only copy of a shard is unknown")
        return
    here = [copy for copy in crate.sole if copy.node_id == node.id]
    kept = detection.min_availability if detection is not None else MinAvailability.NONE
    if here and kept is MinAvailability.NONE:
        yield Refusal(
            Reason.DATA,
            f"{node.name} has the only started copy of {len(here)} shard(s), such as shard "
            f"{here[0].shard_id} of {here[0].table}, and nothing would move it "
            "(min_availability is NONE or unknown)",
        )
        return
    stuck = [copy for copy in here if not _takers(crate, copy)]
    if stuck:
        yield Refusal(
            Reason.DATA,
            f"no other node can take shard {stuck[0].shard_id} of {stuck[0].table}, of which "
            f"{node.name} has the only started copy ({len(stuck)} such shard(s)): other data nodes "
            f"are not allowed, or not known to be below the low disk watermark "
            f"({crate.low_watermark})",
        )


def _takers(crate: CrateSeen, copy: SoleCopy) -> list[NodeSeen]:
    """Return the nodes that a shard may move to; one whose disk is not known is none of them."""
    return [
        node
        for node in crate.nodes
        if node.is_data
        and node.id != copy.node_id
        and node.id not in copy.barred
        and is_above(crate.low_watermark, node.disk_total_bytes, node.disk_used_bytes) is False
    ]
