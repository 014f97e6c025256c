"""The API server's sockets, and its faults: plain HTTP, a thread a connection.

Behind it stands the lab's own API server or a real one (`upstream`); what misbehaves is the front,
so that both can. A rule's `match` is searched in "VERB RESOURCE NAMESPACE/NAME", for instance
"delete pods db/crate-0", "watch pods", "get pods/exec".
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.faults import Action, Fault, Faults
from lab.kubernetes.errors import ApiError
from lab.kubernetes.messages import Answer, Backend, Chunks, Events, Reply, Request, Tunnel, route
from lab.listening import PromptShutdown

_RESET = struct.pack("ii", 1, 0)
_HTML = b"<!DOCTYPE html><html><head><title>It works!</title></head><body>nginx</body></html>"
_POLL_S = 0.05

#: Reasons of statuses that rules give.
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass
class Entry:
    """A request, as the journal has it and rules see it."""

    node: str
    user: str
    stmt: str
    at: float
    method: str
    target: str
    status: int = 0

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        asks = "selfsubjectaccessreviews" in self.target or "dryRun=All" in self.target
        return self.method != "GET" and not asks


class Front:
    """Listens on loopback. It may be taken away and come back on the same port."""

    def __init__(
        self, backend: Backend, port: int = 0, *, is_system: Callable[[str], bool] | None = None
    ) -> None:
        """Take who answers; `start` listens. `is_system` tells users whom no rule concerns."""
        self.backend = backend
        self.faults = Faults()
        self.journal: list[Entry] = []
        self._is_system = is_system or (lambda _: False)
        self._port = port
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; raises OSError where the port is taken."""
        self._server = _Server(self._port, self)
        self._port = int(self._server.server_address[1])
        self._server.serve()

    def stop(self) -> None:
        """Close every socket, with a reset: like a process that was killed."""
        if self._server is not None:
            self._server.die()
            self._server = None

    def restart(self, away_s: float = 0.0) -> None:
        """Be away for a moment, and come back without any of the connections."""
        self.stop()
        # Bound it refuses connections as a free one does, and nobody else is given it meanwhile.
        with socket.socket() as kept:
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.bind(("127.0.0.1", self._port))
            time.sleep(away_s)
        self.start()

    def drop_connections(self) -> None:
        """Cut what is open, watches and channels included; new connections are welcome."""
        if self._server is not None:
            self._server.cut()

    def note(self, entry: Entry) -> Fault | None:
        """Write down a request, and return the rule that concerns it.

        The control plane's own requests are neither noted nor misled.
        """
        if self._is_system(entry.user):
            return None
        self.journal.append(entry)
        return self.faults.pick(entry, 0)


