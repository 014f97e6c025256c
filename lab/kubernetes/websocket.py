"""The server's side of a WebSocket, as far as exec needs one: RFC 6455, no extensions."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from dataclasses import dataclass, field

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_SHORT, _MEDIUM = 126, 127


def accept_key(key: str) -> str:
    """What a handshake's key is answered with."""
    digest = hashlib.sha1((key + _MAGIC).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class ClosedError(Exception):
    """The other side is gone, or has said goodbye."""


@dataclass
class WebSocket:
    """Frames over a socket whose handshake is through."""

    sock: socket.socket
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rest: bytes = b""

    def send(self, data: bytes, opcode: int = BINARY) -> None:
        """Send one frame, from whichever thread."""
        size = len(data)
        if size < _SHORT:
            head = bytes([0x80 | opcode, size])
        elif size < 1 << 16:
            head = bytes([0x80 | opcode, _SHORT]) + struct.pack(">H", size)
        else:
            head = bytes([0x80 | opcode, _MEDIUM]) + struct.pack(">Q", size)
        with self._lock:
            try:
                self.sock.sendall(head + data)
            except OSError as error:
                raise ClosedError from error

    def receive(self) -> bytes:
        """Return the next message; pings are answered. ClosedError at the end."""
        message = b""
        while True:
            final, opcode, data = self._frame()
            if opcode == CLOSE:
                raise ClosedError
            if opcode == PING:
                self.send(data, PONG)
            elif opcode in {CONTINUATION, TEXT, BINARY}:
                message += data
                if final:
                    return message

    def close(self) -> None:
        """Say goodbye and hang up."""
        try:
            self.send(struct.pack(">H", 1000), CLOSE)
            self.sock.shutdown(socket.SHUT_RDWR)
        except (ClosedError, OSError):
            pass

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        size = second & 0x7F
        if size == _SHORT:
            (size,) = struct.unpack(">H", self._exactly(2))
        elif size == _MEDIUM:
            (size,) = struct.unpack(">Q", self._exactly(8))
        mask = self._exactly(4) if second & 0x80 else b""
        data = self._exactly(size)
        if mask:
            data = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
        return bool(first & 0x80), first & 0x0F, data

    def _exactly(self, count: int) -> bytes:
        while len(self._rest) < count:
            try:
                chunk = self.sock.recv(65536)
            except OSError as error:
                raise ClosedError from error
            if not chunk:
                raise ClosedError
            self._rest += chunk
        found, self._rest = self._rest[:count], self._rest[count:]
        return found
