"""What a rolling restart costs: our own seconds a pod, requests to the API server, memory.

The lab's Kubernetes and CrateDB answer over sockets in a process of their own, at their own pace: a
poller asks the more the longer a drain takes, a watch does not. "Own" seconds are
processor seconds of the whole command, Dagster's included, beyond those of a dry run, which starts
as well. Requests are counted at the API server. Beside it runs the script of `naive_restart`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from crate.client import connect

Figures = dict[str, float | None]

_ROOT = Path(__file__).resolve().parents[1]
_READY = re.compile(
    r"lab Kubernetes ready: KUBECONFIG=(\S+) crate (\S+) control (\S+) levers (\S+)"
)

#: Waits of ours that measure nothing.
_PACE = {"settle_s": 0, "stable_s": 0, "rest_timeout_s": 600, "ready_margin_s": 600}

_TABLE = "CREATE TABLE doc.readings (x INT) CLUSTERED INTO 8 SHARDS WITH (number_of_replicas = '1')"

_NAME, _NAMESPACE = "bench", "bench"
_STATEFULSET = f"crate-data-hot-{_NAME}"


def run(*, quick: bool) -> dict[str, Figures]:
    """Return figures by workload: half an hour, `quick` two minutes."""
    pods, few = (3, 1) if quick else (100, 10)
    with _laboratory(pods) as lab:
        start = _measured(lab, 1, [*_caretaker(lab, None), "--dry-run"])
        ours = _measured(lab, pods, _caretaker(lab, None))
        beside = _measured(lab, few, _caretaker(lab, few))
        naive = _measured(lab, few, _naive(lab, few))
    return {
        f"rolling_restart_{pods}_pods": _beyond(ours, start),
        f"rolling_restart_{few}_of_{pods}_pods": {
            "ratio_api_requests_vs_naive": _ratio(beside, naive, "api_requests_a_pod"),
            "ratio_wall_seconds_vs_naive": _ratio(beside, naive, "wall_seconds_a_pod"),
            **_beyond(beside, start),
        },
        f"naive_{few}_of_{pods}_pods": naive,
        "start_and_dry_run": start,
    }


def _ratio(ours: Figures, other: Figures, key: str) -> float | None:
    mine, theirs = ours[key], other[key]
    return mine / theirs if mine is not None and theirs else None


def _beyond(ours: Figures, start: Figures) -> Figures:
    """Return the figures of a restart, with what a start takes taken off the own seconds."""
    pods = ours["pods"] or 1.0
    spent = (ours["own_seconds"] or 0.0) - (start["own_seconds"] or 0.0)
    return {"own_seconds_a_pod": spent / pods, **ours}


@dataclass(frozen=True)
class _Lab:
    kubeconfig: str
    address: str
    levers: str
    home: Path

    def seen(self) -> dict[str, int]:
        found: dict[str, int] = self._ask("requests")
        return found

    def starts(self) -> dict[str, int]:
        return {pod["name"]: pod["starts"] for pod in self._ask("status")["pods"]}

    def _ask(self, what: str) -> Any:
        with urlopen(f"{self.levers}/{what}", timeout=60) as answer:  # noqa: S310 - the lab's own
            return json.loads(answer.read())


@contextmanager
def _laboratory(pods: int) -> Iterator[_Lab]:
    home = Path(tempfile.mkdtemp(prefix="restart-bench-"))
    shutil.copy(_ROOT / "dagster.yaml", home)
    options = ["--nodes", str(pods), "--name", _NAME, "--namespace", _NAMESPACE]
    process = subprocess.Popen(
        [sys.executable, "-m", "lab.kubernetes", *options, "--recovery-s", "0.3"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if process.stdout is None:
            raise AssertionError("it was asked for")
        match = _READY.match(process.stdout.readline())
        if match is None:
            raise SystemExit("the lab did not start")
        with connect(match[2].split(",")[0]) as connection:
            connection.cursor().execute(_TABLE)
        yield _Lab(match[1], match[2], match[4], home)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _caretaker(lab: _Lab, pods: int | None) -> list[str]:
    options = lab.home / "options.json"
    options.write_text(json.dumps(_PACE), encoding="utf-8")
    named = [] if pods is None else [f"{_STATEFULSET}-{number}" for number in range(pods)]
    command = [sys.executable, "-m", "console.main", "restart", _NAME, "--output", "json"]
    return [*command, "--config", str(options), *(word for n in named for word in ("--pod", n))]


def _naive(lab: _Lab, pods: int) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.naive_restart", lab.kubeconfig, _NAMESPACE]
    return [*command, _STATEFULSET, lab.address, str(pods)]


def _measured(lab: _Lab, pods: int, command: list[str]) -> Figures:
    """Run a command and return what it took, by itself and at the API server."""
    before, starts = lab.seen(), lab.starts()
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        environ = {
            **os.environ,
            "DAGSTER_HOME": str(lab.home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "KUBECONFIG": lab.kubeconfig,
            "CRATE_CONNECTION_STRING": lab.address,
        }
        process = subprocess.Popen(
            command, cwd=_ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{command} failed:\n{said.read()[-4000:]}")
    took, after = time.monotonic() - began, lab.seen()
    return {
        "pods": float(pods),
        "restarted": float(sum(count - starts[name] for name, count in lab.starts().items())),
        "own_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds_a_pod": took / pods,
        **_requests(before, after, pods),
        "peak_memory_mb": used.ru_maxrss / 1024,
    }


def _requests(before: dict[str, int], after: dict[str, int], pods: int) -> Figures:
    kinds = Counter(after)
    kinds.subtract(before)
    asked = {kind: count for kind, count in sorted(kinds.items()) if count}
    return {
        "api_requests_a_pod": sum(asked.values()) / pods,
        **{f"{kind.replace(' ', '_')}_a_pod": count / pods for kind, count in asked.items()},
    }
