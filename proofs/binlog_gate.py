"""Between a syncer and its MongoDB: sees each command go by, and strikes at one of them."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from lab.mongodb import wire

_CHUNK = 1 << 18
_HEADER = struct.Struct("<iiii")
_OP_MSG, _MORE_TO_COME = 2013, 2


class When(StrEnum):
    """How far a command has come when the blow falls."""

    #: It has left the syncer, and never reaches MongoDB.
    BEFORE = "before"
    #: It is on its way, or being carried out.
    DURING = "during"
    #: It has been carried out, and the syncer has not heard of it.
    AFTER = "after"


@dataclass(frozen=True)
class Aim:
    """A command to strike at.

    Attributes:
        moment: What a syncer is doing then, in the words of the counts.
        command: All of `insert row_changes in transaction`, as a pattern.
        number: The first of its kind, the second, and so on.
    """

    moment: str
    command: str
    when: When
    number: int = 1

    def __str__(self) -> str:
        return f"{self.moment}: {self.when} {self.command} number {self.number}"


class Gate:
    """Passes everything on; a connection of a syncer is one of its own to MongoDB.

    Args:
        strike: What to do at the aim; whoever is struck down sends nothing more afterwards.
    """

    def __init__(
        self, upstream: tuple[str, int], aim: Aim | None, strike: Callable[[], None]
    ) -> None:
        """Listen."""
        self._upstream = upstream
        self._aim = aim
        self._strike = strike
        self._seen = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self.struck = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    @property
    def url(self) -> str:
        """For the syncer; the members of the set are not to be asked where they are."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def __enter__(self) -> Self:
        """Return itself, to be closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Break all connections."""
        with self._lock:
            self._closed = True
            sockets = list(self._sockets)
        # A thread that waits in accept() does not notice a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in sockets:
            _break(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="gate", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = None
        try:
            self._keep(client)
            server = socket.create_connection(self._upstream, timeout=10.0)
            server.settimeout(None)
            self._keep(server)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._pass_one(client, server):
                pass
        except (OSError, wire.ProtocolViolationError):
            pass
        finally:
            for each in filter(None, (client, server)):
                _break(each)
                with self._lock:
                    self._sockets.discard(each)

    def _keep(self, each: socket.socket) -> None:
        with self._lock:
            if self._closed:
                raise ConnectionResetError
            self._sockets.add(each)

    def _pass_one(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass a command on, and its answers back; return whether the connection is to go on."""
        data = bytearray()

        def receive(size: int) -> bytes:
            part = _exactly(client, size)
            data.extend(part)
            return part

        request = wire.read(receive)
        struck = self._is_aimed_at(request)
        if struck and self._aim is not None:
            if self._aim.when is not When.BEFORE:
                server.sendall(data)
            if self._aim.when is When.AFTER:
                _message(server)
            self._strike()
            self.struck.set()
            return False
        server.sendall(data)
        more = request.wants_reply
        while more:
            answer = _message(server)
            client.sendall(answer)
            more = _says_more(answer)
        return True

    def _is_aimed_at(self, request: wire.Request) -> bool:
        aim = self._aim
        if aim is None or re.fullmatch(aim.command, told(request)) is None:
            return False
        with self._lock:
            self._seen += 1
            return self._seen == aim.number


def told(request: wire.Request) -> str:
    """Return a command as aims name it: `insert row_changes in transaction`."""
    place: Any = request.body.get(request.name)
    words = [request.name]
    if isinstance(place, str):
        words.append(place)
        if request.in_transaction:
            words.append("in transaction")
    return " ".join(words)


def _message(server: socket.socket) -> bytes:
    head = _exactly(server, _HEADER.size)
    return head + _exactly(server, _HEADER.unpack(head)[0] - _HEADER.size)


def _says_more(answer: bytes) -> bool:
    """Whether further answers follow without a question: a stream of greetings does so."""
    opcode = _HEADER.unpack_from(answer)[3]
    flags = int.from_bytes(answer[_HEADER.size : _HEADER.size + 4], "little")
    return opcode == _OP_MSG and bool(flags & _MORE_TO_COME)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = source.recv(min(size - len(data), _CHUNK))
        if not part:
            raise ConnectionResetError
        data += part
    return bytes(data)


def _break(each: socket.socket) -> None:
    """Close, and wake whoever waits in it."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
