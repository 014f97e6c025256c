"""A lab in a process of its own: start it, wait until it is ready, stop it."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from lab.control import LabControl


class LabDidNotStartError(Exception):
    """The process ended, or said nothing, before it was ready; the message is what it said."""


class LabProcess:
    """`python -m lab.cratedb` with these arguments, as a handle.

    With `log` it outlives the handle: its output goes to that file, `pid` and `control` find it
    again. Ports 0 mean any free one; `connection_string` tells which.
    """

    #: What is run, the option that names its port, and what it says once it serves.
    module = "lab.cratedb"
    port_option = "--port-base"
    ready = re.compile(r"lab CrateDB ready: (\S+) control (\S+)")

    def __init__(
        self,
        *arguments: str,
        port_base: int = 0,
        control_port: int = 0,
        log: Path | None = None,
        ready_within_s: float = 120.0,
    ) -> None:
        """Remember how to start it."""
        self._command = [sys.executable, "-m", self.module, self.port_option, str(port_base),
                         "--control-port", str(control_port), *arguments]  # fmt: skip
        self._log = log
        self._ready_within_s = ready_within_s
        self._process: subprocess.Popen[str] | None = None
        self.connection_string = ""
        self.control = LabControl()

    @property
    def pid(self) -> int:
        """Return the process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> Self:
        """Start it and return once it serves, or raise LabDidNotStartError."""
        # Its own session: Ctrl-C in the terminal that started it is not meant for it.
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if self._log is None else self._log.open("a"),
            text=True,
            start_new_session=True,
        )
        line = self._first_line()
        match = self.ready.match(line)
        if match is None:
            said = line.strip() or self._complaint()
            self.stop()
            raise LabDidNotStartError(said)
        self.connection_string = match[1]
        self.control = LabControl(match[2])
        return self

    def _first_line(self) -> str:
        process = self._process
        if process is None or process.stdout is None:
            return ""
        said: queue.Queue[str] = queue.Queue()
        stream = process.stdout
        threading.Thread(target=lambda: said.put(stream.readline()), daemon=True).start()
        try:
            return said.get(timeout=self._ready_within_s)
        except queue.Empty:
            return ""

    def _complaint(self) -> str:
        process = self._process
        try:
            # Its output may be at its end a moment before it is.
            returncode = process.wait(1.0) if process is not None else 0
        except subprocess.TimeoutExpired:
            return f"not ready after {self._ready_within_s:g} s"
        if process is not None and process.stderr is not None:
            return process.stderr.read().strip()
        return f"exit code {returncode}; see {self._log}"

    def stop(self, within_s: float = 60.0) -> int:
        """End it with SIGTERM, then SIGKILL, and return its exit code."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        return code

    def kill(self) -> None:
        """Kill -9, for those who want to see what happens then."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
