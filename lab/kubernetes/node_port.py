"""Ties the nodes of a lab CrateDB to processes: a node lives as long as one that holds it.

A process says which pod it runs in, and its node boots. The process is told when its node ends by
itself; when the process ends first, its node does. A second one for the same node waits for the
first, as the second of two incarnations waits for the lock on their one data directory.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Mapping
from typing import Any

from lab.cratedb.laboratory import LabCrateDB

_POLL_S = 0.05

#: SIGTERM ends CrateDB with this code.
_TERMINATED = 143


class NodePort:
    """Listens on loopback for the processes of nodes. Lever for tests: `fail_starts`."""

    def __init__(self, crate: LabCrateDB, nodes: Mapping[str, str]) -> None:
        """Take the cluster, and the name of the node by pod."""
        self._crate = crate
        self._nodes = dict(nodes)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._lock = threading.Lock()
        self._holders: dict[str, _Holder] = {}
        self._failing: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        #: How often a process began to run, by pod.
        self.starts: dict[str, int] = {}
        crate.on_exit.append(self._ended)

    def start(self) -> None:
        """Listen."""
        threading.Thread(target=self._accept, name="lab-nodes", daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody."""
        self._stop.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._crate.on_exit.remove(self._ended)
        with self._lock:
            holders = list(self._holders.values())
        for holder in holders:
            holder.hang_up()

    def add(self, pod: str, node: str) -> None:
        """Say which node runs in a pod."""
        with self._lock:
            self._nodes[pod] = node

    def holds(self, pod: str, pid: int) -> bool:
        """Whether this very process has the pod's node, and not the one before it."""
        with self._lock:
            holder = self._holders.get(self._nodes.get(pod, ""))
            return holder is not None and holder.pid == pid

    def fail_starts(self, pod: str, times: int, code: int = 1) -> None:
        """Let the next processes of a pod end at once with this code."""
        with self._lock:
            self._failing[pod] = (times, code)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        holder = _Holder(connection)
        with (
            connection,
            contextlib.suppress(OSError, ValueError, KeyError),
            connection.makefile("r", encoding="utf-8") as lines,
        ):
            said = json.loads(lines.readline())
            pod, holder.pid = str(said["pod"]), int(said["pid"])
            if (code := self._fails(pod)) is not None:
                holder.tell({"exit": code})
                return
            with self._lock:
                name = self._nodes[pod]
                self.starts[pod] = self.starts.get(pod, 0) + 1
            if self._take(name, holder):
                self._live(name, holder, lines)

    def _fails(self, pod: str) -> int | None:
        with self._lock:
            times, code = self._failing.get(pod, (0, 0))
            if not times:
                return None
            self._failing[pod] = (times - 1, code)
            return code

    def _take(self, name: str, holder: _Holder) -> bool:
        """Wait until nobody holds the node, and boot it; False when told to stop before."""
        while not self._stop.is_set():
            with self._lock:
                if name not in self._holders:
                    self._holders[name] = holder
                    break
            if holder.gone.wait(_POLL_S):
                return False
        if not self._node(name).alive:
            self._crate.restart(name)
        return True

    def _live(self, name: str, holder: _Holder, lines: Any) -> None:
        """Wait for the end of one of the two."""
        try:
            for line in lines:
                if json.loads(line).get("signal") == "TERM" and not holder.told:
                    self._kill(name, holder)
                    holder.tell({"exit": _TERMINATED})
        finally:
            if not holder.told:
                self._kill(name, holder)
            with self._lock:
                self._holders.pop(name, None)

    def _kill(self, name: str, holder: _Holder) -> None:
        holder.told = True
        self._crate.crash(name)

    def _node(self, name: str) -> Any:
        return next(node for node in self._crate.world.nodes if node.name == name)

    def _ended(self, name: str, code: int) -> None:
        with self._lock:
            holder = self._holders.get(name)
        if holder is not None and not holder.told:
            holder.tell({"exit": code})


class _Holder:
    """A process that holds a node."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = 0
        self.told = False
        self.gone = threading.Event()

    def tell(self, answer: dict[str, int]) -> None:
        self.told = True
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(answer).encode() + b"\n")

    def hang_up(self) -> None:
        self.gone.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
