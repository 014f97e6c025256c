"""Dagster's own processes with a sync below them, as a service manager keeps them.

Code server and daemon run as in production. Nobody starts the sync: its sensor, which is on by
default, does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pymongo
import yaml

from lab.supervisor import Child, Supervisor, accepts, descendants
from proofs.children import ROOT, HungError
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail

_LOCATION = "caretaker"
_CODE_SERVER, _DAEMON = "code server", "daemon"
_STARTS_WITHIN_S = 900.0
_POLL_S = 0.05

#: What is killed: the run's own process, the code server that started it, or both at once.
KINDS = ("worker", "code server", "both")


class Service:
    """One home with both processes. Used from one thread, as the supervisor asks.

    Args:
        options: The run config of the standing sync.
    """

    def __init__(
        self, home: Path, mysql_url: str, settings: MongoDBSettings, options: Mapping[str, Any]
    ) -> None:
        """Write down what they are to run with; nothing runs yet."""
        self._home = home
        self._source = str(options["source"])
        self._settings = settings
        shutil.copy(ROOT / "dagster.yaml", home)
        config = home / "binlog.yaml"
        config.write_text(yaml.safe_dump(dict(options)), encoding="utf-8")
        self._port = _free_port()
        self._workspace = home / "workspace.yaml"
        self._workspace.write_text(
            "load_from:\n  - grpc_server:\n      host: 127.0.0.1\n"
            f"      port: {self._port}\n      location_name: {_LOCATION}\n"
        )
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._surroundings = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "MYSQL_URL": mysql_url,
            "MONGODB_URI": settings.uri,
            "MONGODB_DATABASE": settings.database,
            "CARETAKER_BINLOG_CONFIG": str(config),
        }
        self._supervisor = Supervisor(logs=home / "logs", say=lambda _: None)
        self._client = pymongo.MongoClient[dict[str, Any]](settings.uri)

    def __enter__(self) -> Self:
        """Make the trail's collections, and start both."""
        try:
            with Trail.open(self._settings) as trail:
                trail.setup()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        left: set[int] = set()
        with contextlib.suppress(StopIteration):
            left = descendants(self._supervisor.pid_of(_CODE_SERVER))
        with contextlib.suppress(pymongo.errors.PyMongoError):
            if (worker := self.worker()) is not None:
                left.add(worker)
        self._supervisor.kill()
        for pid in left:
            _kill(pid)
        self._client.close()

    def back_after(self, kind: str) -> float:
        """Kill, and return the seconds until another run has written to the trail."""
        worker = self.until(self.worker, "a run that has the trail")
        before = self._offset()["seq"]
        self.until(lambda: self._offset()["seq"] > before, "a trail that grows")
        pids = set()
        if kind != "code server":
            pids.add(worker)
        if kind != "worker":
            pids.add(self._supervisor.pid_of(_CODE_SERVER))
        struck = time.monotonic()
        for pid in pids:
            _kill(pid)
        another = self.until(
            lambda: (now := self.worker()) is not None and now != worker and now, "another run"
        )
        taken = self._offset()["seq"]
        self.until(
            lambda: self.worker() == another and self._offset()["seq"] > taken, "its first commit"
        )
        return time.monotonic() - struck

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Return what a condition returns once that is true, starting again what has died."""
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise HungError(f"waited {_STARTS_WITHIN_S:g} s for {what}; logs in {self._home}")
            self._supervisor.tick()
            time.sleep(_POLL_S)
        return found

    def worker(self) -> int | None:
        """Return the process that has the trail, if it lives."""
        owner = self._offset().get("owner") or {}
        pid = int(owner.get("pid", 0))
        return pid if pid and Path(f"/proc/{pid}").exists() and not _is_zombie(pid) else None

    def stored(self) -> int:
        """Return how far the trail is."""
        return int(self._offset()["seq"])

    def _offset(self) -> dict[str, Any]:
        offsets = self._client[self._settings.database].binlog_offsets
        return offsets.find_one({"_id": self._source}) or {"seq": 0}

    def _start(self) -> None:
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
                ready_within_s=_STARTS_WITHIN_S,
                spares_its_own=True,
            ),
            Child(
                _DAEMON,
                (*python, *daemon),
                self._daemon_has_been_heard_of,
                "its first heartbeat",
                ready_within_s=_STARTS_WITHIN_S,
            ),
        ):
            self._supervisor.start(child)

    def _daemon_has_been_heard_of(self) -> bool:
        with closing(sqlite3.connect(self._home / "history" / "runs.db", timeout=30)) as database:
            try:
                beats = [
                    row[0] for row in database.execute("SELECT daemon_type FROM daemon_heartbeats")
                ]
            except sqlite3.OperationalError:
                # Dagster has not made its tables yet.
                return False
        return {"SENSOR", "QUEUED_RUN_COORDINATOR"} <= set(beats)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
