"""A server ends with whoever started it, however that one ends, and takes its data along."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.servers.errors import ServerDidNotStartError
from lab.servers.process import Home, Server

ROOT = Path(__file__).resolve().parents[2]

#: Starts a process that ignores every polite signal, says where, and waits to be killed.
STARTER = """
import signal, sys, time
from lab.servers.process import Home, Server
home = Home("caretaker-kept-")
stubborn = Server(home, "stubborn", [sys.executable, "-c",
    "import signal, time\\n"
    "for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)\\n"
    "print('up', flush=True)\\ntime.sleep(600)"])
stubborn.start(lambda: stubborn.log.exists() and "up" in stubborn.said(),
               waits_for="its word", within_s=30)
print(stubborn.pid, home._keeper.pid, home.folder, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def await_that(truth, what):
    deadline = time.monotonic() + 30
    while not truth():
        assert time.monotonic() < deadline, f"waited 30 s for {what}"
        time.sleep(0.02)


@pytest.fixture
def starter():
    """A process with a server: (its own handle, the server's pid, the keeper's, the folder)."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        server, keeper, folder = process.stdout.readline().split()
        yield process, int(server), int(keeper), Path(folder)
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_test_that_is_killed_leaves_neither_server_nor_data(starter):
    """Kill -9: nothing of ours runs any more to clear up."""
    process, server, keeper, folder = starter
    assert folder.is_dir()
    process.send_signal(signal.SIGKILL)
    await_that(lambda: gone(server) and gone(keeper), "server and keeper to end")
    await_that(lambda: not folder.exists(), "its folder to go")


def test_a_keeper_that_is_killed_takes_the_server_along(starter):
    """The kernel sees to it."""
    _, server, keeper, _ = starter
    os.kill(keeper, signal.SIGKILL)
    await_that(lambda: gone(server), "the server to end")


def test_a_server_that_ends_at_once_says_what_it_said():
    """And not merely that nobody answers."""
    home = Home("caretaker-kept-")
    try:
        server = Server(home, "short", [sys.executable, "-c", "raise SystemExit('no such option')"])
        with pytest.raises(ServerDidNotStartError, match="short ended with 1: no such option"):
            server.start(lambda: False, waits_for="ever", within_s=30)
    finally:
        home.close()
    assert not home.folder.exists()


def test_a_server_that_is_not_ready_in_time_is_ended():
    """The error names what was waited for."""
    home = Home("caretaker-kept-")
    try:
        server = Server(home, "slow", ["/bin/sleep", "600"])
        with pytest.raises(ServerDidNotStartError, match="waited 0 s for a word"):
            server.start(lambda: False, waits_for="a word", within_s=0.2)
        assert server.wait(10.0) == -signal.SIGKILL
    finally:
        home.close()


def test_a_program_that_is_not_there_is_named():
    home = Home("caretaker-kept-")
    try:
        with pytest.raises(ServerDidNotStartError, match="no/such/program"):
            Server(home, "none", ["/no/such/program"]).start(
                lambda: True, waits_for="nothing", within_s=1
            )
    finally:
        home.close()
