"""The lab's Kubernetes from another process: what it is like, its rules and its levers, as JSON."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.faults import from_json
from lab.kubernetes.cluster import CratePods
from lab.listening import PromptShutdown

Body = dict[str, Any]


def status(pods: CratePods) -> Body:
    """Return all that there is to see."""
    found = [(name, pods.pod(name)) for name in pods.pods]
    return {
        "cluster": pods.name,
        "namespace": pods.namespace,
        "statefulset": pods.statefulset,
        "url": pods.plane.front.url,
        "pods": [
            {
                "name": name,
                "uid": pod["metadata"]["uid"] if pod else None,
                "phase": (pod.get("status") or {}).get("phase") if pod else None,
                "ready": pods.is_ready(name),
                "terminating": bool(pod and pod["metadata"].get("deletionTimestamp")),
                "machine": pod["spec"].get("nodeName") if pod else None,
                "starts": pods.nodes.starts.get(name, 0),
            }
            for name, pod in found
        ],
        "requests": len(pods.plane.front.journal),
        "faults": pods.plane.front.faults.shown(),
    }


def requests(pods: CratePods) -> dict[str, int]:
    """Return how often the API server was asked so far, by verb and resource."""
    entries = list(pods.plane.front.journal)
    return dict(Counter(" ".join(entry.stmt.split(" ")[:2]) for entry in entries))


def _set(where: set[str], body: Body, key: str) -> None:
    (where.add if body.get("on", True) else where.discard)(body[key])


#: POST /<name> with a JSON object does this.
LEVERS: dict[str, Callable[[CratePods, Body], object]] = {
    "restart-api": lambda pods, body: pods.plane.restart_api(float(body.get("away_s", 0.5))),
    "drop-connections": lambda pods, body: pods.plane.front.drop_connections(),  # noqa: ARG005
    "expire-history": lambda pods, body: pods.plane.expire_history(),  # noqa: ARG005
    "cordon": lambda pods, body: pods.cordon(body["machine"], on=bool(body.get("on", True))),
    "silence": lambda pods, body: _set(pods.kubelet.silent, body, "machine"),
    "never-ready": lambda pods, body: _set(pods.kubelet.never_ready, body, "pod"),
    "hold": lambda pods, body: _set(pods.kubelet.held, body, "pod"),
    "kill": lambda pods, body: pods.kubelet.container(body["pod"]).signal(9),
    "fail-starts": lambda pods, body: pods.nodes.fail_starts(
        body["pod"], int(body.get("times", 1)), int(body.get("code", 1))
    ),
}


class KubernetesControl(PromptShutdown, ThreadingHTTPServer):
    """Serves the levers of one cluster on loopback."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pods: CratePods, port: int = 0) -> None:
        """Bind the port (0: any free one), which may raise OSError."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.pods = pods

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> KubernetesControl:
        """Serve in a thread of its own."""
        threading.Thread(target=self.serve_forever, name="lab-levers", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KubernetesControl

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""

    def do_GET(self) -> None:
        """Answer /status, /requests and /faults."""
        pods = self.server.pods
        if self.path == "/status":
            self._send(200, status(pods))
        elif self.path == "/requests":
            self._send(200, requests(pods))
        elif self.path == "/faults":
            self._send(200, pods.plane.front.faults.shown())
        else:
            self._send(404, {"error": f"no {self.path}; GET /status, /requests or /faults"})

    def do_POST(self) -> None:
        """Set a rule, or pull a lever."""
        name = self.path.strip("/")
        try:
            body = json.loads(
                self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"
            )
            if name == "faults":
                self._send(200, self.server.pods.plane.front.faults.add(from_json(body)).shown())
            elif name in LEVERS:
                LEVERS[name](self.server.pods, body)
                self._send(200, {"ok": True})
            else:
                self._send(404, {"error": f"no /{name}; there are faults, {', '.join(LEVERS)}"})
        except (KeyError, TypeError, ValueError) as error:
            self._send(400, {"error": str(error)})

    def do_DELETE(self) -> None:
        """Lift all rules, or the one at /faults/<id>."""
        faults = self.server.pods.plane.front.faults
        _, _, rest = self.path.strip("/").partition("/")
        if rest:
            self._send(200, {"ok": rest.isdigit() and faults.remove(int(rest))})
        else:
            faults.clear()
            self._send(200, {"ok": True})

    def _send(self, code: int, body: Any) -> None:
        text = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
