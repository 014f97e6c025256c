"""A control plane, the lab's own; `lab.servers.kubernetes` has the real one with the same face."""

from __future__ import annotations

import json
import shutil
import ssl
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from lab.kubernetes import manifests
from lab.kubernetes.api import LabApi
from lab.kubernetes.controllers import NODE_GRACE_S, Controllers
from lab.kubernetes.front import Front
from lab.kubernetes.kinds import NAMESPACES
from lab.kubernetes.rest import Rest
from lab.kubernetes.rights import MASTERS, Rights, User
from lab.kubernetes.store import Store

#: Whom no rule of the lab concerns.
KUBELET, ADMIN = "system:kubelet", "system:admin"


class Plane(ABC):
    """An API server with what moves by itself, and the front before it that misbehaves.

    Attributes:
        front: Where caretaker goes.
        admin: A way in for tests and levers, past the front's faults.
        operator_token: Whoever may do everything, and meets them.
        kubelet_tls: With which a kubelet must serve exec; None for plain HTTP.

    """

    front: Front
    admin: Rest
    operator_token: str
    kubelet_tls: ssl.SSLContext | None = None

    @abstractmethod
    def start(self) -> Self:
        """Start it, and return when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it, and forget everything."""

    @abstractmethod
    def kubelet_rest(self) -> Rest:
        """A way in for a kubelet."""

    @abstractmethod
    def restart_api(self, away_s: float = 0.5) -> None:
        """Take the API server away for a moment, as by a kill -9; what it knows is kept."""

    @abstractmethod
    def expire_history(self) -> None:
        """Forget what happened, and cut what is open: the next watch meets 410."""

    def kubeconfig(self, namespace: str = "default", token: str = "") -> Path:
        """Write a kubeconfig for the front, of the administrator or of a token's owner."""
        path = Path(tempfile.mkdtemp(prefix="kubeconfig-", dir=self.folder)) / "config"
        self.write_kubeconfig(str(path), namespace, token)
        return path

    def write_kubeconfig(self, path: str, namespace: str = "default", token: str = "") -> None:
        """Write it to a file of somebody's choice."""
        document = manifests.kubeconfig(self.front.url, token or self.operator_token, namespace)
        Path(path).touch(mode=0o600)
        Path(path).write_text(json.dumps(document), encoding="utf-8")

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its files are."""

    def token(self, namespace: str, account: str, seconds: int = 3600) -> str:
        """Return a token of a service account, from the API server itself."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return str(self.admin.ask("POST", path, body)["status"]["token"])

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()


class LabPlane(Plane):
    """The lab's own API server; it starts in no time."""

    def __init__(self, port: int = 0, *, node_grace_s: float = NODE_GRACE_S) -> None:
        """Describe it; `start` brings it up."""
        self.store = Store()
        self.rights = Rights(self.store)
        self.api = LabApi(self.store, self.rights)
        self.front = Front(self.api, port, is_system=lambda user: user in {KUBELET, ADMIN})
        self._controllers = Controllers(self.store, node_grace_s)
        self._folder = Path(tempfile.mkdtemp(prefix="caretaker-lab-kubernetes-"))
        for name in ("default", "kube-system", "kube-node-lease"):
            self.store.create(NAMESPACES, {"metadata": {"name": name}})

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._folder

    def start(self) -> Self:
        """Listen; raises OSError where the port is taken."""
        self.front.start()
        self.admin = Rest(self.front.url, self.rights.token(User(ADMIN, (MASTERS,))))
        self.operator_token = self.rights.token(User("operator", (MASTERS,)))
        self._controllers.start()
        return self

    def stop(self) -> None:
        """Close every socket."""
        self._controllers.stop()
        self.store.end_watches()
        self.front.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def kubelet_rest(self) -> Rest:
        """As a node's own user, whom no rule concerns."""
        return Rest(self.front.url, self.rights.token(User(KUBELET, (MASTERS,))))

    def restart_api(self, away_s: float = 0.5) -> None:
        """Close the sockets, and open them again; a fresh API server has no old versions."""
        self.store.end_watches()
        self.front.stop()
        self.store.compact()
        self.front.restart(away_s)

    def expire_history(self) -> None:
        """Forget what happened, and cut what is open."""
        self.store.compact()
        self.store.end_watches()
        self.front.drop_connections()
