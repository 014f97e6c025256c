"""Kubernetes as far as a restart goes: a kubelet and a StatefulSet controller in simulated time.

The rules are those of kubernetes-live.md: a pod in preStop looks healthy; exit 0 of PID 1 restarts
the container in place, at first after 1 s, later after a back-off; between DELETED and ADDED pass
10 ms; a grace can only be shortened; a wrong UID is a 409.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from caretaker.decommission.cluster_settings import ALLOCATION, FORCE, MIN_AVAILABILITY, TIMEOUT
from caretaker.decommission.model import (
    BudgetSeen,
    ContainerSeen,
    ContainerSpec,
    KubeNodeSeen,
    KubeSeen,
    PodSeen,
    StatefulSetSeen,
)
from caretaker.decommission.steps import Answer, Verdict
from tests.decommission.simulated_crate import Crate, Node, Timeline

RESTART_S, JOIN_S, READY_S, TERM_S, BACK_OFF_S = 1.0, 3.5, 0.3, 0.4, 10.0
STATEFULSET, NAMESPACE = "crate-data-hot-prod", "db"
DC_UTIL = ("/bin/sh", "-c", "./dc_util-linux-amd64 -timeout 720s")


@dataclass
class Pod:
    """A pod and its one container."""

    name: str
    uid: str
    node: Node
    restart_count: int = 0
    running: bool = True
    ready: bool = True
    exit_code: int | None = None
    waiting: str = ""
    deletion_at: datetime | None = None
    #: Tells one life of the container from the next.
    life: int = 0
    started: bool = True


class Kube:
    """The pods of one StatefulSet."""

    def __init__(self, time: Timeline, size: int, *, hook: tuple[str, ...] | None = None) -> None:
        self.time = time
        self.hook = hook
        self.grace_s: int | None = None
        self.size = size
        self._uids = 0
        nodes = [Node(f"data-hot-{n}", f"{STATEFULSET}-{n}") for n in range(size)]
        self.crate = Crate(time, nodes, self._process_ended)
        self.pods: dict[str, Pod] = {node.pod: Pod(node.pod, self._uid(), node) for node in nodes}
        self.history: list[tuple[float, tuple[PodSeen, ...]]] = []
        self.exits: dict[str, list[float]] = {}
        self.gone: list[PodSeen] = []
        self.never_ready: set[str] = set()
        self.frozen_kubelets: set[str] = set()
        self.before_delete: Callable[[Pod, int], None] = lambda *_: None
        self.budget = 1
        self.cordoned: set[str] = set()
        self.back_off_s = BACK_OFF_S
        self.restart_s = RESTART_S
        self.record()

    def _uid(self) -> str:
        self._uids += 1
        return f"uid-{self._uids}"

    # --- what one can ask for ---------------------------------------------------------------------

    def delete(
        self, name: str, uid: str, grace_s: int, version: str = "", *, force: bool = False
    ) -> Answer:
        pod = self.pods.get(name)
        if pod is None:
            return Answer(Verdict.GONE, "not found")
        if pod.uid != uid or version not in {"", self._version(pod)}:
            return Answer(Verdict.CONFLICT, "Conflict")
        self.before_delete(pod, grace_s)
        if force:
            self._remove(pod)
            self.time.after(3.0, lambda: self._kill(pod))
            return Answer(Verdict.DONE)
        deadline = self.time.now + timedelta(seconds=grace_s)
        if pod.deletion_at is not None:
            pod.deletion_at = min(pod.deletion_at, deadline)
            return Answer(Verdict.DONE)
        pod.deletion_at = deadline
        if name not in self.frozen_kubelets:
            self._terminate(pod, grace_s)
        self.record()
        return Answer(Verdict.DONE)

    def thaw(self, name: str) -> None:
        """A kubelet comes back and does what it was told meanwhile."""
        self.frozen_kubelets.discard(name)
        pod = self.pods[name]
        if pod.deletion_at is not None:
            self.time.after(0.5, lambda: self._remove(pod))

    # --- a kubelet --------------------------------------------------------------------------------

    def _terminate(self, pod: Pod, grace_s: int) -> None:
        life = pod.life
        self.time.after(grace_s + 0.01, lambda: self._kill(pod, life))
        if not pod.running:
            self.time.after(0.1, lambda: self._remove(pod))
        elif self.hook is not None and pod.node.member:
            for key, value in ((TIMEOUT, "720s"), (FORCE, True), (MIN_AVAILABILITY, "FULL")):
                self.crate.set_global(key, value, persistent=False)
            self.crate.decommission(pod.node.name)
        else:
            self.time.after(TERM_S, lambda: self._ended(pod, life, 143))

    def _kill(self, pod: Pod, life: int | None = None) -> None:
        if life is None or (pod.life == life and pod.name not in self.frozen_kubelets):
            self._ended(pod, pod.life, 137)

    def _ended(self, pod: Pod, life: int, code: int) -> None:
        if pod.life == life and pod.running:
            if self.crate.nodes[pod.node.name] is pod.node and self._owns_its_node(pod):
                self.crate.leave(pod.node)
            self._container_ended(pod, code)

    def _owns_its_node(self, pod: Pod) -> bool:
        return self.pods.get(pod.name) is pod or not self.pods.get(pod.name)

    def crash(self, name: str) -> None:
        """Kill -9 of the process."""
        pod = self.pods[name]
        self._ended(pod, pod.life, 137)

    def _process_ended(self, node: Node, code: int) -> None:
        pod = self.pods[node.pod]
        if pod.running:
            self._container_ended(pod, code)

    def _container_ended(self, pod: Pod, code: int) -> None:
        if pod.name in self.frozen_kubelets:
            # Nobody is there to say so: the status stays what it was.
            pod.life += 1
            return
        pod.running, pod.ready, pod.exit_code = False, False, code
        pod.life += 1
        self.record()
        life = pod.life
        if pod.deletion_at is not None:
            self.time.after(0.5, lambda: self._remove(pod))
            return
        recent = [t for t in self.exits.get(pod.name, []) if self.time.t - t < 600]
        self.exits[pod.name] = [*recent, self.time.t]
        wait_s = self.restart_s if not recent else self.back_off_s * 2 ** (len(recent) - 1)
        if recent:
            self.time.after(0.5, lambda: self._back_off(pod, life))
        self.time.after(wait_s, lambda: self._restart_in_place(pod, life))

    def _back_off(self, pod: Pod, life: int) -> None:
        if pod.life == life and not pod.running:
            pod.waiting = "CrashLoopBackOff"
            self.record()

    def _restart_in_place(self, pod: Pod, life: int) -> None:
        if pod.life == life and not pod.running and self.pods.get(pod.name) is pod:
            if pod.deletion_at is not None:
                return
            pod.restart_count += 1
            self._start(pod)

    def _start(self, pod: Pod) -> None:
        pod.running, pod.started, pod.waiting = True, True, ""
        self.record()
        life = pod.life
        self.time.after(JOIN_S, lambda: self._join(pod, life))

    def _join(self, pod: Pod, life: int) -> None:
        if pod.life != life or not pod.running or self.pods.get(pod.name) is not pod:
            return
        if pod.node.member:
            # A force-deleted pod's process is still in the cluster under that name.
            self.time.after(1.0, lambda: self._join(pod, life))
            return
        self.crate.join(pod.node)
        if pod.name not in self.never_ready:
            self.time.after(READY_S, lambda: self._ready(pod, life))

    def _ready(self, pod: Pod, life: int) -> None:
        if pod.life == life and pod.running:
            pod.ready = True
            self.record()

    # --- the StatefulSet controller ---------------------------------------------------------------

    def _remove(self, pod: Pod) -> None:
        if self.pods.get(pod.name) is not pod:
            return
        self.gone.append(self._seen(pod))
        del self.pods[pod.name]
        self.record()
        self.time.after(0.01, lambda: self._create(pod.name, pod.node))

    def _create(self, name: str, node: Node) -> None:
        pod = Pod(name, self._uid(), node, running=False, ready=False, started=False)
        self.pods[name] = pod
        self.record()
        self.time.after(1.0, lambda: self._start(pod))

    # --- what is to be seen -----------------------------------------------------------------------

    def record(self) -> None:
        self.history.append((self.time.t, tuple(self._seen(pod) for pod in self._sorted())))

    def _version(self, pod: Pod) -> str:
        """Return its resourceVersion: another one with everything that is to be seen of it."""
        shown = (
            pod.running,
            pod.ready,
            pod.restart_count,
            pod.waiting,
            pod.deletion_at,
            pod.started,
        )
        return f"{pod.uid}/{pod.life}/{hash(shown)}"

    def _sorted(self) -> list[Pod]:
        return [self.pods[name] for name in sorted(self.pods)]

    def _seen(self, pod: Pod) -> PodSeen:
        container = None
        if pod.started:
            container = ContainerSeen(
                pod.running, pod.restart_count, pod.exit_code, waiting=pod.waiting
            )
        return PodSeen(
            NAMESPACE,
            pod.name,
            pod.uid,
            STATEFULSET,
            kube_node=f"machine-{pod.name[-1]}",
            phase="Running" if pod.started else "Pending",
            ready=pod.ready,
            deletion_at=pod.deletion_at,
            resource_version=self._version(pod),
            grace_s=self.grace_s,
            container=container,
            events=("FailedKillPod: kubelet is away",) if pod.deletion_at else (),
        )

    def seen(self, lag_s: float = 0.0) -> KubeSeen:
        """One look, as old as a cache may be."""
        pods = next(
            (pods for t, pods in reversed(self.history) if t <= self.time.t - lag_s),
            self.history[0][1],
        )
        ready = sum(pod.ready for pod in pods)
        statefulset = StatefulSetSeen(
            NAMESPACE,
            STATEFULSET,
            containers=(ContainerSpec("crate", self.hook),),
            grace_s=self.grace_s,
            replicas=self.size,
            ready_replicas=ready,
        )
        down = sum(not pod.ready or pod.deletion_at is not None for pod in pods)
        budget = BudgetSeen("crate-pdb", self.budget - down, tuple(pod.name for pod in pods))
        nodes = tuple(
            KubeNodeSeen(pod.kube_node, unschedulable=pod.kube_node in self.cordoned)
            for pod in pods
        )
        gone = tuple(self.gone)
        return KubeSeen(pods, (statefulset,), nodes=nodes, budgets=(budget,), gone=gone)


def restricted(crate: Crate) -> bool:
    """Whether allocation is anything but free."""
    return crate.effective(ALLOCATION) != "all"
