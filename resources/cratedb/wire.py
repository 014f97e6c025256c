"""One HTTP exchange with one host: bounded in time and size, and honest about what was sent.

Nothing here retries, follows a redirect or knows SQL.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from resources.bounded import CHUNK_BYTES, read_bounded
from resources.cratedb.broken import (
    NOT_PLAIN,
    NOT_TLS,
    AnswerTooLargeError,
    BrokenAnswerError,
    NotSentError,
    WireError,
    broken,
    tls_refusal,
    unreached,
)

#: A host that is there answers a SYN at once; one that is not should not eat the whole deadline.
CONNECT_TIMEOUT_S = 5.0

#: 50,000 shards with everything we ask for are about 15 MB.
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024


class Deadline:
    """A moment after which nothing is waited for any more."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; TimeoutError when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no complete answer within {self.seconds:g} s")
        return left


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer; header names are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes


def connect(host: str, tls: ssl.SSLContext, deadline: Deadline) -> HTTPConnection:
    """Return a connection to `host` with nothing sent over it yet; NotSentError otherwise.

    Looking up the name is the one thing that the deadline does not bound: the resolver has its own
    limits, and Python no way to set them.

    urllib3's connections, not its pools: a pool connects and sends in one call, and an error from
    it does not say on which side of the first byte it happened.
    """
    url = urlsplit(host)
    name = url.hostname or ""
    try:
        timeout = min(CONNECT_TIMEOUT_S, deadline.left())
        connection = (
            HTTPSConnection(name, url.port, timeout=timeout, ssl_context=tls)
            if url.scheme == "https"
            else HTTPConnection(name, url.port, timeout=timeout)
        )
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
    except ssl.SSLError as error:
        raise tls_refusal(error) from error
    except (OSError, HTTPError) as error:
        raise NotSentError(unreached(error)) from error
    return connection


def exchange(
    connection: HTTPConnection,
    request: tuple[str, str, bytes | None, Mapping[str, str]],
    deadline: Deadline,
    limit_bytes: int = ANSWER_LIMIT_BYTES,
) -> Answer:
    """Send `request` (method, path, body, headers) once and read the whole answer.

    Whatever goes wrong raises BrokenAnswerError and closes the connection; BaseExceptions such as
    Ctrl-C pass through after closing it, and are as unknown to the caller as a time-out.
    """
    method, path, body, headers = request
    try:
        # The deadline is kept on each read of the socket: urllib3's timeouts start again with
        # every byte that arrives, so a server that drips one a second is never late.
        connection.response_class = functools.partial(_TimedResponse, deadline)  # type: ignore[assignment]
        connection.timeout = deadline.left()
        # The server may have answered before it hung up: then that answer is there to be read.
        with contextlib.suppress(BrokenPipeError):
            connection.request(method, path, body=body, headers=headers, preload_content=False)
        connection.timeout = deadline.left()
        response = connection.getresponse()
        data = _read(response, limit_bytes)
        return Answer(
            status=response.status,
            reason=response.reason or "",
            headers={key.lower(): value for key, value in response.headers.items()},
            data=data,
        )
    except BrokenAnswerError:
        connection.close()
        raise
    except (OSError, HTTPError, http.client.HTTPException) as error:
        connection.close()
        raise broken(error, deadline.seconds) from error
    except BaseException:
        connection.close()
        raise


def wrong_scheme(host: str, tls: ssl.SSLContext, seconds: float = 2.0) -> str:
    """Return what to change if `host` speaks the other one of TLS and plain HTTP, else ''.

    For a host that broke off: what TLS and plain servers do when they are addressed as the other
    ranges from an alert to silence, so the only way to know is to address it the other way.
    """
    other, name = host.split("://")
    try:
        if other == "https":
            connection = connect(f"http://{name}", tls, Deadline(seconds))
            exchange(connection, ("GET", "/", None, {}), Deadline(seconds), limit_bytes=65536)
            connection.close()
            return NOT_TLS
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        connect(f"https://{name}", blind, Deadline(seconds)).close()
    except WireError:
        return ""
    return NOT_PLAIN


def _read(response: HTTPResponse, limit_bytes: int) -> bytes:
    try:
        return _read_all(response, limit_bytes)
    except BaseException:
        response.close()  # it may hold the socket alone: the connection lets go of "close" ones
        raise


def _read_all(response: HTTPResponse, limit_bytes: int) -> bytes:
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise AnswerTooLargeError(
            f"an answer of {int(announced):,} bytes, more than the {limit_bytes:,} that are read"
        )
    data = read_bounded(response, limit_bytes)
    if data is None:
        raise AnswerTooLargeError(f"an answer of more than {limit_bytes:,} bytes")
    return data


class _TimedReader(io.RawIOBase):
    """The bytes of a socket, until the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """http.client's response over a `_TimedReader`."""

    def __init__(self, deadline: Deadline, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        plain = self.fp
        self.fp = io.BufferedReader(_TimedReader(sock, deadline), CHUNK_BYTES)
        plain.close()  # only after the other exists: the last reader gone closes the socket
