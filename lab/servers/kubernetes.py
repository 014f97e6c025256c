"""A real Kubernetes control plane, built once through the Go module proxy that Go is set up for.

etcd, API server, controller manager and scheduler are one program (`control_plane/`), so that what
they share is compiled once: minutes the first time, nothing after that. No Docker, no root. The
kubelet is the lab's, whose containers are processes of this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lab.kubernetes.front import Front
from lab.kubernetes.plane import Plane
from lab.kubernetes.rest import Rest, RestError
from lab.kubernetes.upstream import Upstream
from lab.servers.cache import once
from lab.servers.errors import ServerDidNotStartError, ServerUnavailableError
from lab.servers.process import Home, Server, free_port

_SOURCE = Path(__file__).with_name("control_plane")
_VERSION = "v1.35.4"

#: Without them the server calls itself v0.0.0, and clients that compare versions complain.
_STAMP = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (("gitVersion", _VERSION), ("gitMajor", "1"), ("gitMinor", "35"))
)
#: Not optimized: a sixth less to compile, and it starts as fast.
_FLAGS = ("-buildvcs=false", "-trimpath", "-gcflags=all=-N -l", f"-ldflags=-s -w {_STAMP}")

_BUILT_WITHIN_S = 3600.0
_TENDED_EVERY_S = 1.0
_READY_WITHIN_S = 120.0

#: Only what a StatefulSet's life needs.
_CONTROLLERS = (
    "statefulset-controller",
    "garbage-collector-controller",
    "disruption-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "namespace-controller",
    "pod-garbage-collector-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "persistentvolume-binder-controller",
    "persistentvolumeclaim-protection-controller",
)

#: The operator's resource, as far as anybody here reads it.
_CRATEDB_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "cratedbs.cloud.crate.io"},
    "spec": {
        "group": "cloud.crate.io",
        "names": {"kind": "CrateDB", "plural": "cratedbs", "singular": "cratedb"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


class ControlPlane(Plane):
    """etcd, API server, controller manager and scheduler on free ports of loopback.

    They end with this process, however it ends. What they know goes with them.
    """

    def __init__(self) -> None:
        """Find the program, or build it; nothing runs yet.

        Raises:
            ServerUnavailableError: This machine cannot have it.

        """
        self.program = program()
        self._home = Home("caretaker-kubernetes-")
        self._servers: dict[str, Server] = {}
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self._token = secrets.token_hex(16)
        self.operator_token = secrets.token_hex(16)
        self._port = free_port()
        self._over = threading.Event()
        self._tending = threading.Thread(target=self._tend, name="tend-control-plane", daemon=True)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._home.folder

    @property
    def url(self) -> str:
        """Of the API server itself, past the front."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def _certificate(self) -> str:
        """The API server's own, which holds its authority's, too."""
        return str(self.folder / "pki" / "apiserver.crt")

    def start(self) -> Self:
        """Start it all, and return when it answers."""
        _make_keys(self.folder, self._token, self.operator_token)
        self._start_etcd()
        self._start_api()
        self.admin = Rest(self.url, self._token, self._certificate)
        config = self._own_kubeconfig()
        for name, options in (
            (
                "controller-manager",
                (
                    f"--controllers={','.join(_CONTROLLERS)}",
                    f"--service-account-private-key-file={self.folder / 'pki' / 'sa.key'}",
                    f"--root-ca-file={self._certificate}",
                ),
            ),
            ("scheduler", ()),
        ):
            server = self._server(
                name, f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0", *options
            )
            server.start(lambda: True, waits_for="nothing", within_s=_READY_WITHIN_S)
        self._tending.start()
        self.admin.ask(
            "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _CRATEDB_CRD
        )
        self._wait_for_controllers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, str(self.folder / "pki" / "apiserver.key"))
        self.kubelet_tls = context
        self.front = Front(Upstream(self.url, self._certificate))
        self.front.start()
        return self

    def stop(self) -> None:
        """End it, and remove what it knew."""
        self._over.set()
        if self._tending.is_alive():
            self._tending.join()
        if hasattr(self, "front"):
            self.front.stop()
        self._home.close()

    def kubelet_rest(self) -> Rest:
        """Straight to the API server."""
        return Rest(self.url, self._token, self._certificate)

    def restart_api(self, away_s: float = 0.5) -> None:
        """Kill -9 the API server, and start it again on the same port."""
        self._servers["apiserver"].kill()
        self.front.drop_connections()
        self.front.stop()
        self._start_api()
        self.front.restart(away_s)

    def expire_history(self) -> None:
        """Compact etcd, and let the API server forget: its cache begins where etcd does."""
        # A version that nobody has seen: what is watched from before it is too old.
        probe = {"metadata": {"name": f"expired-{secrets.token_hex(4)}"}, "data": {}}
        made = self.admin.ask("POST", "/api/v1/namespaces/default/configmaps", probe)
        self._servers["apiserver"].kill()
        revision = int(made["metadata"]["resourceVersion"])
        _post(f"{self._etcd_url}/v3/kv/compaction", {"revision": revision, "physical": True})
        self.front.drop_connections()
        self._start_api()

    # --- parts ------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Start again what ends, as a kubelet would.

        The scheduler ends itself where it finds its cache corrupted: an API server that dies
        between a bind and its answer is enough.
        """
        while not self._over.wait(_TENDED_EVERY_S):
            for server in (self._servers["controller-manager"], self._servers["scheduler"]):
                if server.wait(0.0) is not None:
                    server.start(lambda: True, waits_for="nothing", within_s=_READY_WITHIN_S)

    def _server(self, part: str, *options: str) -> Server:
        server = Server(
            self._home,
            part,
            [str(self.program), part, *options],
            environment={"HOME": str(self.folder)},
            ends_with=signal.SIGKILL,
        )
        self._servers[part] = server
        return server

    def _start_etcd(self) -> None:
        peer = f"http://127.0.0.1:{free_port()}"
        server = self._server(
            "etcd",
            "--name=lab",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        server.start(
            lambda: _answers(f"{self._etcd_url}/health"),
            waits_for=f"etcd at {self._etcd_url}",
            within_s=_READY_WITHIN_S,
        )

    def _start_api(self) -> None:
        pki = self.folder / "pki"
        server = self._server(
            "apiserver",
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={pki}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            f"--service-account-key-file={pki / 'sa.pub'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-cluster-ip-range=10.0.0.0/24",
            # The lab's kubelet speaks WebSocket, and nothing else.
            "--feature-gates=TranslateStreamCloseWebsocketRequests=false",
        )
        server.start(
            lambda: _answers(f"{self.url}/readyz"),
            waits_for=f"the API server at {self.url}",
            within_s=_READY_WITHIN_S,
        )

    def _own_kubeconfig(self) -> Path:
        path = self.folder / "own.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": self._certificate}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "lab", "user": {"token": self._token}}],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def _wait_for_controllers(self) -> None:
        """Return when a controller has made what only it makes."""

        def made() -> bool:
            path = "/api/v1/namespaces/default/serviceaccounts/default"
            try:
                self.admin.ask("GET", path)
                crates = "/apis/cloud.crate.io/v1/namespaces/default/cratedbs"
                self.admin.ask("GET", crates)
            except RestError:
                return False
            return True

        manager = self._servers["controller-manager"]
        deadline_polls = int(_READY_WITHIN_S / 0.1)
        for _ in range(deadline_polls):
            if made():
                return
            if manager.wait(0.1) is not None:
                break
        raise ServerDidNotStartError(f"the controllers do not work: {manager.said()}")


def program() -> Path:
    """Return the cached program, built where this version was not yet.

    Raises:
        ServerUnavailableError: There is no Go, or it cannot build it; the message is Go's.

    """
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for each in sorted(_SOURCE.glob("*")):
        if each.is_file():
            digest.update(each.read_bytes())
    name = f"kubernetes-{_VERSION.removeprefix('v')}-{digest.hexdigest()[:8]}"
    return once(name, _build) / "kube"


def _build(folder: Path) -> None:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise ServerUnavailableError("this machine has no go, which builds a control plane")
    # The compilers need not save memory: a seventh less processor time.
    environment = {"CGO_ENABLED": "0", "GOGC": os.environ.get("GOGC", "off")}
    try:
        done = subprocess.run(
            [go, "build", *_FLAGS, "-o", str(folder / "kube"), "."],
            cwd=_SOURCE,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=_BUILT_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"waited {_BUILT_WITHIN_S:.0f} s for go to build a control plane"
        raise ServerUnavailableError(why) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServerUnavailableError(f"go cannot build a control plane: {said[-1]}")


def _make_keys(folder: Path, *tokens: str) -> None:
    """Write who may come in, and the key pair of service accounts."""
    pki = folder / "pki"
    pki.mkdir(exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    pem, pkcs = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    lines = [
        f'{token},{user},{user},"system:masters"'
        for token, user in zip(tokens, ("admin", "operator"), strict=True)
    ]
    for path, data in (
        (pki / "sa.key", key.private_bytes(pem, pkcs, plain)),
        (pki / "sa.pub", key.public_key().public_bytes(pem, public)),
        (folder / "tokens.csv", ("\n".join(lines) + "\n").encode()),
    ):
        path.touch(mode=0o600)
        path.write_bytes(data)


def _answers(url: str) -> bool:
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - only whether it is there
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310
            return bool(answer.status == 200)  # noqa: PLR2004 - OK
    except (OSError, ValueError):
        return False


def main() -> int:
    """Build it where it is not built yet, so that no test waits for that; print where it is."""
    try:
        sys.stdout.write(f"{program()}\n")
    except ServerUnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _post(url: str, body: Any) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode())  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        answer.read()


if __name__ == "__main__":
    sys.exit(main())
