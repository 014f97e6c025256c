"""What everything in a lab Materialize stands on: its tables, and what they say of clusters."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.json import Json

if TYPE_CHECKING:
    from lab.materialize.server import Server


class Ground:
    """The lab's own connection to its tables, and questions to them."""

    _lock: threading.RLock
    _due: threading.Event
    _database: str
    _server: Server
    _admin: psycopg.Connection

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement on the tables themselves: no proxy, rules, journal or history."""
        with self._lock:
            cursor = self._admin.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def replicas(self, cluster: str) -> dict[str, str]:
        """Return the replicas of a cluster: name to size."""
        return dict(
            self.sql(
                "SELECT r.name, r.size FROM mz_catalog.mz_cluster_replicas r "
                "JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id WHERE c.name = %s ORDER BY 1",
                (cluster,),
            )
        )

    def replica_id(self, cluster: str, replica: str) -> str:
        """Return the id of a replica; KeyError where there is none."""
        rows = self.sql(
            "SELECT r.id FROM mz_catalog.mz_cluster_replicas r JOIN mz_catalog.mz_clusters c "
            "ON c.id = r.cluster_id WHERE c.name = %s AND r.name = %s",
            (cluster, replica),
        )
        if not rows:
            raise KeyError(f"no replica {cluster}.{replica}")
        return str(rows[0][0])

    def cluster_id(self, cluster: str) -> str:
        """Return the id of a cluster; KeyError where there is none."""
        rows = self.sql("SELECT id FROM mz_catalog.mz_clusters WHERE name = %s", (cluster,))
        if not rows:
            raise KeyError(f"no cluster {cluster}")
        return str(rows[0][0])

    def is_ready(self, cluster: str, replica: str) -> bool:
        """Return whether a replica is online and holds all that it must."""
        return bool(self.sql("SELECT lab.ready(%s)", (self.replica_id(cluster, replica),))[0][0])

    def call(self, call: dict[str, Any], *, user: str = "mz_system") -> None:
        """Carry out a cluster statement given as the call that it becomes."""
        self.sql("SELECT lab.run(%s::jsonb, %s)", (Json(call), user))
        self._due.set()
