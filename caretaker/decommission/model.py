"""What is known about a cluster: its pods as Kubernetes shows them, its nodes as CrateDB does.

Whoever looks fills these in and judges nothing. None is "not known" wherever it is allowed, and
unknown is never taken for healthy, absent or zero. Durations are seconds, times aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from caretaker.identifiers import SqlValue

#: `terminationGracePeriodSeconds` of a pod that names none.
DEFAULT_GRACE_S = 30


class DecommissionStrategy(StrEnum):
    """Who drains the node: the pod's own preStop hook, or we."""

    KUBERNETES_MANAGED = "kubernetes_managed"
    MANUAL = "manual"
    UNKNOWN = "unknown"


class MinAvailability(StrEnum):
    """What must stay while a node leaves; CrateDB reads any other word as NONE (source)."""

    FULL = "FULL"
    PRIMARIES = "PRIMARIES"
    NONE = "NONE"


class DeleteWhen(StrEnum):
    """When the drained node's pod is deleted: before its process ends, or after it."""

    DRAINED = "drained"
    EXITED = "exited"


class Goal(StrEnum):
    """What is promised: a node taken out once, or one that is back and a cluster that is GREEN."""

    DECOMMISSION = "decommission"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, order=True)
class ClusterRef:
    """A CrateDB cluster on Kubernetes.

    Attributes:
        id: `sys.cluster.id`, the key of the lock; '' until CrateDB was asked.
    """

    namespace: str
    name: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


# --- Kubernetes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container of a pod template, as far as its ending goes.

    Attributes:
        prestop: `lifecycle.preStop.exec.command`; None where there is none.
        prestop_other: What the hook is instead: 'httpGet', 'sleep', 'tcpSocket'; '' for nothing.
    """

    name: str
    prestop: tuple[str, ...] | None = None
    prestop_other: str = ""


@dataclass(frozen=True, slots=True)
class StatefulSetSeen:
    """A StatefulSet.

    Attributes:
        grace_s: `terminationGracePeriodSeconds` of its template; None where it names none.
        update_strategy: 'RollingUpdate' or 'OnDelete'.
        partition: Of a rolling update: pods below this ordinal are left alone.
        updated_replicas: Of `update_revision`.
        settled: `status.observedGeneration` is that of the spec.
    """

    namespace: str
    name: str
    containers: tuple[ContainerSpec, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    grace_s: int | None = None
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    update_strategy: str = "RollingUpdate"
    partition: int = 0
    settled: bool = True


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """`containerStatuses[]` of the CrateDB container.

    Attributes:
        running: `state.running` is set; `ready` of a lost node's container stays true (seen live),
            so it is not among these.
        exit_code: Of `state.terminated`, else of `lastState.terminated`.
        waiting: `state.waiting.reason`, such as CrashLoopBackOff.
    """

    running: bool
    restart_count: int
    exit_code: int | None = None
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod.

    Attributes:
        statefulset: Name of its owner.
        resource_version: Of the object as it was seen; '' where it is not known.
        kube_node: Where it runs.
        ready: Its Ready *condition*.
        deletion_at: `deletionTimestamp`: the time of the request plus the grace (seen live).
        grace_s: Its own terminationGracePeriodSeconds.
        container: None where containerStatuses is null, as of a fresh pod.
        containers: Its own spec; empty means "as its StatefulSet's template".
        claims_in_deletion: Its PersistentVolumeClaims that somebody deleted.
        finalizers: What keeps it even after a force delete.
        events: The last ones, newest first, as people read them.
    """

    namespace: str
    name: str
    uid: str
    statefulset: str
    kube_node: str = ""
    phase: str = "Running"
    ready: bool = True
    deletion_at: datetime | None = None
    grace_s: int | None = None
    container: ContainerSeen | None = None
    containers: tuple[ContainerSpec, ...] = ()
    claims_in_deletion: tuple[str, ...] = ()
    finalizers: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    resource_version: str = ""

    @property
    def ordinal(self) -> int:
        """The number behind the last hyphen; -1 where there is none."""
        tail = self.name.rpartition("-")[2]
        return int(tail) if tail.isdecimal() else -1


@dataclass(frozen=True, slots=True)
class KubeNodeSeen:
    """A machine.

    Attributes:
        unschedulable: Cordoned.
        taints: Keys of its taints.
    """

    name: str
    unschedulable: bool = False
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetSeen:
    """A PodDisruptionBudget.

    Attributes:
        disruptions_allowed: Of its status; a pod that is Terminating counts as gone (seen live).
        pods: Names of the pods that its selector takes.
    """

    name: str
    disruptions_allowed: int
    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KubeSeen:
    """One look at Kubernetes: the cluster's pods and all that has a say about them.

    Attributes:
        nodes: None where they may not be read.
        budgets: None where they may not be read: unknown, and unknown refuses.
        evictions: Answer of a dry-run eviction by pod name: '' for yes; a name that is missing was
            not asked for.
        gone: Pods that were deleted while somebody watched, as they were in the end: nowhere else
            stands how their process ended.
    """

    pods: tuple[PodSeen, ...]
    statefulsets: tuple[StatefulSetSeen, ...]
    nodes: tuple[KubeNodeSeen, ...] | None = ()
    budgets: tuple[BudgetSeen, ...] | None = ()
    evictions: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[PodSeen, ...] = ()

    def pod(self, name: str) -> PodSeen | None:
        """The pod of that name, or None."""
        return next((pod for pod in self.pods if pod.name == name), None)

    def statefulset(self, name: str) -> StatefulSetSeen | None:
        """The StatefulSet of that name, or None."""
        return next((each for each in self.statefulsets if each.name == name), None)