class _Server(PromptShutdown, ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, front: Front) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.front = front
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what a laboratory is for."""

    def serve(self) -> None:
        threading.Thread(target=self.serve_forever, name="lab-api", daemon=True).start()

    def die(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self.cut()

    def cut(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)


class _GoneError(Exception):
    """The connection is no more."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ValueError, _GoneError):
            self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def do_GET(self) -> None:
        """Answer whatever the method is."""
        front = self.server.front
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.rfile.read(length))
        wanted = route(request).wanted(request)
        entry = Entry(
            "apiserver",
            front.backend.user(request),
            str(wanted),
            time.time(),
            self.command,
            self.path,
        )
        rule = front.note(entry)
        if rule is not None and rule.before is not None:
            rule.before(entry)
        if rule is None or not self._misbehave(rule, entry, request):
            self._send(self._answer(request), entry, None)
        if rule is not None and rule.after is not None:
            rule.after(entry)

    do_POST = do_GET  # noqa: N815 - names of the base's
    do_PUT = do_GET  # noqa: N815
    do_PATCH = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815

    def _answer(self, request: Request) -> Answer:
        try:
            return self.server.front.backend.answer(request)
        except ApiError as error:
            return Reply.refusal(error)

    # --- misbehaving ------------------------------------------------------------------------------

    def _misbehave(self, rule: Fault, entry: Entry, request: Request) -> bool:
        """Do what the rule says; False where the request is still to be answered properly."""
        match rule.action:
            case Action.LATENCY:
                self.server.stopping.wait(rule.seconds)
                return False
            case Action.RESET_BEFORE:
                self._reset()
            case Action.ERROR:
                self._refuse(rule, entry, request)
            case Action.HTML:
                self._whole(Reply(200, _HTML, {"Content-Type": "text/html"}), entry)
            case Action.HANG:
                answer = self._answer(request)
                _discard(answer)
                self._hold()
            case Action.RESET_AFTER | Action.HALF_BODY:
                self._send(self._answer(request), entry, rule)
            case _:
                return False
        return True

    def _refuse(self, rule: Fault, entry: Entry, request: Request) -> None:
        if rule.message.startswith("<"):
            # A page of a proxy's: it has no Status.
            page = Reply(rule.status, rule.message.encode(), {"Content-Type": "text/html"})
            self._whole(page, entry)
            return
        error = ApiError(
            rule.status,
            _REASONS.get(rule.status, "Unknown"),
            rule.message,
            retry_after_s=int(rule.seconds) if rule.status == 429 else None,  # noqa: PLR2004
        )
        if rule.status == 410 and entry.stmt.startswith("watch"):  # noqa: PLR2004
            # A watch learns of it inside a 200 (seen live).
            event = json.dumps({"type": "ERROR", "object": error.body}).encode() + b"\n"
            self._stream((each for each in (event,)), entry, None)
            return
        del request
        self._whole(Reply.refusal(error), entry)

    def _hold(self) -> None:
        """Keep the connection without a word until the client hangs up."""
        while not self.server.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], _POLL_S)
            if readable and not self.connection.recv(1):
                break
        self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.shutdown(socket.SHUT_RDWR)
        raise _GoneError

    # --- answering --------------------------------------------------------------------------------

    def _send(self, answer: Answer, entry: Entry, rule: Fault | None) -> None:
        """Send an answer; with a rule, only the beginning of it."""
        match answer:
            case Reply():
                self._whole(answer, entry, rule)
            case Events():
                self._stream(answer.chunks, entry, rule)
            case Tunnel():
                self._pass_on(answer, entry, rule)

    def _whole(self, reply: Reply, entry: Entry, rule: Fault | None = None) -> None:
        entry.status = reply.status
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body if rule is None else reply.body[: len(reply.body) // 2])
        self.wfile.flush()
        if rule is not None:
            self.close_connection = True
            if rule.action == Action.RESET_AFTER:
                self._reset()

    def _stream(self, chunks: Chunks, entry: Entry, rule: Fault | None) -> None:
        """Send chunks as they come; with a rule, the first and half of it again."""
        entry.status = 200
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                if self.server.stopping.is_set():
                    self._reset()
                self._chunk(chunk)
                if rule is not None:
                    self._chunk(chunk[: len(chunk) // 2])
                    self._reset()
            self.wfile.write(b"0\r\n\r\n")
        finally:
            chunks.close()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _pass_on(self, tunnel: Tunnel, entry: Entry, rule: Fault | None) -> None:
        """Pass both sides on to each other, until one hangs up.

        With a rule, until `seconds` have passed or the first bytes came back.
        """
        self.close_connection = True
        there, here = tunnel.sock, self.connection
        ends_at = None if rule is None else time.monotonic() + rule.seconds
        try:
            head, gap, rest = tunnel.head.partition(b"\r\n\r\n")
            entry.status = int(head.split(b" ", 2)[1])
            here.sendall(head + gap)
            if rule is None or entry.status != 101:  # noqa: PLR2004 - Switching Protocols
                here.sendall(rest)
            elif rest:
                ends_at = time.monotonic()
            self._splice(here, there, ends_at)
        finally:
            there.close()
        if rule is not None:
            self._reset()

    def _splice(self, here: Any, there: Any, ends_at: float | None) -> None:
        other = {here: there, there: here}
        while not self.server.stopping.is_set():
            if ends_at is not None and time.monotonic() >= ends_at:
                return
            pending = [s for s in (here, there) if hasattr(s, "pending") and s.pending()]
            readable = pending or select.select([here, there], [], [], _POLL_S)[0]
            for side in readable:
                data = side.recv(65536)
                if not data:
                    return
                if ends_at is not None and side is there:
                    return
                other[side].sendall(data)


def _discard(answer: Answer) -> None:
    if isinstance(answer, Tunnel):
        answer.sock.close()
    elif isinstance(answer, Events):
        answer.chunks.close()
