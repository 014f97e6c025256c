"""The bare syncer in a process of its own, to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.binlog_sync.bench import PATIENCE_S, Bench

CHECKOUT = Path(__file__).parents[2]


class Child:
    """A running syncer."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        policy = {
            "source": bench.name,
            "include": [rf"{bench.name}\..*"],
            "flush_after_s": 0.05,
            **options,
        }
        order = {
            "mysql_url": bench.uri,
            "mongodb_uri": bench.settings.uri,
            "database": bench.settings.database,
            "policy": policy,
        }
        path = os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proofs.binlog_child", json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("ready"):
                self._ready.set()
        self._ready.set()

    def ready(self) -> Child:
        assert self._ready.wait(PATIENCE_S), self.lines
        return self

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@contextmanager
def child(bench: Bench, **options: Any) -> Iterator[Child]:
    running = Child(bench, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