# --- CrateDB --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A row of `sys.nodes`, and what `sys.shards` and `sys.jobs` say about it.

    Attributes:
        draining: It answers new requests "disconnected"; False: it serves; None: not asked.
        primaries, copies: Shard copies on it, those on their way to it or from it included.
        jobs: Statements that run on it, our own DECOMMISSION not counted.
        disk_total_bytes, disk_used_bytes: None where unknown.
    """

    id: str
    name: str
    hostname: str
    is_data: bool = True
    draining: bool | None = None
    primaries: int | None = None
    copies: int | None = None
    jobs: int | None = None
    disk_total_bytes: int | None = None
    disk_used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SoleCopy:
    """A shard of which one node has the only STARTED copy.

    Attributes:
        table: As people read it, with its partition.
        barred: Ids of nodes that may not take it (table-level filters, limits per node).
    """

    table: str
    shard_id: int
    node_id: str
    barred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CrateSeen:
    """One look at CrateDB, all of it through one node.

    Attributes:
        health: `sys.cluster_health.health`; None where it could not be told.
        master_node: Id of the elected master.
        relocating, initializing: Shard copies on the move and in recovery, cluster-wide.
        settings: Effective values by full name, exactly as `sys.cluster.settings` shows them.
        sole: Shards with one started copy; None where they could not be read.
        decommissions: DECOMMISSION statements in `sys.jobs` that are not ours.
        low_watermark: Above it CrateDB moves no shard to a node's disk: '85%', or a size of free
            space such as '50gb'.
        can_decommission: The user is superuser, or a pod's own exec is; None: not known.
        visible_primaries, expected_primaries: As in the translog wing: a user without privileges
            sees no shard and a false GREEN (seen live).
    """

    cluster_id: str
    nodes: tuple[NodeSeen, ...]
    master_node: str | None
    health: str | None
    missing_shards: int | None = 0
    underreplicated_shards: int | None = 0
    relocating: int | None = 0
    initializing: int | None = 0
    settings: Mapping[str, SqlValue] = field(default_factory=dict)
    sole: tuple[SoleCopy, ...] | None = ()
    running_snapshots: int | None = 0
    decommissions: int | None = 0
    low_watermark: str | None = "85%"
    can_decommission: bool | None = None
    user: str = "crate"
    visible_primaries: int = 0
    expected_primaries: int = 0

    def node(self, *, name: str, pod: str) -> NodeSeen | None:
        """The node on that pod's hostname, or of that name; None where it is not in the cluster.

        By hostname first: another tier may have a node of the same name.
        """
        here = next((node for node in self.nodes if runs_in(node, pod)), None)
        return here or next((node for node in self.nodes if node.name == name), None)


def runs_in(node: NodeSeen, pod: str) -> bool:
    """Whether a node's hostname is that pod's, with or without a domain behind it."""
    return node.hostname == pod or node.hostname.startswith(f"{pod}.")


# --- all of it ------------------------------------------------------------------------------------


class CallState(StrEnum):
    """What has become of the ALTER CLUSTER DECOMMISSION that this process sent."""

    RUNNING = "running"
    RETURNED = "returned"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class DrainCall:
    """The statement that blocks until a drain ends, sent by the very process that looks.

    Attributes:
        state: UNKNOWN for a lost connection, for our own time-out and for 5000 NodeDisconnected:
            the drain may go on, or the node may be gone. NOT_SENT: certainly nothing was sent.
        sent_at: The `sent_at` of the action that it carries out, to tell one call from another.
        at: When it ended.
    """

    node_name: str
    state: CallState
    sent_at: datetime
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    """Whether a maintenance window is open now, with enough of it left.

    Attributes:
        why: In words, with what is open or when the next one opens.
        left_s: Seconds until it closes; None while closed.
    """

    open: bool
    why: str
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that is now, of one cluster. A part that could not be read is None.

    Attributes:
        kube_error, crate_error, store_error: Why a part is None, in words.
        call: The DECOMMISSION of this process; None after a takeover, or when none was sent.
        window: None where the operator gave no file, or the file has no entry for the cluster.
        open_tickets: Translog tables of this cluster that wait for their replicas, by name.
        at: When it was looked; None where nobody says.
    """

    kube: KubeSeen | None
    crate: CrateSeen | None
    call: DrainCall | None = None
    window: WindowVerdict | None = None
    open_tickets: tuple[str, ...] | None = ()
    kube_error: str = ""
    crate_error: str = ""
    at: datetime | None = None
    store_error: str = ""
