"""What a fault's action does to the connection it meets."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import TYPE_CHECKING

from lab.faults import Action, Fault
from lab.materialize import wire
from lab.materialize.errors import MaterializeError

if TYPE_CHECKING:
    from lab.materialize.greeting import Greeting
    from lab.materialize.journal import Entry

#: These let the statement run first; until then nothing of its answer leaves.
AFTER = frozenset({Action.RESET_AFTER, Action.HANG, Action.LATE, Action.HALF_BODY})
_RESET = struct.pack("ii", 1, 0)
_HTML = b"HTTP/1.1 200 OK\r\n\r\n<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"
_ROW = "x" * 120


class GoneError(Exception):
    """The connection is no more; nothing is left to answer."""


class Misbehaviour:
    """Does to one session what the rules say."""

    def __init__(self, session: Greeting) -> None:
        """Take the session."""
        self._session = session

    def before(self, rule: Fault, entry: Entry) -> None:
        """Do what comes before the statement; GoneError or the refusal where it is not to run."""
        session = self._session
        match rule.action:
            case Action.LATENCY:
                session.server.stopping.wait(rule.seconds)
            case Action.LATE:
                self._wait_of_the_lab(entry.lab_at + rule.seconds)
            case Action.RESET_BEFORE:
                self.reset()
            case Action.ERROR:
                raise MaterializeError(rule.sqlstate, rule.message)
            case Action.DISCONNECTED:
                self._say_and_leave(
                    wire.error(
                        MaterializeError(
                            "57P01",
                            "terminating connection due to administrator command",
                            fatal=True,
                        )
                    ).packed()
                )
            case Action.HTML:
                self._say_and_leave(_HTML)
            case Action.HUGE:
                self._huge(rule)

    def after(self, rule: Fault) -> None:
        """Do what comes after the statement took effect and before its answer was sent."""
        client = self._session.client
        client.held = False
        answer = client.unsent()
        match rule.action:
            case Action.RESET_AFTER:
                self.reset()
            case Action.HALF_BODY:
                client.put_raw(answer[: len(answer) // 2])
                client.flush()
                self.reset(politely=True)
            case _:
                self._hold()

    def _wait_of_the_lab(self, until: float) -> None:
        """Wait until it is so late in the lab, whoever is still listening."""
        server = self._session.server
        while server.time() < until and not server.stopping.wait(0.02):
            pass

    def reset(self, *, politely: bool = False) -> None:
        """Cut the connection: with a reset, or as one that just ends."""
        sock = self._session.client.sock
        with contextlib.suppress(OSError):
            if not politely:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
        raise GoneError

    def _say_and_leave(self, data: bytes) -> None:
        client = self._session.client
        client.put_raw(data)
        client.flush()
        self.reset(politely=True)

    def _hold(self) -> None:
        """Keep the connection open without a word until the client hangs up."""
        session = self._session
        while not session.server.stopping.is_set():
            readable, _, _ = select.select([session.client.sock], [], [], 0.05)
            if readable and not session.client.sock.recv(4096):
                break
        raise GoneError

    def _huge(self, rule: Fault) -> None:
        """Send rows as fast as the client reads them, and end: they are never held."""
        client = self._session.client
        client.put(wire.row_description(["huge"]))
        row = wire.data_row([_ROW]).packed()
        chunk = row * 4096
        count = max(1, rule.megabytes * 1024 * 1024 // len(chunk))
        for _ in range(count):
            client.put_raw(chunk)
            client.flush()
        client.put(wire.complete(f"SELECT {count * 4096}"), wire.ready("I"))
        client.flush()
        self.reset(politely=True)
