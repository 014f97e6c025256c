"""Making what a lab Materialize has: clusters, objects that hydrate, sizes, users."""

from __future__ import annotations

from typing import Any

from lab.materialize import catalog
from lab.materialize.ground import Ground
from lab.materialize.sizes import Size


class Making(Ground):
    """Makes things, past every rule of the server's."""

    def cluster(self, name: str, replicas: dict[str, str] | None = None) -> str:
        """Make an unmanaged cluster with these replicas, all of them ready; return its id."""
        return self._made(name, {
            "REPLICAS": [{"name": n, "options": {"SIZE": s}} for n, s in (replicas or {}).items()]
        })  # fmt: skip

    def managed_cluster(self, name: str, size: str = "25cc", replication_factor: int = 1) -> str:
        """Make a managed cluster whose replicas are ready; return its id."""
        return self._made(name, {"SIZE": size, "REPLICATION FACTOR": replication_factor})

    def _made(self, name: str, options: dict[str, Any]) -> str:
        with self._lock:
            self.call({"op": "create_cluster", "name": name, "options": options})
            cluster = self.cluster_id(name)
            self.make_ready(name)
        return cluster

    def make_ready(self, cluster: str) -> None:
        """Let all replicas of a cluster be online and hydrated now, whatever the clock says."""
        self.sql(
            "SELECT lab.came_online(s.replica_id, s.process_id::int, lab.now()) FROM "
            "mz_internal.mz_cluster_replica_statuses s JOIN mz_catalog.mz_cluster_replicas r "
            "ON r.id = s.replica_id WHERE r.cluster_id = %s AND s.status <> 'online'",
            (self.cluster_id(cluster),),
        )
        self.sql(
            "SELECT lab.hydrated(h.object_id, h.replica_id, lab.now()) FROM "
            "mz_internal.mz_hydration_statuses h JOIN mz_catalog.mz_cluster_replicas r "
            "ON r.id = h.replica_id WHERE r.cluster_id = %s",
            (self.cluster_id(cluster),),
        )
        self.sql(
            "DELETE FROM lab.schedule WHERE what IN ('online', 'hydrated') AND replica_id IN "
            "(SELECT id FROM mz_catalog.mz_cluster_replicas WHERE cluster_id = %s)",
            (self.cluster_id(cluster),),
        )

    def index(self, cluster: str, name: str, *, hydrate_s: float | None = None) -> str:
        """Make an index that every replica of the cluster must hold; return its id.

        `hydrate_s`: how long it takes wherever it is; less than 0 is for ever.
        """
        return self._object(cluster, name, "index", "", hydrate_s)

    def materialized_view(self, cluster: str, name: str, *, hydrate_s: float | None = None) -> str:
        """Make a materialized view that every replica of the cluster must hold; return its id."""
        return self._object(cluster, name, "materialized-view", "", hydrate_s)

    def source(
        self, cluster: str, name: str, kind: str = "kafka", *, hydrate_s: float | None = None
    ) -> str:
        """Make a source; postgres, mysql and sql-server run on the oldest replica only."""
        return self._object(cluster, name, "source", kind, hydrate_s)

    def sink(self, cluster: str, name: str, *, hydrate_s: float | None = None) -> str:
        """Make a sink to Kafka; return its id."""
        return self._object(cluster, name, "sink", "kafka", hydrate_s)

    def _object(
        self, cluster: str, name: str, kind: str, source: str, hydrate_s: float | None
    ) -> str:
        with self._lock:
            where = self.cluster_id(cluster)
            made = f"u{self.sql('SELECT lab.next_id(%s)', ('object',))[0][0]}"
            single = source in {"postgres", "mysql", "sql-server"}
            self.sql(*_insert(kind, made, name, where, source))
            self.sql(
                "INSERT INTO lab.objects VALUES (%s, %s, %s, %s, %s)",
                (made, where, kind, single, hydrate_s),
            )
            self.sql(
                "SELECT lab.begin_hydration(%s, id, lab.now()) FROM mz_catalog.mz_cluster_replicas "
                "WHERE cluster_id = %s",
                (made, where),
            )
            if kind in {"source", "sink"} and not self.replicas(cluster):
                self.sql(
                    "INSERT INTO mz_internal.mz_hydration_statuses VALUES (%s, NULL, NULL)", (made,)
                )
        self._due.set()
        return made

    def drop_object(self, object_id: str) -> None:
        """Drop what one of the four above made."""
        self.sql("SELECT lab.drop_object(%s)", (object_id,))

    def _add_size(self, size: Size) -> None:
        self._admin.execute(
            "INSERT INTO mz_catalog.mz_cluster_replica_sizes VALUES (%s, %s::bigint, %s::bigint, "
            "%s::bigint, %s::bigint, %s::bigint, %s::float8::numeric)",
            (
                size.name, size.processes, size.workers, size.cpu_nano_cores, size.memory_bytes,
                size.disk_bytes, size.credits_per_hour,
            ),
        )  # fmt: skip

    def size(self, size: Size) -> None:
        """Offer one more size."""
        with self._lock:
            self._add_size(size)

    def create_user(
        self,
        name: str,
        *roles: str,
        password: str | None = None,
        superuser: bool = False,
    ) -> None:
        """Let somebody log in; `roles` are mz_monitor or mz_monitor_redacted."""
        self.sql("CALL lab.admit(%s, %s)", (name, superuser))
        quoted = '"' + name.replace('"', '""') + '"'
        if not self.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)):
            self.sql(f"CREATE ROLE {quoted} LOGIN")
        self.sql(f"GRANT ALL ON SCHEMA public TO {quoted}")
        self.sql(f"GRANT CREATE ON DATABASE {self._database} TO {quoted}")
        # A right of this database, not a membership: all labs of a process share their roles.
        for relation, readers in catalog.RESTRICTED.items():
            if superuser or set(readers) & set(roles):
                self.sql(f"GRANT SELECT ON {relation} TO {quoted}")
        self._server.users.add(name)
        if superuser:
            self._server.superusers.add(name)
        if password is not None:
            self._server.passwords[name] = password


def _insert(
    kind: str, made: str, name: str, cluster: str, source: str
) -> tuple[str, tuple[Any, ...]]:
    oid = 20000 + int(made[1:])
    sql = f"CREATE {kind.upper().replace('-', ' ')} {name}"
    table, values = {
        "index": (
            "mz_indexes",
            (made, oid, name, "u0", cluster, "s1", sql, sql),
        ),
        "materialized-view": (
            "mz_materialized_views",
            (made, oid, "u1", name, cluster, "SELECT 1", "s1", "{}", sql, sql),
        ),
        "source": (
            "mz_sources",
            (made, oid, "u1", name, source, *[None] * 5, cluster, "s1", "{}", sql, sql),
        ),
        "sink": (
            "mz_sinks",
            (made, oid, "u1", name, source, *[None] * 6, cluster, "s1", sql, sql),
        ),
    }[kind]
    places = ", ".join(["%s"] * len(values))
    return f"INSERT INTO mz_catalog.{table} VALUES ({places})", values  # noqa: S608 - ours
