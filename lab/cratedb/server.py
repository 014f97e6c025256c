"""A node's HTTP side: one listening socket, a thread per connection, CrateDB's contract."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.cratedb.answers import Answer, CrateError
from lab.cratedb.cluster_rows import BUILD_HASH
from lab.cratedb.engine import Engine
from lab.cratedb.journal import Entry, Journal
from lab.cratedb.misbehaviour import GoneError, misbehave
from lab.cratedb.model import Node
from lab.faults import Faults
from lab.listening import PromptShutdown

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
            404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
            429: "Too Many Requests", 500: "Internal Server Error",
            503: "Service Unavailable"}  # fmt: skip
JSON = "application/json; charset=UTF-8"
_RESET = struct.pack("ii", 1, 0)
#: How long after it lost its master a node says so at GET /.
_ROOT_503_AFTER_S = 3.0


class NodeServer(PromptShutdown, ThreadingHTTPServer):
    """Listens for one node and remembers its connections, to cut them when the node dies."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        port: int,
        node: Node,
        engine: Engine,
        journal: Journal,
        faults: Faults,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Bind the port (0: any free one), which may raise OSError."""
        super().__init__(("127.0.0.1", port), Handler)
        self.node = node
        self.engine = engine
        self.journal = journal
        self.faults = faults
        self.tls = tls
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; the TLS handshake is left to the connection's own thread."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._open_lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what a laboratory is for."""

    def serve(self) -> None:
        """Serve in a thread of its own."""
        name = f"lab-{self.node.name}"
        threading.Thread(target=self.serve_forever, name=name, daemon=True).start()

    def die(self, *, reset: bool) -> None:
        """Stop listening and cut every connection, with a reset or with a goodbye."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection. Its session begins with its first statement and outlives a drain."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: NodeServer

    def setup(self) -> None:
        """Begin without a session."""
        self.session = False
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""

    # --- answering ------------------------------------------------------------------------

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str | None = JSON,
        extra: dict[str, str] | None = None,
    ) -> None:
        """Send a whole answer in one write."""
        self.wfile.write(self.head(status, len(body), content_type, extra) + body)

    def head(
        self,
        status: int,
        length: int,
        content_type: str | None = JSON,
        extra: dict[str, str] | None = None,
    ) -> bytes:
        """Return status line and headers."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        if content_type is not None:
            lines.append(f"content-type: {content_type}")
        lines.append(f"content-length: {length}")
        lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
        if self.close_connection:
            lines.append("connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def send_json(self, status: int, body: dict[str, Any]) -> None:
        """Send a JSON answer."""
        self.send(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())

    def reset(self) -> None:
        """Cut this connection with a reset."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.close()
        raise GoneError

    # --- requests -------------------------------------------------------------------------

    def handle_one_request(self) -> None:
        """Serve one request; a client that is gone ends the connection, not the server."""
        try:
            super().handle_one_request()
        except (OSError, ValueError, GoneError):
            self.close_connection = True

    def finish(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def do_GET(self) -> None:
        """Answer GET / with the node's name and version; it is 200 during a drain."""
        if self.path.split("?", 1)[0] != "/":
            self.send(404, b"", None)
            return
        world = self.server.engine.world
        world.advance()
        lost = world.masterless_since
        down = (
            world.master is None
            and lost is not None
            and world.time - lost > _ROOT_503_AFTER_S
        )  # fmt: skip
        status = 503 if down else 200
        body = {
            "ok": not down,
            "status": status,
            "name": self.server.node.name,
            "cluster_name": world.cluster_name,
            "version": {
                "number": self.server.node.version or world.version,
                "build_hash": BUILD_HASH,
                "build_timestamp": "NA",
                "build_snapshot": False,
                "lucene_version": "10.4.0",
            },
        }
        self.send(status, json.dumps(body).encode(), "application/json")

    def do_HEAD(self) -> None:
        """Answer HEAD / without a body."""
        self.send(200, b"", None)

    def do_POST(self) -> None:
        """Answer POST /_sql."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding", "").lower() == "gzip":
            body = gzip.decompress(body)
        path, _, query = self.path.partition("?")
        if path != "/_sql":
            self.send(404, b"", None)
            return
        user = self._authenticated()
        if user is None:
            return
        node = self.server.node
        if node.draining and not self.session:
            self.disconnected()
            return
        self.session = True
        wants_types = any(part.split("=")[0] == "types" for part in query.split("&"))
        started = time.perf_counter()
        try:
            request = _parsed(body)
        except CrateError as error:
            self.send_json(error.status, error.body())
            return
        self._statement(user, request, started, types=wants_types)

    def disconnected(self) -> None:
        """Answer as a draining node answers new sessions: plain text, and the connection ends."""
        self.close_connection = True
        node = self.server.node
        text = f"[{node.name}][127.0.0.1:{node.port + 100}][sql] disconnected"
        self.send(500, text.encode(), None)

    def _authenticated(self) -> str | None:
        user, password = "crate", None
        given = self.headers.get("Authorization", "")
        if given.startswith("Basic "):
            with contextlib.suppress(ValueError):
                text = base64.b64decode(given[6:]).decode()
                user, _, password = text.partition(":")
        elif self.headers.get("X-User"):
            user = self.headers["X-User"]
        if self.server.engine.world.rights.authenticate(user, password):
            return user
        self.close_connection = True
        self.send(
            401,
            f'password authentication failed for user "{user}"\n'.encode(),
            None,
            {"WWW-Authenticate": 'Basic realm="CrateDB Authenticator"'},
        )
        return None

    def _statement(
        self, user: str, request: dict[str, Any], started: float, *, types: bool
    ) -> None:
        server = self.server
        args = request.get("args")
        entry = server.journal.add(
            Entry(time.time(), server.node.name, user, request["stmt"], args)
        )
        rule = server.faults.pick(entry, server.node.number)
        if rule is not None and rule.before is not None:
            rule.before(entry)
        if rule is not None and misbehave(self, rule, entry, request):
            return
        status, body = self.execute(user, request, entry, started, types=types)
        if rule is not None and rule.after is not None:
            rule.after(entry)
        self.send_json(status, body)

    def execute(
        self,
        user: str,
        request: dict[str, Any],
        entry: Entry,
        started: float,
        *,
        types: bool = False,
    ) -> tuple[int, dict[str, Any]]:
        """Run the statement and return status and body; the journal gets the outcome."""
        try:
            answer = self._run(user, request)
        except CrateError as error:
            entry.status, entry.code = error.status, error.code
            return error.status, error.body()
        except Exception as error:  # noqa: BLE001 - a gap in the lab must not look like a lost node
            gap = CrateError(5000, "LabError", f"{type(error).__name__}: {error}")
            entry.status, entry.code = gap.status, gap.code
            return gap.status, gap.body()
        entry.status, entry.applied = 200, True
        duration = round((time.perf_counter() - started) * 1000, 3)
        return 200, answer.body(types=types, duration_ms=duration)

    def _run(self, user: str, request: dict[str, Any]) -> Answer:
        engine, node = self.server.engine, self.server.node
        many = request.get("bulk_args")
        if many:
            return engine.bulk(node, user, request["stmt"], many)
        return engine.run(node, user, request["stmt"], request.get("args") or [])


def _parsed(body: bytes) -> dict[str, Any]:
    """Return the request in `body`, or raise CrateDB's complaint about it."""
    if not body:
        raise CrateError(4000, "SQLParseException", "Missing request body")
    try:
        request = json.loads(body)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        text = body.decode(errors="replace")
        raise CrateError(
            4000,
            "SQLParseException",
            f"Can't parse [{text}]. Expecting payload with `stmt` string and `args` or "
            "`bulk_args` arrays",
        )
    if not isinstance(request.get("stmt"), str):
        raise CrateError(5000, "SQLParseSourceException", "Field [stmt] is missing")
    return request
