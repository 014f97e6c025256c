"""The zygote from outside: start a child, wait for its end, hit it, hold it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from proofs.orders import Order

ROOT = Path(__file__).resolve().parents[1]

#: No child of ours takes longer unless it hangs; a cold start on a busy machine is in it.
ENDS_WITHIN_S = 120.0

_POLL_S = 0.005


class HungError(Exception):
    """Something did not happen within its time."""


@dataclass
class Child:
    """A process that leads a group of its own."""

    pid: int
    answer: Path
    ended: threading.Event = field(default_factory=threading.Event)
    code: int | None = None

    def wait(self, within_s: float = ENDS_WITHIN_S) -> int:
        """Return its exit code, negative for a signal; HungError where it does not end."""
        if not self.ended.wait(within_s):
            raise HungError(f"process {self.pid} did not end within {within_s:g} s")
        return self.code or 0

    def told(self) -> dict[str, Any]:
        """Return its answer, {} where it was killed before it gave one."""
        try:
            answer: dict[str, Any] = json.loads(self.answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return answer

    def kill(self, *, alone: bool = False) -> None:
        """SIGKILL, for the whole group or for the leader alone, and wait for the leader's end."""
        with contextlib.suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.pid, signal.SIGKILL)
        self.wait(10.0)

    def stop(self) -> None:
        """SIGSTOP, and wait until no thread of it runs."""
        os.killpg(self.pid, signal.SIGSTOP)
        self.await_stop(10.0)

    def await_stop(self, within_s: float) -> bool:
        """Return once every thread is stopped; False where the process has ended instead."""
        deadline = time.monotonic() + within_s
        while not self.ended.is_set():
            if _threads_are_stopped(self.pid):
                return True
            if time.monotonic() > deadline:
                raise HungError(f"process {self.pid} did not stop within {within_s:g} s")
            time.sleep(_POLL_S)
        return False

    def go_on(self) -> None:
        """SIGCONT."""
        os.killpg(self.pid, signal.SIGCONT)

    def await_group(self, within_s: float = ENDS_WITHIN_S) -> None:
        """Return once nothing of its group is left."""
        deadline = time.monotonic() + within_s
        while _group_exists(self.pid):
            if time.monotonic() > deadline:
                raise HungError(f"something of group {self.pid} lives on after {within_s:g} s")
            time.sleep(_POLL_S * 4)

    def end(self) -> None:
        """Leave nothing of it behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class Zygote:
    """A process to fork from; safe to ask from several threads."""

    def __init__(self, environ: dict[str, str], life: str = "proofs.child") -> None:
        """Start it, which takes some seconds; `start` waits for it. `life` is a child's module."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proofs.zygote", str(theirs.fileno()), life],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._asking = threading.Lock()
        self._known = threading.Condition()
        self._children: dict[int, Child] = {}
        self._codes: dict[int, int] = {}
        self._started: list[int] = []
        self._closed = False
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and every group that it has started."""
        for child in list(self._children.values()):
            child.end()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ours.close()

    def start(self, order: Order) -> Child:
        """Return a child that carries out the order; HungError where none could be made."""
        with self._asking:
            self._ours.send(order.to_bytes())
            with self._known:
                if not self._known.wait_for(lambda: self._started or self._closed, 300.0):
                    raise HungError("the zygote does not answer")
                if not self._started:
                    raise HungError("the zygote has ended")
                pid = self._started.pop()
                child = Child(pid, Path(order.answer))
                self._children[pid] = child
                self._settle(pid)
        return child

    def _listen(self) -> None:
        while True:
            try:
                message = self._ours.recv(65536)
            except OSError:
                message = b""
            with self._known:
                if not message:
                    self._closed = True
                    self._known.notify_all()
                    return
                said = json.loads(message)
                if "started" in said:
                    self._started.append(said["started"])
                    # A pid that was used before is somebody else's end.
                    self._codes.pop(said["started"], None)
                    self._children.pop(said["started"], None)
                elif "ended" in said:
                    self._codes[said["ended"]] = said["code"]
                    self._settle(said["ended"])
                self._known.notify_all()

    def _settle(self, pid: int) -> None:
        if pid in self._children and pid in self._codes:
            child = self._children.pop(pid)
            child.code = self._codes.pop(pid)
            child.ended.set()


def _group_exists(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    return True


def _threads_are_stopped(pid: int) -> bool:
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:
        return False
    return bool(states) and all(state == "T" for state in states)
