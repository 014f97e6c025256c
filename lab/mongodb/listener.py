"""A listener on loopback: a thread a connection, each request answered in turn."""

from __future__ import annotations

import itertools
import socket
import socketserver
import struct
import threading
from abc import ABC, abstractmethod

from lab.listening import PromptShutdown
from lab.mongodb import wire

_CHUNK = 1 << 20


class HangUpError(Exception):
    """The connection is to be closed without an answer, as a server does that dies."""


class Service(ABC):
    """What answers requests; called from many threads."""

    @abstractmethod
    def answer(self, request: wire.Request, connection: Connection) -> bytes:
        """Return the reply's document, or raise HangUpError."""


class Connection(socketserver.BaseRequestHandler):
    """One client."""

    server: Listener

    def setup(self) -> None:
        """Number it, and answer small requests without delay."""
        self.number = next(self.server.numbers)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.server.lock:
            self.server.connections.add(self)

    def handle(self) -> None:
        """Answer until the client goes."""
        try:
            while True:
                request = wire.read(self._receive)
                document = self.server.service.answer(request, self)
                if request.wants_reply:
                    self.request.sendall(wire.reply(request, document))
        except (OSError, HangUpError, wire.ProtocolViolationError):
            return

    def finish(self) -> None:
        """Forget it."""
        with self.server.lock:
            self.server.connections.discard(self)

    def reset(self, after: bytes = b"") -> None:
        """Send `after`, and break the connection so that the client sees a reset."""
        if after:
            self.request.sendall(after)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.request.recv(min(size - len(data), _CHUNK))
            if not part:
                raise ConnectionResetError
            data += part
        return bytes(data)


class Listener(PromptShutdown, socketserver.ThreadingTCPServer):
    """Serves one service."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, service: Service, port: int = 0) -> None:
        """Bind the port (0: any free one), which may raise OSError."""
        self.service = service
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.connections: set[Connection] = set()
        super().__init__(("127.0.0.1", port), Connection)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])
