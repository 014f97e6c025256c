"""The lab's control port: the same faults and levers from another process, and a client for it."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from lab.faults import Fault, from_json
from lab.listening import PromptShutdown

if TYPE_CHECKING:
    from lab.cratedb.laboratory import LabCrateDB


Body = dict[str, Any]


class ControlServer(PromptShutdown, ThreadingHTTPServer):
    """Serves one lab's levers as JSON over HTTP on loopback."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        lab: Any,
        port: int = 0,
        *,
        status: Callable[[Any], dict[str, Any]] | None = None,
        levers: dict[str, Callable[[Any, Body], object]] | None = None,
    ) -> None:
        """Bind the port (0: any free one), which may raise OSError.

        `status` and `levers` are those of the lab CrateDB unless told otherwise.
        """
        super().__init__(("127.0.0.1", port), _Handler)
        self.lab = lab
        self.status = status or _status_of_cratedb
        self.levers = LEVERS if levers is None else levers

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> ControlServer:
        """Serve in a thread of its own."""
        threading.Thread(target=self.serve_forever, name="lab-control", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


def status(lab: LabCrateDB) -> dict[str, Any]:
    """Return all that `caretaker lab status` shows."""
    health = lab.sql(
        "SELECT health, missing_shards, underreplicated_shards FROM sys.cluster_health"
    )
    word, missing, under = health["rows"][0]
    with lab.world.lock:
        nodes = [
            {
                "name": node.name,
                "url": url,
                "alive": node.alive,
                "draining": node.draining,
                "master": node.id == lab.world.master,
            }
            for node, url in zip(lab.world.nodes, lab.urls, strict=True)
        ]
        sick = [
            {
                "table": relation.name,
                "replicas": relation.replicas,
                "worst_mb": round(worst / MB, 1),
            }
            for relation in lab.world.relations()
            if (worst := max((c.uncommitted for _, c in relation.copies()), default=0)) > MB
        ]
        tables = len(lab.world.tables)
    return {
        "cluster": lab.world.cluster_name,
        "version": lab.world.version,
        "connection_string": lab.connection_string,
        "nodes": nodes,
        "health": word,
        "missing_shards": missing,
        "underreplicated_shards": under,
        "tables": tables,
        "sick": sorted(sick, key=lambda s: -s["worst_mb"]),
        "at_zero": lab.at_zero(),
        "most_at_zero": lab.most_at_zero,
        "seconds_at_zero": lab.seconds_at_zero(),
        "statements": len(lab.journal),
        "faults": lab.faults.shown(),
        "speed": lab.clock.speed,
    }


def _status_of_cratedb(lab: LabCrateDB) -> dict[str, Any]:
    return status(lab)


MB = 1024 * 1024


def _clock(lab: LabCrateDB, body: Body) -> None:
    if "speed" in body:
        lab.clock.speed = float(body["speed"])
    if "advance" in body:
        lab.advance(float(body["advance"]))


def _snapshot(lab: LabCrateDB, body: Body) -> None:
    if body.get("running", True):
        lab.start_snapshot()
    else:
        lab.end_snapshots()


def _leases(lab: LabCrateDB, body: Body) -> None:
    lab.table(body["table"]).leases_stuck = bool(body.get("stuck", True))


#: POST /<name> with a JSON object does this.
LEVERS: dict[str, Callable[[Any, Body], object]] = {
    "crash": lambda lab, body: lab.crash(body["node"]),
    "restart": lambda lab, body: lab.restart(body["node"]),
    "drop-master": lambda lab, body: lab.drop_master(body.get("seconds")),
    "elect-master": lambda lab, body: lab.elect_master(),  # noqa: ARG005 - one shape for all
    "hang-drain": lambda lab, body: lab.hang_drain(body["node"]),
    "clock": _clock,
    "snapshot": _snapshot,
    "leases": _leases,
    "sick": lambda lab, body: lab.table(body["table"]).make_sick(
        float(body.get("mb", 1200)), cause=body.get("cause", "safe_commit_lag")
    ),
    "lose-primary": lambda lab, body: lab.table(body["table"]).lose_primary(body.get("shard", 0)),
    "find-primary": lambda lab, body: lab.table(body["table"]).find_primary(body.get("shard", 0)),
    "revoke": lambda lab, body: lab.revoke(body["user"], body.get("grant")),
    "fill-disk": lambda lab, body: lab.fill_disk(body["node"], float(body["percent"])),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ControlServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""

    def do_GET(self) -> None:
        """Answer /status, /faults, /journal[?since=N]."""
        lab = self.server.lab
        path, _, query = self.path.partition("?")
        if path == "/status":
            self._send(200, self.server.status(lab))
        elif path == "/faults":
            self._send(200, lab.faults.shown())
        elif path == "/journal":
            since = int(query.removeprefix("since=")) if query.startswith("since=") else 0
            self._send(200, [entry.shown() for entry in lab.journal[since:]])
        else:
            self._send(404, {"error": f"no {path}; GET /status, /faults or /journal"})

    def do_POST(self) -> None:
        """Set a fault, or pull a lever."""
        lab = self.server.lab
        name = self.path.strip("/")
        try:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(text or b"{}")
            if name == "faults":
                self._send(200, lab.faults.add(from_json(body)).shown())
            elif name in self.server.levers:
                self.server.levers[name](lab, body)
                self._send(200, {"ok": True})
            else:
                known = ", ".join(self.server.levers)
                self._send(404, {"error": f"no /{name}; there are faults, {known}"})
        except (KeyError, TypeError, ValueError) as error:
            reason = error.args[0] if error.args else error
            missing = isinstance(error, KeyError) and " " not in str(reason)
            self._send(400, {"error": f"{reason} is missing" if missing else str(reason)})

    def do_DELETE(self) -> None:
        """Lift all faults, or the one at /faults/<id>."""
        lab = self.server.lab
        _, kind, *rest = self.path.split("/")
        if kind != "faults":
            self._send(404, {"error": "DELETE /faults or /faults/<id>"})
        elif rest and rest[0]:
            found = rest[0].isdigit() and lab.faults.remove(int(rest[0]))
            self._send(200 if found else 404, {"ok": found})
        else:
            lab.faults.clear()
            self._send(200, {"ok": True})

    def _send(self, code: int, body: Any) -> None:
        text = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)


class LabUnreachableError(Exception):
    """Nothing answers at the control port, or it refused; the message says which."""


class LabControl:
    """Pulls the levers of a lab that runs in another process."""

    def __init__(self, url: str = "http://127.0.0.1:4299", *, timeout_s: float = 10.0) -> None:
        """Take the control port's URL; nothing is sent yet."""
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s

    def _ask(self, method: str, path: str, body: Body | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - loopback, our own scheme
            f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            reason = json.loads(error.read() or b"{}").get("error", str(error))
            raise LabUnreachableError(reason) from error
        except OSError as error:
            message = f"no lab answers at {self.url}; start one with `python -m lab.cratedb`"
            raise LabUnreachableError(message) from error

    def status(self) -> dict[str, Any]:
        """Return the state of the lab."""
        found: dict[str, Any] = self._ask("GET", "/status")
        return found

    def journal(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the statements received, from the `since`-th on."""
        found: list[dict[str, Any]] = self._ask("GET", f"/journal?since={since}")
        return found

    def faults(self) -> list[dict[str, Any]]:
        """Return the rules in force."""
        found: list[dict[str, Any]] = self._ask("GET", "/faults")
        return found

    def add_fault(self, fault: Fault | dict[str, Any]) -> int:
        """Put a rule in force and return its id."""
        if isinstance(fault, Fault):
            fault = {k: v for k, v in fault.shown().items() if k not in {"matched", "fired", "id"}}
        return int(self._ask("POST", "/faults", fault)["id"])

    def clear_faults(self, fault_id: int | None = None) -> None:
        """Lift one rule, or all of them."""
        self._ask("DELETE", "/faults" if fault_id is None else f"/faults/{fault_id}")

    def pull(self, lever: str, **body: Any) -> None:
        """Pull a lever: `pull("crash", node=1)`, `pull("clock", speed=10)`."""
        self._ask("POST", f"/{lever}", body)
