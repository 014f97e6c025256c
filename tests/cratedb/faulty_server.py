"""A server that does to a client what CrateDB, proxies and networks do, over real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """What arrived, complete."""

    path: str
    headers: dict[str, str]
    stmt: str
    args: list[Any]


Reply = Callable[[socket.socket, Request], None]


def http(status: int, body: bytes | str, *headers: str, length: int | None = None) -> Reply:
    """Answer with these bytes; `length` announces another size than they have."""
    data = body.encode() if isinstance(body, str) else body
    head = [
        f"HTTP/1.1 {status} Whatever",
        f"Content-Length: {len(data) if length is None else length}",
    ]
    text = "\r\n".join([*head, *headers, "", ""]).encode()

    def reply(sock: socket.socket, request: Request) -> None:
        sock.sendall(text + data)
        if length is not None:
            hang_up(sock, request)

    return reply


def rows(*found: list[Any], cols: int | None = None) -> Reply:
    """Answer with a result set."""
    width = len(found[0]) if found else (cols or 0)
    document = {
        "cols": [f"c{n}" for n in range(width)],
        "rows": [list(row) for row in found],
        "rowcount": len(found),
        "duration": 0.1,
    }
    return http(200, json.dumps(document), "Content-Type: application/json; charset=UTF-8")


def done(rowcount: int = -1) -> Reply:
    """Answer as CrateDB does after DDL: a row count that proves nothing."""
    document = {"cols": [], "rows": [[]], "rowcount": rowcount, "duration": 0.1}
    return http(200, json.dumps(document), "Content-Type: application/json; charset=UTF-8")


def error(status: int, code: int, message: str = "Sorry[no]") -> Reply:
    """Answer with CrateDB's error document."""
    document = {"error": {"message": message, "code": code}}
    return http(status, json.dumps(document), "Content-Type: application/json; charset=UTF-8")


def disconnected(sock: socket.socket, _: Request) -> None:
    """Answer as a draining node: plain text, no content type, closed."""
    text = b"[data-hot-2][127.0.0.1:4302][sql] disconnected"
    head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(text)}\r\n\r\n"
    sock.sendall(head.encode() + text)
    hang_up(sock, _)


def hang_up(sock: socket.socket, _: Request) -> None:
    """Close, whatever was said before."""
    sock.shutdown(socket.SHUT_RDWR)


def reset(sock: socket.socket, _: Request) -> None:
    """Reset the connection without an answer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError  # ends the conversation: closing is what sends the reset


def silence(sock: socket.socket, _: Request) -> None:
    """Say nothing until the client gives up."""
    with contextlib.suppress(OSError):
        sock.recv(1)


#: A drip of 500 bytes takes 25 s: whoever gives up before this kept to a deadline of its own.
A_WHOLE_DRIP_S = 15.0


def drip(data: bytes, pause_s: float = 0.05) -> Reply:
    """Send one byte at a time, each soon enough for a time-out that starts again with each."""

    def reply(sock: socket.socket, _: Request) -> None:
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(pause_s)

    return reply


class FaultyServer:
    """Answers each request with the reply that its statement asks for; counts what arrived.

    `reply` is one Reply for everything, or a function from the request to one.
    """

    def __init__(
        self, reply: Callable[[Request], Reply], tls: ssl.SSLContext | None = None
    ) -> None:
        self.reply = reply
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def statements(self) -> list[str]:
        """What was sent, in order."""
        return [request.stmt for request in self.requests]

    def close(self) -> None:
        """Refuse every further connection."""
        # shutdown, too: a thread blocked in accept() keeps the port open after close()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock:
            if self._tls is None:
                self._converse(sock)
                return
            with self._tls.wrap_socket(sock, server_side=True) as secure:
                self._converse(secure)

    def _converse(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as stream:
            while request := _read_request(stream):
                self.requests.append(request)
                self.reply(request)(sock, request)


def _read_request(stream: Any) -> Request | None:
    first = stream.readline()
    if not first:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    document = json.loads(stream.read(int(headers.get("content-length", 0))) or "{}")
    return Request(
        first.split()[1].decode(), headers, document.get("stmt", ""), document.get("args", [])
    )
