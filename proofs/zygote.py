"""Forks children from a process that has imported everything: a cold start costs four seconds.

`python -m proofs.zygote FD MODULE` reads orders from a socket. Each is carried out by the module's
`live`, in a child in a session of its own, which opens its own connections and reads its own
environment; when a child has ended, the socket is told. One thread, so that a fork copies no lock
that somebody holds.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from proofs.orders import Order

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: The largest order.
_MESSAGE_BYTES = 1 << 20


def main(fd: int, module: str) -> None:
    """Fork on request until the socket is closed, then end what is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The steps that a killed run leaves behind come to us, and are told of like any child.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = importlib.import_module(module)
    child.import_everything()
    orders = socket.socket(fileno=fd)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    orders.send(json.dumps({"ready": os.getpid()}).encode())
    while True:
        readable, _, _ = select.select([orders.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _tell_of_the_ended(orders)
        if orders.fileno() in readable:
            message = orders.recv(_MESSAGE_BYTES)
            if not message:
                return
            pid = _fork(child, Order.from_bytes(message), orders)
            orders.send(json.dumps({"started": pid}).encode())


def _fork(child: Any, order: Order, orders: socket.socket) -> int:
    """Return the pid of a child that leads a session of its own already."""
    led, lead = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.close(led)
        os.close(lead)
        orders.close()
        child.live(order)
    os.close(lead)
    os.read(led, 1)
    os.close(led)
    return pid


def _tell_of_the_ended(orders: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        orders.send(json.dumps({"ended": pid, "code": code}).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
