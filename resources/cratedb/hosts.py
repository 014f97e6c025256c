"""The hosts of one cluster, in the order in which they are asked."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterable

from resources.cratedb.settings import CrateDBSettings

SQL_PATH = "/_sql"


class Rota:
    """Hosts, the one that worked last first.

    Not a round robin: nodes apply a new cluster state one after the other, so the host that
    carried out an ALTER is the one that shows it to the very next read.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(hosts)
        self._lock = threading.Lock()

    def order(self) -> tuple[str, ...]:
        """Every host once."""
        return self._hosts

    def demote(self, host: str) -> None:
        """Ask `host` last from now on."""
        with self._lock:
            self._hosts = (*(other for other in self._hosts if other != host), host)


def request_headers(settings: CrateDBSettings) -> dict[str, str]:
    """The headers of every request to CrateDB."""
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "caretaker",
    }
    if settings.username:
        pair = f"{settings.username}:{settings.password}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    return headers
