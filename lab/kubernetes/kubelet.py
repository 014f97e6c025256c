"""A kubelet for any API server, whose containers are processes of this machine.

Held against a real one: preStop, TERM, then KILL after the grace; the two steps of a restart in
place; back-off whatever the exit code; the last status, then a delete with grace 0; events; exec
with exit codes. Containers outlive an API server that is away, and no process outlives the kubelet.
"""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lab.kubernetes.containers import Container, Runtime
from lab.kubernetes.pod_exec import ExecServer
from lab.kubernetes.rest import Rest, RestError
from lab.kubernetes.store import Json, stamp

_BEAT_S = 0.1
_HEARTBEAT_S = 4.0
_LONGEST_BACK_OFF_S = 300.0
#: A container that ran so long without a restart has its back-off forgotten.
_FORGIVEN_AFTER_S = 600.0
#: What a kubelet leaves a container that its preStop has left nothing.
_LEAST_GRACE_S = 2.0
_GONE = {404, 409}


class Kubelet:
    """Runs the pods of its nodes. Levers for tests: `silence`, `never_ready`, `hold`."""

    def __init__(
        self,
        rest: Rest,
        nodes: Sequence[str],
        runtime: Runtime,
        *,
        labels: Mapping[str, str] | None = None,
        back_off_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
        make: Callable[[Json, Runtime], Container] = Container,
    ) -> None:
        """Take the API server, the names of the nodes and what containers get."""
        self.nodes = tuple(nodes)
        self.exec_server = ExecServer(self._container_of, tls)
        self.pods: dict[str, Json] = {}
        self.containers: dict[str, Container] = {}
        #: Nodes that went away: no heartbeat, no status, their containers run on.
        self.silent: set[str] = set()
        #: Names of pods whose readiness probe fails whatever it says.
        self.never_ready: set[str] = set()
        #: How long the first restart of a container takes.
        self.restart_s = min(1.0, back_off_s)
        #: Names of pods whose end is not told: Terminating for ever.
        self.held: set[str] = set()
        self._rest, self._runtime, self._make = rest, runtime, make
        self._labels, self._back_off_s = dict(labels or {}), back_off_s
        self._lock = threading.Lock()
        self._pauses: dict[str, tuple[float, float]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._stop = threading.Event()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register the nodes, and begin; RestError where the API server does not take them."""
        self.exec_server.start()
        for name in self.nodes:
            self._beat(name)
        for look in (self._follow, self._heartbeats):
            threading.Thread(target=look, name="lab-kubelet", daemon=True).start()

    def stop(self) -> None:
        """End, and every container with it."""
        self._stop.set()
        self.exec_server.stop()
        with self._lock:
            threads, containers = list(self._threads.values()), list(self.containers.values())
        for container in containers:
            container.kill()
        for thread in threads:
            thread.join(5.0)
        with self._lock:
            left = list(self.containers.values())
        for container in left:
            container.kill()

    def _container_of(self, namespace: str, name: str) -> Container | None:
        with self._lock:
            for uid, pod in self.pods.items():
                meta = pod["metadata"]
                if (meta["namespace"], meta["name"]) == (namespace, name):
                    return self.containers.get(uid)
        return None

    def container(self, name: str) -> Container:
        """Return the container that runs in a pod; KeyError where there is none."""
        with self._lock:
            for uid, pod in self.pods.items():
                if pod["metadata"]["name"] == name and uid in self.containers:
                    return self.containers[uid]
        raise KeyError(name)

    # --- the API server ---------------------------------------------------------------------------

    def _follow(self) -> None:
        """List and watch; after whatever ends it, from the start again."""
        while not self._stop.is_set():
            try:
                listed = self._rest.ask("GET", "/api/v1/pods")
                for pod in listed["items"]:
                    self._see(pod)
                with self._lock:
                    for uid in self.pods.keys() - {p["metadata"]["uid"] for p in listed["items"]}:
                        self.pods.pop(uid)
                version = str(listed["metadata"]["resourceVersion"])
                for event in self._rest.watch("/api/v1/pods", version):
                    if self._stop.is_set():
                        return
                    if event["type"] == "DELETED":
                        with self._lock:
                            self.pods.pop(event["object"]["metadata"]["uid"], None)
                    else:
                        self._see(event["object"])
            except RestError:
                self._stop.wait(0.3)

    def _see(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        over = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
        if pod["spec"].get("nodeName") not in self.nodes or over:
            return
        with self._lock:
            known = uid in self.pods
            self.pods[uid] = pod
            if known or uid in self._threads:
                return
            thread = threading.Thread(target=self._pod, args=(uid,), daemon=True)
            self._threads[uid] = thread
        thread.start()

    def _heartbeats(self) -> None:
        while not self._stop.is_set():
            for name in self.nodes:
                if name not in self.silent:
                    with contextlib.suppress(RestError):
                        self._beat(name)
            self._stop.wait(_HEARTBEAT_S)

    def _beat(self, name: str) -> None:
        try:
            self._rest.ask("GET", f"/api/v1/nodes/{name}")
        except RestError as error:
            if error.status != 404:  # noqa: PLR2004 - not there
                raise
            meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **self._labels}}
            self._rest.ask("POST", "/api/v1/nodes", {"metadata": meta, "spec": {}})
        size = {"cpu": "64", "memory": "512Gi", "pods": "200"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        ready |= {"message": "kubelet is posting ready status", "lastHeartbeatTime": stamp()}
        status = {
            "capacity": size,
            "allocatable": size,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.exec_server.port}},
            "conditions": [{**ready, "lastTransitionTime": stamp()}],
        }
        self._rest.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        try:
            self._rest.ask("PATCH", f"{leases}/{name}", {"spec": spec})
        except RestError:
            self._rest.ask("POST", leases, {"metadata": {"name": name}, "spec": spec})

    # --- one pod ----------------------------------------------------------------------------------

    def _pod(self, uid: str) -> None:
        try:
            self._run(uid)
        except RestError as error:
            if error.status not in _GONE and not self._stop.is_set():
                raise
        finally:
            with self._lock:
                container = self.containers.pop(uid, None)
                self._threads.pop(uid, None)
                self._pauses.pop(uid, None)
            if container is not None:
                container.kill()

    def _run(self, uid: str) -> None:
        pod = self.pods.get(uid)
        if pod is None:
            return
        name = pod["spec"]["containers"][0]["name"]
        container = self._begin(uid, pod)
        self._event(pod, "Started", f"Started container {name}")
        restarts, last, told = 0, None, None
        while not self._stop.is_set() and not self._is_leaving(uid):
            code = container.exit_code()
            if code is not None:
                ended = _ended(container, code)
                self._report(pod, ended, restarts, last)
                last, restarts = ended, restarts + 1
                self._back_off(uid, pod, restarts, last)
                if self._stop.is_set() or self._is_leaving(uid):
                    break
                container = self._begin(uid, pod)
                continue
            told = self._tell(pod, container, restarts, last, told)
            self._stop.wait(_BEAT_S)
        if self._stop.is_set():
            return
        if container.exit_code() is None:
            self._event(pod, "Killing", f"Stopping container {name}")
        code = self._end(uid, pod, container, restarts, last, told)
        while self._is_held(pod) and uid in self.pods and not self._stop.is_set():
            self._stop.wait(_BEAT_S)
        if uid in self.pods and not self._stop.is_set():
            self._report(
                pod, _ended(container, code), restarts, last, "Succeeded" if code == 0 else "Failed"
            )
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            self._insist("DELETE", _path(pod), options)

    def _begin(self, uid: str, pod: Json) -> Container:
        container = self._make(pod, self._runtime)
        with self._lock:
            self.containers[uid] = container
        return container

    def _is_leaving(self, uid: str) -> bool:
        """Whether the pod was deleted, or is gone by force."""
        pod = self.pods.get(uid)
        return pod is None or bool(pod["metadata"].get("deletionTimestamp"))

    def _is_held(self, pod: Json) -> bool:
        return pod["metadata"]["name"] in self.held or self._is_silent(pod)

    def _is_silent(self, pod: Json) -> bool:
        return pod["spec"].get("nodeName") in self.silent

    def _deadline(self, uid: str) -> float:
        """When its grace is over; at once where it is gone by force."""
        pod = self.pods.get(uid)
        if pod is None or not pod["metadata"].get("deletionTimestamp"):
            return 0.0
        return datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]).timestamp()

    def _end(
        self,
        uid: str,
        pod: Json,
        container: Container,
        restarts: int,
        last: Json | None,
        told: tuple[bool, int] | None,
    ) -> int:
        """Run preStop, then TERM, then KILL, as long as the grace lasts; a delete shortens it."""
        probe = container.spec.get("readinessProbe") or {}

        def wait(process: Any, at_least: float = 0.0) -> bool:
            nonlocal told
            while process() is None and time.time() < max(self._deadline(uid), at_least):
                if self._stop.wait(0.05):
                    return False
                container.exit_code()
                # http probes go on while it ends, exec probes do not (seen live).
                if "exec" not in probe and uid in self.pods:
                    told = self._tell(pod, container, restarts, last, told)
            container.exit_code()
            return process() is not None

        hook = ((container.spec.get("lifecycle") or {}).get("preStop") or {}).get("exec")
        if hook and container.exit_code() is None and self._deadline(uid) > time.time():
            try:
                guest = container.exec(hook["command"], stdout=subprocess.DEVNULL)
            except OSError as error:
                self._event(pod, "FailedPreStopHook", f"PreStopHook failed: {error}", "Warning")
            else:
                if not wait(guest.poll) and guest.poll() is None:
                    guest.kill()
                if guest.wait():
                    # Also where the drain has worked: PID 1 ended under the hook (seen live).
                    self._event(pod, "FailedPreStopHook", "PreStopHook failed", "Warning")
        container.signal(15)
        if not wait(container.exit_code, at_least=time.time() + _LEAST_GRACE_S):
            container.kill()
        code = container.exit_code()
        return 137 if code is None else code

    def _back_off(self, uid: str, pod: Json, restarts: int, last: Json) -> None:
        """Wait a second before the first restart, then 10, 20, 40 ..., whatever the exit code."""
        pause, at = self._pauses.get(uid, (0.0, 0.0))
        if time.time() - at > _FORGIVEN_AFTER_S:
            pause = 0.0
        longer = min(pause * 2 or self._back_off_s, _LONGEST_BACK_OFF_S)
        self._pauses[uid] = (longer, time.time() + pause)
        until = time.time() + max(pause, self.restart_s)
        if pause:
            name = pod["spec"]["containers"][0]["name"]
            message = (
                f"Back-off restarting failed container {name} in pod {pod['metadata']['name']}"
            )
            self._event(pod, "BackOff", message, "Warning")
            waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
            self._report(pod, waiting, restarts - 1, last)
        while time.time() < until and not self._is_leaving(uid) and not self._stop.is_set():
            self._stop.wait(_BEAT_S)

    # --- what is told -----------------------------------------------------------------------------

    def _tell(
        self,
        pod: Json,
        container: Container,
        restarts: int,
        last: Json | None,
        told: tuple[bool, int] | None,
    ) -> tuple[bool, int] | None:
        """Report a running container where its readiness has changed, or is not believed."""
        if self._is_silent(pod):
            return told
        ready = container.ready() and pod["metadata"]["name"] not in self.never_ready
        news = (ready, restarts) != told or (ready and self._is_disbelieved(pod))
        if news and container.exit_code() is None:
            running = {"running": {"startedAt": container.started_at}}
            self._report(pod, running, restarts, last, ready=ready)
            return ready, restarts
        return told

    def _is_disbelieved(self, pod: Json) -> bool:
        """Whether it is known as not Ready: its machine was given up, if only for a moment."""
        seen = self.pods.get(pod["metadata"]["uid"]) or {}
        conditions = (seen.get("status") or {}).get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] != "True" for each in conditions)

    def _report(
        self,
        pod: Json,
        state: Json,
        restarts: int,
        last: Json | None,
        phase: str = "Running",
        *,
        ready: bool = False,
    ) -> None:
        if self._is_silent(pod):
            return
        spec = pod["spec"]["containers"][0]
        meta = pod["metadata"]
        reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(
            phase, "ContainersNotReady"
        )
        flag: Json = {"status": "True"} if ready else {"status": "False", "reason": reason}
        before = {
            each["type"]: each
            for each in (self.pods.get(meta["uid"], pod).get("status") or {}).get("conditions")
            or []
        }
        conditions = []
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
            own = dict(flag) if kind.endswith("Ready") else {"status": "True"}
            known = before.get(kind) or {}
            since = (
                known.get("lastTransitionTime") if known.get("status") == own["status"] else None
            )
            conditions.append({"type": kind, **own, "lastTransitionTime": since or stamp()})
        status = {
            "phase": phase,
            "conditions": conditions,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "startTime": meta.get("creationTimestamp"),
            "containerStatuses": [
                {
                    "name": spec["name"],
                    "image": spec["image"],
                    "imageID": "",
                    "ready": ready,
                    "started": "running" in state,
                    "restartCount": restarts,
                    "state": state,
                    "lastState": last or {},
                }
            ],
        }
        body = {"metadata": {"uid": meta["uid"]}, "status": status}
        self._insist("PATCH", f"{_path(pod)}/status", body)

    def _insist(self, method: str, path: str, body: Json) -> None:
        """Tell it once the API server is back: containers live on without it."""
        while not self._stop.is_set():
            try:
                self._rest.ask(method, path, body)
            except RestError as error:
                if error.status not in {0, 401, 403, 429} and error.status < 500:  # noqa: PLR2004
                    raise
                self._stop.wait(0.3)
            else:
                return

    def _event(self, pod: Json, reason: str, message: str, kind: str = "Normal") -> None:
        meta = pod["metadata"]
        body = {
            "metadata": {
                "name": f"{meta['name']}.{time.time_ns():x}",
                "namespace": meta["namespace"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "firstTimestamp": stamp(),
            "lastTimestamp": stamp(),
            "count": 1,
            "source": {"component": "kubelet", "host": pod["spec"].get("nodeName")},
            "involvedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                "name": meta["name"],
                "uid": meta["uid"],
                "namespace": meta["namespace"],
            },
        }
        with contextlib.suppress(RestError):
            self._rest.ask("POST", f"/api/v1/namespaces/{meta['namespace']}/events", body)


def _path(pod: Json) -> str:
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"


def _ended(container: Container, code: int) -> Json:
    reason = "Completed" if code == 0 else "Error"
    ended = {"exitCode": code, "reason": reason}
    return {"terminated": {**ended, "startedAt": container.started_at, "finishedAt": stamp()}}
