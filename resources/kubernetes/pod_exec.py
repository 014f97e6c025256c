"""A command in a container, with its true exit code, over the API server's WebSocket.

The official `stream` loses what matters here: with `_preload_content` the exit code, without it an
error where the channel was cut, and a deadline in both (seen live). So only the credentials and
the TLS settings are the official client's. A command whose exit code did not arrive is *unknown*:
it may have run, and may still.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
import websocket

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.kubernetes.answers import (
    BUSY,
    FORBIDDEN,
    UNAUTHORIZED,
    Told,
    forbidden,
)
from resources.kubernetes.rights import need
from resources.kubernetes.transport import CONNECT_TIMEOUT_S, Wire

_STDOUT, _STDERR, _STATUS = 1, 2, 3

#: v5 differs only in how stdin ends, and nothing is sent to stdin here.
_PROTOCOL = "v4.channel.k8s.io"

#: A drain says nothing for many minutes, and whatever stands between ends what is silent.
_PING_EVERY_S = 20.0

#: 50,000 shards with everything we ask for are about 15 MB.
OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024

_LOOK_FIRST = "look at what is there before anything is sent again"
#: What is told in its own words: another's may be our headers.
_KNOWN = (OSError, websocket.WebSocketException)
_NEVER_STARTED = ("not found", "no such file", "permission denied", "not running")


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command left behind."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def run(
    wire: Wire,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    timeout_s: float,
    *,
    just_before: Callable[[], None] = lambda: None,
) -> ExecResult:
    """Return when the command has ended, and its exit code is known.

    Raises:
        TransientError: The command was not started, and may be in a moment.
        RefusedError: It cannot be started: no right, no such pod, container or program.
        UnknownResultError: The channel ended, or the time did, before the exit code came.

    """
    target = f"{namespace}/{pod}"
    deadline = time.monotonic() + timeout_s
    socket = _connect(wire, namespace, pod, container, command, timeout_s, just_before)
    try:
        return _follow(socket, target, deadline, timeout_s)
    finally:
        # Not close(): it would wait for the other side to agree.
        with contextlib.suppress(Exception):
            socket.send_close()
        socket.shutdown()


def _connect(
    wire: Wire,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    timeout_s: float,
    just_before: Callable[[], None],
) -> Any:
    configuration, target = wire.configuration, f"{namespace}/{pod}"
    headers: dict[str, str] = {}
    query: list[tuple[str, str]] = [("container", container), ("stdout", "true")]
    query += [("stderr", "true"), *(("command", word) for word in command)]
    wire.api.update_params_for_auth(headers, query, ["BearerToken"])
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/exec"
    url = configuration.host.replace("http", "ws", 1) + path + "?" + urlencode(query)
    socket: Any = websocket.WebSocket(sslopt=_tls(configuration), skip_utf8_validation=True)
    just_before()
    try:
        socket.connect(
            url,
            header=[f"{name}: {value}" for name, value in headers.items()],
            subprotocols=[_PROTOCOL],
            timeout=max(CONNECT_TIMEOUT_S, min(timeout_s, 30.0)),
            redirect_limit=0,
            suppress_origin=True,
            **_proxy(configuration),
        )
    except Exception as error:  # noqa: BLE001 - told as what it means
        socket.shutdown()
        told = _not_begun(error, namespace, target, configuration.host)
        raise told from (error if isinstance(error, _KNOWN) else None)
    return socket


def _tls(configuration: Any) -> dict[str, Any]:
    if not configuration.verify_ssl:
        options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    else:
        options = {"cert_reqs": ssl.CERT_REQUIRED}
        if configuration.ssl_ca_cert:
            options["ca_certs"] = configuration.ssl_ca_cert
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    if configuration.cert_file:
        options["certfile"] = configuration.cert_file
    if configuration.key_file:
        options["keyfile"] = configuration.key_file
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    return options


def _proxy(configuration: Any) -> dict[str, Any]:
    if not configuration.proxy:
        return {}
    proxy = urlsplit(configuration.proxy)
    none = [name for name in (configuration.no_proxy or "").split(",") if name]
    return {
        "http_proxy_host": proxy.hostname,
        "http_proxy_port": proxy.port,
        "http_no_proxy": none,
        "proxy_type": "http",
    }


def _not_begun(error: Exception, namespace: str, target: str, host: str) -> CaretakerError:
    """Say why there is no channel. Nothing was started, except where nobody can tell."""
    if isinstance(error, websocket.WebSocketBadStatusException):
        body = error.resp_body or b""
        told = Told(error.status_code, "", body.decode(errors="replace"), error.resp_headers or {})
        return _refused(told, namespace, target)
    text = " ".join(str(error).split()) if isinstance(error, _KNOWN) else ""
    text = text or f"an unexpected {type(error).__name__}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"{host}: its certificate is not trusted ({text})", target=target)
    if isinstance(error, ConnectionRefusedError | websocket.WebSocketAddressException):
        return TransientError(f"{host}: {text}", target=target)
    return UnknownResultError(
        f"{target}: no answer to an exec ({text}); the command may have been started",
        target=target,
        hint=_LOOK_FIRST,
    )


def _refused(told: Told, namespace: str, target: str) -> CaretakerError:
    if told.status == UNAUTHORIZED:
        return RefusedError(
            "the API server does not accept our credentials: the token has expired or is wrong",
            target=target,
            hint="log in again, or take a fresh token for the service account",
            status=told.status,
        )
    if told.status == FORBIDDEN:
        # A WebSocket begins as a GET, so `get` is asked for first; then `create`, and a refusal of
        # that may come without a word (seen live).
        verb = "get" if "cannot get" in told.message else "create"
        return forbidden(told, need(verb, "pods/exec", namespace), target)
    if told.status in {502, 504} and not told.is_status:
        # A proxy's, which had asked the API server.
        return UnknownResultError(
            f"{target}: no answer to an exec ({told.sentence}); the command may have been started",
            target=target,
            hint=_LOOK_FIRST,
        )
    if told.status == BUSY or told.status in {502, 503, 504}:
        return TransientError(f"{target}: {told.sentence}", target=target)
    if told.status >= 500:  # noqa: PLR2004 - the class of statuses
        # Said by the kubelet, or about it, before there was a channel: nothing was started.
        kind = RefusedError if _certain(told.sentence) else TransientError
        return kind(f"{target}: no exec: {told.sentence}", target=target)
    return RefusedError(f"{target}: no exec: {told.sentence}", target=target, status=told.status)


def _follow(socket: Any, target: str, deadline: float, timeout_s: float) -> ExecResult:
    parts: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: [], _STATUS: []}
    size = 0
    ping_at = time.monotonic() + _PING_EVERY_S
    while True:
        now = time.monotonic()
        if now >= deadline:
            raise _unknown(target, f"no exit code within {timeout_s:g} s")
        try:
            if now >= ping_at:
                socket.ping()
                ping_at = now + _PING_EVERY_S
            socket.settimeout(min(deadline, ping_at) - now)
            opcode, data = socket.recv_data()
        except (websocket.WebSocketTimeoutException, TimeoutError, ssl.SSLWantReadError):
            continue
        except (websocket.WebSocketException, OSError, ValueError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise _unknown(target, f"the channel was cut before the exit code came ({text})") from (
                error
            )
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        if not data or data[0] not in parts:
            continue
        size += len(data)
        if size > OUTPUT_LIMIT_BYTES:
            raise _unknown(target, f"more than {OUTPUT_LIMIT_BYTES:,} bytes of output")
        parts[data[0]].append(data[1:])
        if data[0] == _STATUS:
            break
    if not parts[_STATUS]:
        raise _unknown(target, "the channel was closed before the exit code came")
    code = _exit_code(b"".join(parts[_STATUS]), target)
    return ExecResult(code, b"".join(parts[_STDOUT]), b"".join(parts[_STDERR]))


def _exit_code(data: bytes, target: str) -> int:
    try:
        status = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _unknown(target, f"no status, but {data[:80]!r}") from None
    if status.get("status") == "Success":
        return 0
    message = " ".join(str(status.get("message") or "no reason given").split())
    if status.get("reason") == "NonZeroExitCode":
        for cause in (status.get("details") or {}).get("causes") or []:
            if (
                cause.get("reason") == "ExitCode"
                and str(cause.get("message")).lstrip("-").isdigit()
            ):
                return int(cause["message"])
    if _certain(message):
        raise RefusedError(f"{target}: the command was not started: {message}", target=target)
    raise _unknown(target, message)


def _certain(message: str) -> bool:
    return any(words in message.lower() for words in _NEVER_STARTED)


def _unknown(target: str, why: str) -> UnknownResultError:
    return UnknownResultError(
        f"{target}: {why}; the command may have run, or may still",
        target=target,
        hint=_LOOK_FIRST,
    )
