"""The official client's requests, each with a moment at which it ends.

urllib3's read time-out starts again with every byte, so a server that drips one a second is never
late, and nobody can end a watch that waits. Here every read of the socket looks at the deadline,
and at whether somebody said stop.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from resources.bounded import CHUNK_BYTES, read_bounded

#: A server that is there answers a SYN at once.
CONNECT_TIMEOUT_S = 5.0

#: 5,000 pods are about 50 MB.
ANSWER_LIMIT_BYTES = 128 * 1024 * 1024

#: How long a stop may take to be noticed.
_SLICE_S = 0.25


class StoppedError(Exception):
    """Whoever waits for this answer was told to stop."""


class NoJsonError(Exception):
    """A success that is no JSON; the message is how it begins."""


class AnswerTooLargeError(Exception):
    """More than anybody reads."""


@dataclass
class Patience:
    """How long to wait for the next bytes.

    Attributes:
        seconds: In all, or since the last byte where `idle` is set.
        stopped: Ends the wait at once.
    """

    seconds: float
    stopped: threading.Event = field(default_factory=threading.Event)
    idle: bool = False
    _ends: float = 0.0

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin again."""
        self._ends = time.monotonic() + self.seconds

    def left(self) -> float:
        """Seconds left; TimeoutError when there are none, StoppedError when told to stop."""
        if self.stopped.is_set():
            raise StoppedError
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no complete answer within {self.seconds:g} s")
        return left


_waiting = threading.local()


class Wire:
    """Requests through the official `ApiClient`: its credentials, TLS and proxies, our deadline."""

    def __init__(self, configuration: Any) -> None:
        """Take a `Configuration`; nothing is sent."""
        # Two seconds, which a process without Kubernetes should not spend.
        from kubernetes import client  # noqa: PLC0415

        self.configuration = configuration
        self.api = client.ApiClient(configuration)
        self.api.user_agent = "caretaker"
        self.api.rest_client.pool_manager.pool_classes_by_scheme = {
            "http": _Pool,
            "https": _SecurePool,
        }

    def close(self) -> None:
        """Close the connections that were kept."""
        self.api.rest_client.pool_manager.clear()
        self.api.close()

    def ask(
        self,
        method: str,
        path: str,
        patience: Patience,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the JSON that is answered; raises what the client, urllib3 and sockets raise."""
        with self.opened(method, path, patience, query=query, body=body) as response:
            data = read_bounded(response, ANSWER_LIMIT_BYTES)
        if data is None:
            raise AnswerTooLargeError(f"an answer of more than {ANSWER_LIMIT_BYTES:,} bytes")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            raise NoJsonError(" ".join(data[:80].decode(errors="replace").split())) from None

    @contextmanager
    def opened(
        self,
        method: str,
        path: str,
        patience: Patience,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Return an answer of which only the head was read."""
        connect_s = min(CONNECT_TIMEOUT_S, patience.left())
        _waiting.patience = patience
        try:
            response = self.api.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(connect_s, patience.left()),
            )
        finally:
            _waiting.patience = None
        whole = False
        try:
            yield response
            whole = True
        finally:
            if whole and response.isclosed():
                response.release_conn()
            else:
                response.close()


class _Reader(io.RawIOBase):
    """The bytes of a socket, as long as there is patience."""

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        self._sock = sock
        self._patience = patience
        # Never read from: it keeps the socket open until the response is closed.
        self._held = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._sock.settimeout(min(_SLICE_S, self._patience.left()))
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                continue
            if self._patience.idle:
                self._patience.renew()
            return count

    def close(self) -> None:
        self._held.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """http.client's response over a `_Reader`."""

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        plain = self.fp
        patience = getattr(_waiting, "patience", None)
        if patience is not None:
            self.fp = io.BufferedReader(_Reader(sock, patience), CHUNK_BYTES)
            plain.close()  # only after the other exists: the last reader gone closes the socket


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
