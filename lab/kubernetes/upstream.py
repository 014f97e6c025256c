"""A real API server behind the front: every request is passed on as it came."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from lab.kubernetes.api import read_head
from lab.kubernetes.errors import ApiError
from lab.kubernetes.messages import Answer, Events, Reply, Request, Tunnel

_WITHIN_S = 120.0
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "host"}


class Upstream:
    """Passes requests on to `url`."""

    def __init__(self, url: str, ca_cert: str) -> None:
        """Take its address and the PEM file of its authority."""
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 443)
        self._tls = ssl.create_default_context(cafile=ca_cert)

    def user(self, request: Request) -> str:
        """Nobody here knows."""
        del request
        return ""

    def answer(self, request: Request) -> Answer:
        """Ask, and return what was answered."""
        if request.upgrades:
            return self._tunnel(request)
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=_WITHIN_S, context=self._tls
        )
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        try:
            connection.request(request.method, request.target, request.body or None, headers)
            answer = connection.getresponse()
            if answer.status == 200 and request.parameter("watch") in {"true", "1"}:  # noqa: PLR2004
                return Events(_Chunks(connection, answer))
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ApiError(503, "ServiceUnavailable", f"no API server: {error}") from error
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        connection.close()
        return Reply(answer.status, body, kept)

    def _tunnel(self, request: Request) -> Tunnel:
        try:
            plain = socket.create_connection((self._host, self._port), _WITHIN_S)
            sock = self._tls.wrap_socket(plain, server_hostname=self._host)
            lines = [f"{request.method} {request.target} HTTP/1.1"]
            lines.append(f"Host: {self._host}:{self._port}")
            lines += [f"{name}: {text}" for name, text in request.headers.items() if name != "host"]
            try:
                sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
                return Tunnel(sock, read_head(sock))
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise ApiError(503, "ServiceUnavailable", f"no API server: {error}") from error


class _Chunks:
    """What comes, line by line. Not a generator: one that was never begun closes nothing."""

    def __init__(
        self, connection: http.client.HTTPSConnection, answer: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            line = self._answer.readline()
        except (OSError, ValueError, http.client.HTTPException):
            line = b""
        if not line:
            raise StopIteration
        return line

    def close(self) -> None:
        self._answer.close()
        self._connection.close()
