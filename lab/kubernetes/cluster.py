"""A CrateDB of the lab in pods, on whichever control plane: its StatefulSet, kubelet and nodes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Self

from lab.cratedb.laboratory import LabCrateDB
from lab.kubernetes import manifests
from lab.kubernetes.containers import Runtime
from lab.kubernetes.image import Image
from lab.kubernetes.kubelet import Kubelet
from lab.kubernetes.node_port import NodePort
from lab.kubernetes.plane import Plane
from lab.kubernetes.rest import Json, Rest, RestError

_POLL_S = 0.05


class LabDidNotSettleError(Exception):
    """What was waited for did not come; the message says what, and how it is."""


class CratePods:
    """One cluster: `nodes` pods, each with a node of the lab's CrateDB in it.

    The pods' machines are those of its own kubelet, one a pod. Levers: `crate` (the database),
    `kubelet` (machines and containers), `nodes` (starts that fail), and the plane's front.
    """

    def __init__(
        self,
        plane: Plane,
        *,
        crate: LabCrateDB | None = None,
        name: str = "lab",
        namespace: str = "crate",
        nodes: int = 3,
        prestop: tuple[str, ...] | None = None,
        grace_s: int | None = None,
        back_off_s: float = 10.0,
        budget: bool = True,
    ) -> None:
        """Describe it; `start` brings it up, a CrateDB of its own included where none is given."""
        self.plane, self.name, self.namespace = plane, name, namespace
        self.crate = crate or LabCrateDB(nodes, cluster_name=name)
        self._own_crate = crate is None
        self._budget = budget
        self.manifest = manifests.statefulset(
            name, namespace, replicas=nodes, prestop=prestop, grace_s=grace_s
        )
        self.statefulset = str(self.manifest["metadata"]["name"])
        self.pods = [f"{self.statefulset}-{number}" for number in range(nodes)]
        self.machines = [f"machine-{name}-{number}" for number in range(nodes)]
        self._image = Image()
        self._back_off_s = back_off_s
        self.nodes: NodePort
        self.kubelet: Kubelet

    @property
    def rest(self) -> Rest:
        """The administrator's way in."""
        return self.plane.admin

    def start(self, within_s: float = 60.0) -> Self:
        """Create everything, and return when all pods are Ready."""
        if self._own_crate:
            self.crate.start()
        for pod, node in zip(self.pods, self.crate.world.nodes, strict=True):
            node.hostname = pod
        named = zip(self.pods, self.crate.nodes, strict=True)
        self.nodes = NodePort(self.crate, dict(named))
        self.nodes.start()
        ports = {
            pod: {4200: node.port}
            for pod, node in zip(self.pods, self.crate.world.nodes, strict=True)
        }
        # The nodes were up before their processes, and would answer a probe in their stead: killed
        # then, a process would take no node with it.
        runtime = Runtime(
            str(self._image.path), {"LAB_NODES": self.nodes.address}, ports, self.nodes.holds
        )
        self.kubelet = Kubelet(
            self.plane.kubelet_rest(),
            self.machines,
            runtime,
            labels={manifests.MACHINES: self.name},
            back_off_s=self._back_off_s,
            tls=self.plane.kubelet_tls,
        )
        self.kubelet.start()
        self.apply(f"/api/v1/namespaces/{self.namespace}", {"metadata": {"name": self.namespace}})
        for pod in self.pods:
            made = manifests.volume(f"data0-{pod}", self.namespace)
            self.apply(f"/api/v1/persistentvolumes/{made['metadata']['name']}", made)
        if self._budget:
            self.apply(
                f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets/crate-{self.name}",
                manifests.budget(self.name, self.namespace),
            )
        self.apply(
            f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets/{self.statefulset}",
            self.manifest,
        )
        self.wait_for("all pods Ready", self.all_ready, within_s)
        return self

    def stop(self) -> None:
        """End it all; what is left in the namespace goes with the plane."""
        if hasattr(self, "kubelet"):
            self._forget()
        for part in ("kubelet", "nodes"):
            if hasattr(self, part):
                getattr(self, part).stop()
        if self._own_crate:
            self.crate.stop()
        self._image.remove()

    def _forget(self) -> None:
        """Let the StatefulSet make no more pods, and its machines take none."""
        inside = f"namespaces/{self.namespace}"
        paths = [f"/apis/apps/v1/{inside}/statefulsets/{self.statefulset}"]
        paths += [f"/api/v1/{inside}/pods/{name}" for name in self.pods]
        paths += [f"/api/v1/nodes/{name}" for name in self.machines]
        for path in paths:
            with contextlib.suppress(RestError):
                self.rest.ask("DELETE", path, {"gracePeriodSeconds": 0}, within_s=5.0)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start(60.0 + 2.0 * len(self.pods))
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    # --- looking ----------------------------------------------------------------------------------

    def pod(self, name: str | int) -> Json | None:
        """Return a pod by name or number; None where there is none."""
        name = self.pods[name] if isinstance(name, int) else name
        try:
            return self.rest.ask("GET", f"/api/v1/namespaces/{self.namespace}/pods/{name}")
        except RestError as error:
            if error.status != 404:  # noqa: PLR2004 - not there
                raise
            return None

    def uid(self, name: str | int) -> str:
        """Return a pod's UID; '' where there is none."""
        found = self.pod(name)
        return str(found["metadata"]["uid"]) if found else ""

    def is_ready(self, name: str | int) -> bool:
        """Return whether a pod is Ready and not on its way out."""
        found = self.pod(name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return False
        conditions = (found.get("status") or {}).get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def all_ready(self) -> bool:
        """Return whether every pod is, and the StatefulSet says so."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets/{self.statefulset}"
        status = self.rest.ask("GET", path).get("status") or {}
        ready = status.get("readyReplicas", 0) == len(self.pods)
        return ready and all(self.is_ready(name) for name in self.pods)

    def wait_for(self, what: str, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        """Return when something holds; LabDidNotSettleError after that."""
        deadline = time.monotonic() + within_s
        while not _hold_now(holds):
            if time.monotonic() > deadline:
                raise LabDidNotSettleError(f"waited {within_s:g} s for {what}: {self._pods_now()}")
            time.sleep(_POLL_S)

    def _pods_now(self) -> str:
        found = [(name, self.pod(name)) for name in self.pods]
        return "; ".join(
            f"{name}: {(pod.get('status') or {}).get('phase')}" if pod else f"{name}: not there"
            for name, pod in found
        )

    # --- changing ---------------------------------------------------------------------------------

    def apply(self, path: str, document: Json) -> Json:
        """Create an object, or leave the one of its name as it is."""
        try:
            return self.rest.ask("POST", path.rpartition("/")[0], document)
        except RestError as error:
            if error.status != 409:  # noqa: PLR2004 - there already
                raise
            return self.rest.ask("GET", path)

    def cordon(self, machine: str | int, *, on: bool = True) -> None:
        """Let a machine take no more pods."""
        name = self.machines[machine] if isinstance(machine, int) else machine
        body = {"spec": {"unschedulable": on or None}}
        self.rest.ask("PATCH", f"/api/v1/nodes/{name}", body)


def _hold_now(holds: Callable[[], bool]) -> bool:
    """Return what it says; False where the API server has no answer for the moment."""
    try:
        return holds()
    except RestError as error:
        if error.status not in {0, 429} and error.status < 500:  # noqa: PLR2004
            raise
        return False
