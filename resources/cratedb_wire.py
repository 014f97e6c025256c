"""One HTTP exchange with one host: bounded in time and size, and honest about what was sent.

Nothing here retries, follows a redirect or knows SQL. The three errors say the one thing that
decides what a caller may do next: whether the request can have reached the server.
"""

from __future__ import annotations

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

#: A host that is there answers a SYN at once; one that is not should not eat the whole deadline.
CONNECT_TIMEOUT_S = 5.0

#: 50,000 shards with everything we ask for are about 15 MB.
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024

_CHUNK_BYTES = 64 * 1024

#: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_NAME_MISMATCH = frozenset({62, 64})

_NOT_TLS = (
    "it does not speak TLS there: write http:// in CRATE_CONNECTION_STRING, or the port that does"
)
_NOT_PLAIN = "it speaks TLS there: write https:// in CRATE_CONNECTION_STRING"


class WireError(Exception):
    """No complete answer; the message says what happened, in words and without the host."""


class NotSentError(WireError):
    """The connection could not be made: the server has seen nothing.

    Attributes:
        certain: Trying again cannot help: the scheme or the certificate is wrong.
    """

    def __init__(self, message: str, *, certain: bool = False) -> None:
        super().__init__(message)
        self.certain = certain


class BrokenAnswerError(WireError):
    """The request may have arrived, and no complete answer did.

    Attributes:
        timed_out: It was the deadline that ended it.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class AnswerTooLargeError(BrokenAnswerError):
    """The answer was cut off at the limit."""


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
        raise _tls_refusal(error) from error
    except (OSError, HTTPError) as error:
        raise NotSentError(_plain_reason(error)) from error
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
        try:
            connection.request(
                method, path, body=body, headers=headers, preload_content=False
            )
        except BrokenPipeError:
            pass  # the server may have answered before it hung up: read that
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
        raise _broken(error, deadline) from error
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
            return _NOT_TLS
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        connect(f"https://{name}", blind, Deadline(seconds)).close()
    except WireError:
        return ""
    return _NOT_PLAIN


def _read(response: HTTPResponse, limit_bytes: int) -> bytes:
    try:
        return _read_all(response, limit_bytes)
    except BaseException:
        response.close()  # it may hold the socket alone: the connection lets go of "close" ones
        raise


def _read_all(response: HTTPResponse, limit_bytes: int) -> bytes:
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise AnswerTooLargeError(f"an answer of {int(announced):,} bytes")
    chunks: list[bytes] = []
    size = 0
    # Counted after decompression: a few kilobytes of gzip can hold gigabytes.
    for chunk in response.stream(_CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > limit_bytes:
            raise AnswerTooLargeError(f"an answer of more than {limit_bytes:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


class _TimedReader(io.RawIOBase):
    """The bytes of a socket, until the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as in io.RawIOBase
        self._sock.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """http.client's response over a `_TimedReader`."""

    def __init__(
        self, deadline: Deadline, sock: socket.socket, *args: Any, **named: Any
    ) -> None:
        super().__init__(sock, *args, **named)
        plain = self.fp
        self.fp = io.BufferedReader(_TimedReader(sock, deadline), _CHUNK_BYTES)
        plain.close()  # only after the other exists: the last reader gone closes the socket


def _tls_refusal(error: ssl.SSLError) -> NotSentError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_MISMATCH:
            return NotSentError(
                f"its certificate is for another name ({error.verify_message}): write a name that "
                "the certificate has in CRATE_CONNECTION_STRING",
                certain=True,
            )
        return NotSentError(
            f"its certificate is not trusted ({error.verify_message}): set CRATE_CA_CERT to the "
            "authority that signed it, or CRATE_SSL_VERIFY=false to do without",
            certain=True,
        )
    if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return NotSentError(_NOT_TLS, certain=True)
    return NotSentError(f"the TLS handshake failed ({error.reason or error})")


def _plain_reason(error: Exception) -> str:
    """The operating system's own words, without urllib3's object addresses around them."""
    below = error.__cause__
    cause = below if isinstance(below, OSError) else error
    if isinstance(cause, TimeoutError):
        return "no connection in time"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)


def _broken(error: Exception, deadline: Deadline) -> BrokenAnswerError:
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    if any(isinstance(link, TimeoutError) for link in chain):
        return BrokenAnswerError(f"no complete answer within {deadline.seconds:g} s", timed_out=True)
    if any(_is_tls_record(link) for link in chain):
        return BrokenAnswerError(_NOT_PLAIN)
    if any(isinstance(link, http.client.RemoteDisconnected) for link in chain):
        return BrokenAnswerError("the connection was closed before an answer came")
    if any(isinstance(link, ConnectionResetError | BrokenPipeError) for link in chain):
        return BrokenAnswerError("the connection was reset")
    if any(isinstance(link, http.client.IncompleteRead) for link in chain):
        return BrokenAnswerError("the answer stopped half-way")
    return BrokenAnswerError(f"no HTTP answer ({type(error).__name__}: {error})")


def _is_tls_record(error: BaseException) -> bool:
    """Whether this is http.client puzzled by a TLS alert (record type 21, version 3.x)."""
    return (
        isinstance(error, http.client.BadStatusLine)
        and bool(error.args)
        and str(error.args[0]).startswith("\x15\x03")
    )
