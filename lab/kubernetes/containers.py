"""A container: one process of this machine with an environment of its own, and its guests.

Images and every kind of isolation are left out. `PATH` begins with the lab's own image, so that
`crate`, `curl` and `dc_util` are the lab's. What exec and preStop started dies with the first
process, as in a PID namespace.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.kubernetes.store import Json, stamp


@dataclass(frozen=True)
class Runtime:
    """What every container gets.

    Attributes:
        image: The folder of the image's programs.
        environment: Beside what the pod says.
        ports: Where a container's port really is on this machine, by pod and port: each pod has
            one address of its own on a real network, and here all share one.
        serves: Whether what answers at a pod's ports is the process of this pid: here a port
            outlives its process, until somebody has noticed its end.
    """

    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    serves: Callable[[str, int], bool] = lambda _pod, _pid: True

    def port(self, pod: str, port: int) -> int:
        """Return where a pod's port is."""
        return self.ports.get(pod, {}).get(port, port)


class Container:
    """One run of a pod's first container; a restart in place is a new one."""

    def __init__(self, pod: Json, runtime: Runtime) -> None:
        """Start it; a command that is not there raises OSError."""
        meta = pod["metadata"]
        self.pod, self.spec = meta["name"], pod["spec"]["containers"][0]
        self.started_at = stamp()
        self._runtime = runtime
        self._guests: list[subprocess.Popen[bytes]] = []
        own = {each["name"]: str(each.get("value") or "") for each in self.spec.get("env") or []}
        self._environment = {
            "PATH": os.pathsep.join(
                filter(None, (runtime.image, os.environ.get("PATH", os.defpath)))
            ),
            **runtime.environment,
            **own,
            "POD_NAME": meta["name"],
            "POD_UID": meta["uid"],
            "POD_NAMESPACE": meta["namespace"],
            "HOSTNAME": meta["name"],
            "LAB_HTTP_PORT": str(runtime.port(meta["name"], 4200)),
        }
        self._hits, self._is_ready, self._next_probe = 0, False, 0.0
        self._serves = False
        command = [*(self.spec.get("command") or ["crate"]), *(self.spec.get("args") or [])]
        self._process = self._popen(command)

    def _popen(self, command: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(command),
            env=self._environment,
            cwd="/",
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **streams},
        )

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def exec(self, command: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        """Start a guest: an exec, a hook, a probe. OSError where that cannot be."""
        if self._process.poll() is not None:
            raise OSError("container not running")
        guest = self._popen(command, **streams)
        self._guests = [each for each in self._guests if each.poll() is None] + [guest]
        return guest

    def exit_code(self) -> int | None:
        """Return how the first process ended, None while it has not."""
        code = self._process.poll()
        if code is None:
            return None
        for guest in self._guests:
            if guest.poll() is None:
                _signal_group(guest.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    guest.wait(5.0)
        return 128 - code if code < 0 else code

    def signal(self, number: int) -> None:
        """Send a signal to what runs in it."""
        if self._process.poll() is None:
            _signal_group(self._process.pid, number)

    def kill(self) -> None:
        """End it at once, and everything in it."""
        self.signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        self.exit_code()

    def ready(self) -> bool:
        """Return what its readiness probe says, asked as often as it wants to be."""
        probe = self.spec.get("readinessProbe")
        if not probe:
            return self._process.poll() is None
        # Only until it does: afterwards what the probe says is true of nobody else.
        self._serves = self._serves or self._runtime.serves(self.pod, self.pid)
        if not self._serves:
            return False
        if time.monotonic() < self._next_probe:
            return self._is_ready
        good = self._probe(probe, float(probe.get("timeoutSeconds") or 1))
        self._next_probe = time.monotonic() + float(probe.get("periodSeconds") or 10)
        self._hits = max(self._hits, 0) + 1 if good else min(self._hits, 0) - 1
        if self._hits >= int(probe.get("successThreshold") or 1):
            self._is_ready = True
        elif -self._hits >= int(probe.get("failureThreshold") or 3):
            self._is_ready = False
        return self._is_ready

    def _probe(self, probe: Json, within_s: float) -> bool:
        if "exec" in probe:
            try:
                guest = self.exec(probe["exec"]["command"], stdout=subprocess.DEVNULL)
                return guest.wait(within_s) == 0
            except (OSError, subprocess.TimeoutExpired):
                return False
        found = probe.get("httpGet")
        if not found:
            return True
        port = self._runtime.port(self.pod, int(found["port"]))
        url = f"http://127.0.0.1:{port}{found.get('path') or '/'}"
        try:
            with urllib.request.urlopen(url, timeout=within_s) as answer:
                return bool(answer.status < 400)  # noqa: PLR2004 - as a kubelet judges
        except (OSError, ValueError):
            return False


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
