"""Stands between servers and whoever started them: `python keeper.py FOLDER`. Imports none of ours.

Requests come in on stdin and are answered on stdout, a JSON object a line each. When stdin ends,
because its other end has been closed or killed, the keeper ends its servers, last started first,
and removes their folder. When it is killed itself, the kernel kills them. So nobody who is done, or
dead, leaves a server or its data behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
_ENDS_WITHIN_S = 5.0

Request = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
_servers: dict[str, subprocess.Popen[bytes]] = {}
_ends_with: dict[str, int] = {}


def main() -> int:
    """Answer until nobody asks any more."""
    folder = sys.argv[1]
    # A signal to the terminal's or the script's whole group is not meant for us.
    os.setsid()
    # Whoever sweeps up behind our owner ends us while we do the same: we are about to be done.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _ANSWERS[request["what"]](request)
        except OSError as error:
            answer = {"error": str(error)}
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    for name, server in reversed(_servers.items()):
        _end(server, _ends_with[name])
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _start(request: Request) -> Request:
    """Start a server; the one of that name, if any, has ended."""

    def become_the_server() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        if request["user"] is not None:
            uid, gid = request["user"]
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        # After the change of user, which would undo it.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    with open(request["log"], "ab") as log:  # noqa: PTH123 - pathlib would double our start-up
        server = subprocess.Popen(
            request["command"],
            cwd=request["folder"],
            env=request["environment"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=become_the_server,  # noqa: PLW1509 - there is one thread
        )
    name = request["name"]
    _servers.pop(name, None)
    _servers[name] = server
    _ends_with[name] = request["ends_with"]
    return {"pid": server.pid}


def _signal(request: Request) -> Request:
    """Send a signal to a server that has not been reaped, so to no other process ever."""
    _servers[request["name"]].send_signal(request["number"])
    return {}


def _wait(request: Request) -> Request:
    """Return the exit code, or null where it has not ended in time."""
    try:
        code = _servers[request["name"]].wait(request["within_s"])
    except subprocess.TimeoutExpired:
        code = None
    return {"code": code}


def _end(server: subprocess.Popen[bytes], number: int) -> None:
    if server.poll() is None:
        server.send_signal(number)
        try:
            server.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


_ANSWERS = {"start": _start, "signal": _signal, "wait": _wait}


if __name__ == "__main__":
    sys.exit(main())
