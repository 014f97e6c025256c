"""Dagster's own processes, killed while a table is at 0: only what a service manager does follows.

Code server and daemon run as in production, the reset is launched through the queue, and the
sensor on open tickets is on by default. Nobody restores by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lab.cratedb import LabCrateDB
from lab.faults import Fault
from lab.supervisor import Child, NotReadyError, Supervisor, accepts, descendants
from proofs.children import ROOT, HungError
from proofs.oracle import Oracle
from proofs.scenes import RESET, Scene, laboratory, stuck
from proofs.trial import By, Verdict, environ

_LOCATION = "caretaker"
_CODE_SERVER, _DAEMON = "code server", "daemon"

#: A cold start, a tick of each daemon and a restore, on a machine that has other things to do.
_COMES_BACK_WITHIN_S = 240.0
_AT_ZERO_WITHIN_S = 120.0
_POLL_S = 0.1


@dataclass(frozen=True)
class _Kind:
    """Who is killed: services by name, and whether the runs below the code server are."""

    services: tuple[str, ...]
    runs: bool


#: A service manager that ends a service ends what it has started; a lone process may die as well.
KINDS = {
    "code server and daemon, with the run": _Kind((_CODE_SERVER, _DAEMON), runs=True),
    "code server, with the run": _Kind((_CODE_SERVER,), runs=True),
    "daemon, and the run": _Kind((_DAEMON,), runs=True),
    "code server, not the run": _Kind((_CODE_SERVER,), runs=False),
}


def play(kind: str, folder: Path) -> Verdict:
    """Kill, restart, wait until the table is back, and judge."""
    home = folder / f"services-{time.monotonic_ns()}"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    verdict = Verdict()
    with laboratory() as lab:
        services = _Services(home, lab)
        try:
            services.start()
            _round(services, KINDS[kind], verdict)
        except (HungError, NotReadyError) as error:
            verdict.broken.hung.append(str(error))
        finally:
            services.kill()
    if not verdict.broken:
        shutil.rmtree(home, ignore_errors=True)
    return verdict


def _round(services: _Services, kind: _Kind, verdict: Verdict) -> None:
    oracle = services.oracle
    verdict.broken = oracle.broken
    launched = services.launch()
    services.until(lambda: bool(services.lab.at_zero()), _AT_ZERO_WITHIN_S, "a table at 0")
    services.until(
        lambda: services.state_of_ticket() == "MONITORING_LEASES", _AT_ZERO_WITHIN_S, "its ticket"
    )
    verdict.at_zero = verdict.owed = True
    verdict.kills += services.strike(kind)
    struck = time.monotonic()
    services.until(lambda: not services.lab.at_zero(), _COMES_BACK_WITHIN_S, "the table")
    verdict.back_after_s = time.monotonic() - struck
    services.until(lambda: not oracle.open_tickets(), _COMES_BACK_WITHIN_S, "a closed ticket")
    verdict.recoveries[By.SENSOR] += services.restores(besides=launched)
    oracle.judge()


class _Services:
    """Code server and daemon of one home. Used from one thread, as the supervisor asks."""

    def __init__(self, home: Path, lab: LabCrateDB) -> None:
        self.lab = lab
        self._home = home
        self._surroundings = environ(home, lab.connection_string)
        self._port = _free_port()
        self._workspace = home / "workspace.yaml"
        self._workspace.write_text(
            "load_from:\n  - grpc_server:\n      host: 127.0.0.1\n"
            f"      port: {self._port}\n      location_name: {_LOCATION}\n"
        )
        self._supervisor = Supervisor(logs=home / "logs", say=lambda _: None)
        self._scene = Scene("a table whose leases stay", stuck)
        self.oracle = Oracle(self._scene, lab, home / "caretaker.db")
        lab.faults.add(Fault(before=self.oracle.arrives))

    def start(self) -> None:
        """Start both, and return when they work."""
        # The supervisor's children have this process's environment; `env` gives them their own.
        python = ("env", "-i", *(f"{k}={v}" for k, v in self._surroundings.items()), sys.executable)
        code = ("-m", "dagster", "api", "grpc", "-m", "definitions", "-h", "127.0.0.1")
        daemon = ("-m", "dagster._daemon", "run", "-w", str(self._workspace))
        for child in (
            Child(
                _CODE_SERVER,
                (*python, *code, "-p", str(self._port), "--location-name", _LOCATION),
                lambda: accepts("127.0.0.1", self._port),
                "its port to answer",
                ready_within_s=120.0,
                spares_its_own=True,
            ),
            Child(
                _DAEMON,
                (*python, *daemon),
                self._daemon_has_been_heard_of,
                "its first heartbeat",
                ready_within_s=120.0,
            ),
        ):
            self._supervisor.start(child)

    def launch(self) -> int:
        """Put a reset into the queue, and return how many runs there are with it."""
        options = json.dumps({**RESET, "max_wait_s": 900.0, "wait_ladder_s": [1.0]})
        command = [sys.executable, "-m", "dagster", "job", "launch", "-w", str(self._workspace)]
        command += ["-l", _LOCATION, "-j", "translog_reset", "--config-json", options]
        done = subprocess.run(
            command,
            cwd=self._home,
            env=self._surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise HungError(f"the reset cannot be launched: {done.stderr[-1000:]}")
        return self._runs()

    def strike(self, kind: _Kind) -> int:
        """SIGKILL them at one moment; return how many services there were."""
        pids = {self._supervisor.pid_of(name) for name in kind.services}
        if kind.runs:
            pids |= descendants(self._supervisor.pid_of(_CODE_SERVER))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(kind.services)

    def until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait, starting again whatever has died meanwhile."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise HungError(f"waited {within_s:g} s for {what}; logs in {self._home}")
            self._supervisor.tick()
            time.sleep(_POLL_S)

    def state_of_ticket(self) -> str:
        """Return the state of the only ticket, open or closed."""
        rows = self._ask("caretaker.db", "SELECT state FROM caretaker_tickets")
        return rows[0] if rows else ""

    def restores(self, *, besides: int) -> int:
        """How many runs the sensor has started."""
        return self._runs() - besides

    def kill(self) -> None:
        """Leave nothing behind."""
        left: set[int] = set()
        with contextlib.suppress(StopIteration):
            left = descendants(self._supervisor.pid_of(_CODE_SERVER))
        self._supervisor.kill()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _runs(self) -> int:
        return int(self._ask("history/runs.db", "SELECT count(*) FROM runs")[0])

    def _daemon_has_been_heard_of(self) -> bool:
        beats = self._ask("history/runs.db", "SELECT daemon_type FROM daemon_heartbeats")
        return {"SENSOR", "QUEUED_RUN_COORDINATOR"} <= set(beats)

    def _ask(self, database: str, query: str) -> list[str]:
        with closing(sqlite3.connect(self._home / database, timeout=30)) as connection:
            try:
                return [row[0] for row in connection.execute(query)]
            except sqlite3.OperationalError:
                # Dagster has not made its tables yet.
                return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
