"""Watches a cluster in pods from outside while runs live and die there, and judges by what it saw.

Pods by a watch past everything that misbehaves, nodes in the lab's own memory, shards by their
health: what a run says of itself plays no part.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from lab.cratedb.health import of_cluster
from lab.kubernetes.cluster import CratePods
from lab.kubernetes.rest import RestError

_EVERY_S = 0.02


@dataclass
class Life:
    """What was seen of one pod's name.

    Attributes:
        lives: Every incarnation whose process ran: UID and restart count. Not one that was first
            told of when its pod was on its way out: the kubelet had begun it in the moment of the
            delete, which nobody could see (a status follows the start), and its node never joined.
        ready: Those that were Ready once.
        departures: How often its node died or left, in the lab's own memory.
        out: On its way out, not there, or not Ready since it began.
    """

    lives: set[tuple[str, int]] = field(default_factory=set)
    ready: set[tuple[str, int]] = field(default_factory=set)
    departures: int = 0
    out: bool = True

    @property
    def restarts(self) -> int:
        """How often it became another one, began again in place, or its node went."""
        return max(len(self.lives) - 1, self.departures)


class Witness:
    """Notes the lives of every pod, and how many pods or nodes were out at one moment."""

    def __init__(self, pods: CratePods) -> None:
        """Take the cluster; `with` begins to watch."""
        self.lives = {name: Life() for name in pods.pods}
        self.most_pods_out: list[str] = []
        self.most_nodes_out: list[str] = []
        self.crossed: list[str] = []
        self.missing = 0
        self._pods = pods
        self._path = f"/api/v1/namespaces/{pods.namespace}/pods"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=look, name="restart-witness", daemon=True)
            for look in (self._follow, self._sample)
        ]

    def __enter__(self) -> Self:
        """Begin, knowing how all stand."""
        self._version = self._list()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._stop.set()
        self._list()

    @property
    def twice(self) -> list[str]:
        """Pods that were restarted more than once."""
        return [name for name, life in self.lives.items() if life.restarts > 1]

    def again(self, name: str) -> bool:
        """Whether a pod was restarted at all."""
        return self.lives[name].restarts > 0

    # --- pods -------------------------------------------------------------------------------------

    def _list(self) -> str:
        listed = self._pods.rest.ask("GET", self._path)
        for pod in listed["items"]:
            self._see("SEEN", pod)
        self._count()
        return str(listed["metadata"]["resourceVersion"])

    def _follow(self) -> None:
        version = self._version
        while not self._stop.is_set():
            with contextlib.suppress(RestError):
                for event in self._pods.rest.watch(self._path, version, 5):
                    if self._stop.is_set():
                        return
                    version = str(event["object"]["metadata"]["resourceVersion"])
                    self._see(event["type"], event["object"])
                    self._count()
                continue
            with contextlib.suppress(RestError):
                version = self._list()

    def _see(self, what: str, pod: dict[str, Any]) -> None:
        meta, status = pod["metadata"], pod.get("status") or {}
        life = self.lives.get(meta["name"])
        if life is None:
            return
        running = [
            (meta["uid"], int(each.get("restartCount") or 0))
            for each in status.get("containerStatuses") or []
            if "running" in (each.get("state") or {})
        ]
        gone = what == "DELETED" or bool(meta.get("deletionTimestamp"))
        if not gone:
            life.lives.update(running)
        if any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in status.get("conditions") or []
        ):
            life.ready.update(running)
        life.out = gone or not running or not life.ready.issuperset(running)

    def _count(self) -> None:
        out = [name for name, each in self.lives.items() if each.out]
        self.most_pods_out = max(self.most_pods_out, out, key=len)

    # --- nodes ------------------------------------------------------------------------------------

    def _sample(self) -> None:
        world, draining, dead = self._pods.crate.world, set[str](), set[str]()
        while not self._stop.wait(_EVERY_S):
            with world.lock:
                ended = {node.hostname for node in world.nodes if not node.alive}
                out = [node.hostname for node in world.nodes if not node.alive or node.draining]
                now = {node.hostname for node in world.nodes if node.draining}
                self.missing = max(self.missing, of_cluster(world).missing)
            self.most_nodes_out = max(self.most_nodes_out, out, key=len)
            for began in now - draining:
                self._drain_begins(began)
            for left in ended - dead:
                self.lives[left].departures += 1
            draining, dead = now, ended

    def _drain_begins(self, name: str) -> None:
        """See that every other pod is there when a node begins to drain."""
        with contextlib.suppress(RestError):
            for other in self._pods.pods:
                if other != name and not self._pods.is_ready(other):
                    self.crossed.append(f"{name} began to drain while {other} was out")
