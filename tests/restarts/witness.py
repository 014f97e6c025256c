"""Watches a cluster's pods from outside while a restart goes on: who was restarted, how often."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Self

from lab.kubernetes.cluster import CratePods
from lab.kubernetes.rest import RestError

_EVERY_S = 0.05
_ANSWERED_WITHIN_S = 30.0


class Witness:
    """Notes every incarnation of every pod, and how many nodes were out at one moment."""

    def __init__(self, pods: CratePods) -> None:
        self._pods = pods
        self._incarnations: dict[str, set[tuple[str, int]]] = {name: set() for name in pods.pods}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Self:
        world = self._pods.crate.world
        with world.lock:
            world.most_out = world.out
        self._surely_look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._surely_look()

    @property
    def most_out(self) -> int:
        """How many nodes were out at one moment, as the lab has counted: none is out for long."""
        return self._pods.crate.world.most_out

    @property
    def restarts(self) -> dict[str, int]:
        """How often each pod became another one, or its container started again."""
        return {name: len(seen) - 1 for name, seen in self._incarnations.items()}

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            # An API server that is away is looked at again.
            with contextlib.suppress(RestError):
                self._look()

    def _surely_look(self) -> None:
        """Look once, however rough the API server is just now; it may be on its way up again."""
        until = time.monotonic() + _ANSWERED_WITHIN_S
        while True:
            try:
                return self._look()
            except RestError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_EVERY_S)

    def _look(self) -> None:
        for name, seen in self._incarnations.items():
            found: dict[str, Any] = self._pods.pod(name) or {}
            if (found.get("metadata") or {}).get("deletionTimestamp"):
                # A container that the kubelet began in the moment of the delete: nobody could see.
                continue
            for status in (found.get("status") or {}).get("containerStatuses") or []:
                if "running" in (status.get("state") or {}):
                    seen.add((found["metadata"]["uid"], int(status.get("restartCount") or 0)))
