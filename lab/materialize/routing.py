"""Which cluster a statement runs on, and whether anybody there can answer it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import psycopg

from lab.materialize.errors import INTERNAL, UNDEFINED_OBJECT, UNSUPPORTED, MaterializeError
from lab.materialize.statements import Kind, Statement

_SYSTEM_PREFIXES = ("mz_", "pg_", "information_schema")
_LOGS = {"mz_introspection", "mz_active_peeks"}
_CATALOG_SERVER = "mz_catalog_server"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a statement runs: `cluster` is (id, name), None where none is needed."""

    touches: str
    cluster: tuple[str, str] | None = None
    refusal: MaterializeError | None = None


class Routing:
    """Answers from the catalog, through a connection of its own."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Take the superuser's connection."""
        self.connection = connection
        self._lock = threading.Lock()
        self._relations: frozenset[str] | None = None

    def forget(self) -> None:
        """Look again which relations there are: some DDL went through."""
        with self._lock:
            self._relations = None

    def _users(self) -> frozenset[str]:
        with self._lock:
            if self._relations is None:
                rows = self.connection.execute(
                    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND "
                    "relnamespace::regnamespace::text !~ '^(mz_|pg_|information_schema|lab)'"
                ).fetchall()
                self._relations = frozenset(row[0] for row in rows)
            return self._relations

    def route(self, statement: Statement, parameters: dict[str, str]) -> Route:
        """Return where the statement runs, with the refusal if it cannot run there."""
        if statement.kind not in {Kind.READ, Kind.WRITE, Kind.READ_WRITE}:
            return Route("")
        logs = bool(statement.names & _LOGS)
        if statement.names & self._users():
            touches = "user"
        elif any(name.startswith(_SYSTEM_PREFIXES) for name in statement.names):
            touches = "system"
        else:
            touches = ""
        if statement.kind == Kind.WRITE:
            return Route("user")
        replica = parameters.get("cluster_replica", "")
        routed = parameters.get("auto_route_catalog_queries", "on") == "on" and not replica
        name = parameters["cluster"]
        if touches == "system" and routed and not logs:
            name = _CATALOG_SERVER
        return self._on(name, replica, touches, logs=logs)

    def _on(self, name: str, replica: str, touches: str, *, logs: bool) -> Route:
        with self._lock:
            row = self.connection.execute(
                "SELECT c.id, c.managed, array(SELECT r.name FROM mz_catalog.mz_cluster_replicas r "
                "WHERE r.cluster_id = c.id) FROM mz_catalog.mz_clusters c WHERE c.name = %s",
                (name,),
            ).fetchone()
        if row is None:
            return Route(touches, None, MaterializeError(INTERNAL, f"unknown cluster '{name}'"))
        cluster, managed, replicas = row
        return Route(
            touches, (cluster, name), _refusal(name, managed, replicas, replica, logs=logs)
        )


def _refusal(
    name: str, managed: bool, replicas: list[str], wanted: str, *, logs: bool
) -> MaterializeError | None:
    if not replicas:
        return MaterializeError(
            UNSUPPORTED,
            f'CLUSTER "{name}" has no replicas available to service request',
            hint="Use ALTER CLUSTER to adjust the replication factor of the cluster. "
            "Example:`ALTER CLUSTER <cluster-name> SET (REPLICATION FACTOR 1)`"
            if managed
            else "Use CREATE CLUSTER REPLICA to attach cluster replicas to the cluster",
        )
    if wanted and wanted not in replicas:
        return MaterializeError(
            UNDEFINED_OBJECT, f"cluster replica '{name}.{wanted}' does not exist"
        )
    if logs and not wanted and len(replicas) > 1:
        return MaterializeError(
            UNSUPPORTED,
            "log source reads must target a replica",
            hint="Use `SET cluster_replica = <replica-name>` to target a specific replica in the "
            "active cluster. Note that subsequent queries will only be answered by the selected "
            "replica, which might reduce availability. To undo the replica selection, use "
            "`RESET cluster_replica`.",
        )
    return None
