"""The kubelet's side of exec: a WebSocket, a process, and its exit code at the end."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab.kubernetes.containers import Container
from lab.kubernetes.websocket import ClosedError, WebSocket, accept_key
from lab.listening import PromptShutdown

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_CLOSE_STDIN = b"\xff\x00"

Find = Callable[[str, str], Container | None]


class ExecServer:
    """Answers GET /exec/NAMESPACE/POD/CONTAINER?command=..., as the API server passes it on."""

    def __init__(self, find: Find, tls: ssl.SSLContext | None = None) -> None:
        """Bind a port of loopback; the API server is told which by the node's status."""
        self._server = _Server(find, tls)
        self.port = int(self._server.server_address[1])

    def start(self) -> None:
        """Listen."""
        threading.Thread(target=self._server.serve_forever, name="lab-exec", daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(PromptShutdown, ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, find: Find, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.find = find
        self.tls = tls

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who hangs up hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""

    def do_GET(self) -> None:
        """Switch protocols, and run the command."""
        self.close_connection = True
        parts = urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        key = self.headers.get("Sec-WebSocket-Key")
        if len(words) != 4 or words[0] != "exec" or not key:  # noqa: PLR2004 - /exec/NS/POD/NAME
            self.send_error(404)
            return
        offered = [
            each.strip() for each in (self.headers.get("Sec-WebSocket-Protocol") or "").split(",")
        ]
        protocol = next((each for each in _PROTOCOLS if each in offered), None)
        self.send_response_only(101, "Switching Protocols")
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_key(key))
        if protocol is not None:
            self.send_header("Sec-WebSocket-Protocol", protocol)
        self.end_headers()
        container = self.server.find(words[1], words[2])
        query = parse_qs(parts.query, keep_blank_values=True)
        _Session(WebSocket(self.connection), container, query).run()


class _Session:
    """One exec."""

    def __init__(
        self, channel: WebSocket, container: Container | None, query: dict[str, list[str]]
    ) -> None:
        self._channel = channel
        self._container = container
        self._query = query
        self._reader: threading.Thread | None = None

    def run(self) -> None:
        try:
            self._run()
        except ClosedError:
            pass
        finally:
            self._channel.close()
            if self._reader is not None:
                # The socket is closed behind us, and its number goes to the next connection: a
                # TLS read that has not noticed yet would answer that one with an alert.
                self._reader.join()

    def _run(self) -> None:
        wants_stdin = bool({"stdin", "input"} & self._query.keys())
        try:
            process = self._begin(
                stdin=subprocess.PIPE if wants_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, KeyError) as error:
            message = f"error executing command in container: {error}"
            failure = {"status": "Failure", "reason": "InternalError", "code": 500}
            self._send(_STATUS, json.dumps({**failure, "message": message}).encode())
            return
        pumps = [
            threading.Thread(target=self._pump, args=each, daemon=True)
            for each in ((process.stdout, _STDOUT), (process.stderr, _STDERR))
        ]
        self._reader = threading.Thread(target=self._stdin, args=(process,), daemon=True)
        self._reader.start()
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        code = process.wait()
        code = 128 - code if code < 0 else code
        message = f"command terminated with non-zero exit code: exit status {code}"
        causes = [{"reason": "ExitCode", "message": str(code)}]
        failed = {"status": "Failure", "reason": "NonZeroExitCode", "message": message}
        status = {"status": "Success"} if code == 0 else {**failed, "details": {"causes": causes}}
        self._send(_STATUS, json.dumps({"metadata": {}, **status}).encode())

    def _begin(self, **streams: int) -> subprocess.Popen[bytes]:
        if self._container is None:
            raise OSError("container not found")
        return self._container.exec(self._query["command"], **streams)

    def _send(self, channel: int, data: bytes) -> None:
        self._channel.send(bytes([channel]) + data)

    def _pump(self, stream: Any, channel: int) -> None:
        try:
            while data := stream.read1(65536):
                self._send(channel, data)
        except ClosedError:
            # Nobody listens; the command goes on, as in a real container.
            while stream.read1(65536):
                pass

    def _stdin(self, process: subprocess.Popen[bytes]) -> None:
        try:
            while True:
                message = self._channel.receive()
                if process.stdin is None:
                    continue
                if message == _CLOSE_STDIN:
                    process.stdin.close()
                elif message[:1] == bytes([_STDIN]):
                    process.stdin.write(message[1:])
                    process.stdin.flush()
        except (ClosedError, OSError, ValueError):
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
