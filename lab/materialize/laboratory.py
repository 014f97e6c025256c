"""LabMaterialize: an environment on loopback, made to be watched, broken and asked about."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Self

import psycopg
from psycopg.types.json import Json

from lab.faults import Faults
from lab.materialize import catalog, schema
from lab.materialize.history import History
from lab.materialize.journal import Journal
from lab.materialize.postgres import SHARED, EmbeddedPostgres
from lab.materialize.server import Server
from lab.materialize.settings import SYSTEM
from lab.materialize.sizes import EMULATOR, Size

#: A second look at what is due even where nothing seems to be, in real seconds.
_AT_MOST_S = 1.0


class LabMaterialize:
    """An environment with the clusters a new one has: `quickstart` and Materialize's own.

    Clients connect to `url` and speak to it as to Materialize. `boot_s`, `hydrate_s` and
    `restart_s` are seconds of the lab's own time: until a replica is online, until what it must
    hold is hydrated on one worker (more workers are faster; down to a tenth), and from a crash
    until it is online again. `speed` is how many of them pass in a real second; 0 stands still.
    """

    def __init__(
        self,
        *,
        boot_s: float = 2.0,
        hydrate_s: float = 5.0,
        restart_s: float = 2.0,
        speed: float = 1.0,
        port: int = 0,
        version: str = SYSTEM["version"],
        sizes: Iterable[Size] = EMULATOR,
        statement_logging: bool = True,
        rbac: bool = False,
        newer: bool = False,
        keep: bool = True,
    ) -> None:
        """Describe the environment; `start` or `with` brings it up.

        `newer`: with the relations of servers of 2026's second half. `keep`: leave the PostgreSQL
        underneath running for the next lab of this process.
        """
        self._settings = {
            **SYSTEM,
            "boot_s": str(boot_s),
            "hydrate_s": str(hydrate_s),
            "restart_s": str(restart_s),
            "version": version,
            "rbac": "on" if rbac else "off",
        }
        self._sizes = list(sizes)
        self._speed = speed
        self._port = port
        self._logging = statement_logging
        self._newer = newer
        self._keep = keep
        self.journal = Journal()
        self._stop = threading.Event()
        self._due = threading.Event()
        self._lock = threading.RLock()
        self._heart: threading.Thread | None = None
        self._database = ""
        #: What is underneath; labs of one process share it.
        self.postgres: EmbeddedPostgres
        self._server: Server
        self._admin: psycopg.Connection

    # --- life -----------------------------------------------------------------------------

    def start(self) -> Self:
        """Serve; raises OSError where the port is taken."""
        self.postgres, self._database = postgres, _ = SHARED.acquire()
        try:
            self._admin = postgres.admin(self._database)
            self._furnish()
            self._server = Server(
                postgres, self._database, lambda: postgres.admin(self._database),
                version=self._settings["version"], journal=self.journal, on_change=self._due.set,
            )  # fmt: skip
            self._server.history.logging = self._logging
            self.create_user("materialize", superuser=True)
            self.create_user("mz_system", superuser=True)
            self._server.listen(self._port)
        except BaseException:
            SHARED.release(self._database, keep=self._keep)
            self._database = ""
            raise
        self._heart = threading.Thread(target=self._beat, name="lab-mz-clock", daemon=True)
        self._heart.start()
        return self

    def stop(self) -> None:
        """Close every socket and let the catalog go."""
        self._stop.set()
        self._due.set()
        if not self._database:
            return
        self._server.stop()
        if self._heart is not None:
            self._heart.join(5.0)
        self._admin.close()
        SHARED.release(self._database, keep=self._keep)
        self._database = ""

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _furnish(self) -> None:
        execute = self._admin.execute
        execute("INSERT INTO lab.clock VALUES (true, clock_timestamp(), clock_timestamp(), %s)",
                (self._speed,))  # fmt: skip
        for name, value in self._settings.items():
            execute("INSERT INTO lab.settings VALUES (%s, %s)", (name, value))
        for size in self._sizes:
            self._add_size(size)
        if self._newer:
            for name, spec in catalog.NEWER.items():
                execute(catalog.create(name, spec).encode())
                execute(f"GRANT SELECT ON {name} TO PUBLIC".encode())
        schema.populate(self._admin)

    def _beat(self) -> None:
        """Live through what falls due, when it does."""
        wait: float | None = 0.0
        while not self._stop.is_set():
            self._due.wait(_AT_MOST_S if wait is None else min(wait, _AT_MOST_S))
            self._due.clear()
            if self._stop.is_set():
                return
            wait = self._live()

    def _live(self) -> float | None:
        with self._lock:
            row = self._admin.execute("SELECT lab.live()").fetchone()
        return None if row is None or row[0] is None else float(row[0])

    # --- where it is ----------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """Return the URL that a client connects to, as the user `materialize`."""
        return self.url_for("materialize")

    def url_for(self, user: str, password: str | None = None) -> str:
        """Return the URL for another user."""
        secret = f":{password}" if password is not None else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/materialize"

    @property
    def faults(self) -> Faults:
        """Return the rules in force; `Fault.match` sees the statement as the client sent it."""
        return self._server.faults

    @property
    def history(self) -> History:
        """Return what writes the statement history."""
        return self._server.history

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return self._server.connections

    # --- asking ---------------------------------------------------------------------------

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

    # --- making ---------------------------------------------------------------------------

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

    def call(self, call: dict[str, Any], *, user: str = "mz_system") -> None:
        """Carry out a cluster statement given as the call that it becomes."""
        self.sql("SELECT lab.run(%s::jsonb, %s)", (Json(call), user))
        self._due.set()

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

    # --- the server's own settings --------------------------------------------------------

    def set_system(self, **settings: str | float) -> None:
        """Set limits: max_replicas_per_cluster, max_credit_consumption_rate, rbac, boot_s, ..."""
        unknown = settings.keys() - SYSTEM.keys()
        if unknown:
            raise KeyError(f"no setting {', '.join(sorted(unknown))}; known: {', '.join(SYSTEM)}")
        for name, value in settings.items():
            self.sql("UPDATE lab.settings SET value = %s WHERE name = %s", (str(value), name))

    @property
    def statement_logging(self) -> bool:
        """Return whether statements are written to the history."""
        return self._server.history.logging

    @statement_logging.setter
    def statement_logging(self, value: bool) -> None:
        self._server.history.logging = value

    def drop_relation(self, name: str) -> None:
        """Be a version that lacks this relation: `mz_internal.mz_hydration_statuses`."""
        kind = "VIEW" if self.sql(
            "SELECT 1 FROM pg_class WHERE oid = %s::regclass AND relkind = 'v'", (name,)
        ) else "TABLE"  # fmt: skip
        self.sql(f"ALTER {kind} {name} SET SCHEMA lab")

    def restore_relation(self, name: str) -> None:
        """Have a relation again that `drop_relation` took away."""
        where, _, plain = name.partition(".")
        kind = "VIEW" if self.sql(
            "SELECT 1 FROM pg_class WHERE oid = %s::regclass AND relkind = 'v'", (f"lab.{plain}",)
        ) else "TABLE"  # fmt: skip
        self.sql(f"ALTER {kind} lab.{plain} SET SCHEMA {where}")

    # --- the clock ------------------------------------------------------------------------

    def now(self) -> float:
        """Return the lab's time, seconds since the epoch; `now()` in a query is the same."""
        return float(self.sql("SELECT extract(epoch FROM lab.now())::float8")[0][0])

    @property
    def speed(self) -> float:
        """Return how many of the lab's seconds pass in a real one."""
        return float(self.sql("SELECT speed FROM lab.clock")[0][0])

    @speed.setter
    def speed(self, value: float) -> None:
        self.sql(
            "UPDATE lab.clock SET base = lab.now(), since = clock_timestamp(), speed = %s", (value,)
        )
        self._due.set()

    def advance(self, seconds: float) -> None:
        """Push the clock forward, and live through all that falls due on the way, in its order."""
        self.sql("UPDATE lab.clock SET base = base + lab.seconds(%s::float8)", (max(0.0, seconds),))
        self._live()

    # --- breaking -------------------------------------------------------------------------

    def oom(
        self,
        cluster: str | None = None,
        *,
        replica: str | None = None,
        size: str | None = None,
        after_s: float = 1.0,
        times: int | None = None,
        reason: str | None = "oom-killed",
        process: int = 0,
    ) -> None:
        """Let replicas be killed `after_s` after they come online, `times` each (None: always).

        They match by cluster, name and size, what is not given matching all. `reason` None is a
        crash that nobody can explain. Replicas that are online now are struck, too.
        """
        with self._lock:
            script = self.sql(
                "INSERT INTO lab.oom_scripts (cluster, replica, size, after_s, times, reason, "
                "process_id) VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
                (cluster, replica, size, after_s, times, reason, process),
            )[0][0]
            struck = self.sql(
                "SELECT r.id FROM mz_catalog.mz_cluster_replicas r JOIN lab.replicas l USING (id) "
                "JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id WHERE l.online_at IS "
                "NOT NULL AND c.name = coalesce(%s, c.name) AND r.name = coalesce(%s, r.name) "
                "AND r.size = coalesce(%s, r.size) AND r.id LIKE 'u%%'",
                (cluster, replica, size),
            )
            for (found,) in struck:
                self.sql("INSERT INTO lab.oom_counts VALUES (%s, %s, 1)", (script, found))
                self.sql(
                    "INSERT INTO lab.schedule (at, what, replica_id, object_id, process_id) "
                    "VALUES (lab.now() + lab.seconds(%s::float8), 'crash', %s, %s, %s)",
                    (after_s, found, reason, process),
                )
        self._due.set()

    def heal(self) -> None:
        """End every script of `oom`: what is down comes back and stays."""
        self.sql("DELETE FROM lab.oom_scripts")
        self.sql("DELETE FROM lab.schedule WHERE what = 'crash'")

    def crash_replica(
        self, cluster: str, replica: str, *, reason: str | None = "oom-killed", process: int = 0
    ) -> None:
        """Kill one process of a replica now; it comes back after `restart_s`."""
        self.sql(
            "SELECT lab.crashed(%s, %s, %s, lab.now())",
            (self.replica_id(cluster, replica), process, reason),
        )
        self._due.set()

    def load(
        self,
        cluster: str,
        *,
        cpu: float | None = None,
        memory: float | None = None,
        heap: float | None = None,
        disk: float | None = None,
    ) -> None:
        """Let the replicas of a cluster be so busy, in percent; it shows in metrics at once."""
        self.sql("DELETE FROM lab.loads WHERE cluster = %s", (cluster,))
        self.sql("INSERT INTO lab.loads VALUES (%s, %s, %s, %s, %s)",
                 (cluster, cpu, memory, heap, disk))  # fmt: skip
        self.sql(
            "SELECT lab.measure(r.id, lab.now()) FROM mz_catalog.mz_cluster_replicas r "
            "JOIN lab.replicas l USING (id) WHERE l.online_at IS NOT NULL AND r.cluster_id = %s",
            (self.cluster_id(cluster),),
        )

    def subscribe(self, cluster: str) -> str:
        """Let somebody hold a SUBSCRIBE on a cluster; return its id."""
        made = f"t{self.sql('SELECT lab.next_id(%s)', ('subscription',))[0][0]}"
        self.sql(
            "INSERT INTO mz_internal.mz_subscriptions VALUES "
            "(%s, gen_random_uuid(), %s, lab.now(), '{}')",
            (made, self.cluster_id(cluster)),
        )
        return made

    def unsubscribe(self, subscription: str) -> None:
        """End what `subscribe` began."""
        self.sql("DELETE FROM mz_internal.mz_subscriptions WHERE id = %s", (subscription,))

    def statement_ran(
        self,
        cluster: str,
        *,
        seconds_ago: float = 0.0,
        running: bool = False,
        application: str = "dashboard",
        status: str = "success",
    ) -> None:
        """Write one statement of somebody else's into the history, whether or not logging is on."""
        self.sql(
            "INSERT INTO mz_internal.mz_statement_execution_history VALUES "
            "(gen_random_uuid(), gen_random_uuid(), 1.0, %s, %s, %s, 'materialize', '{public}', "
            "'strict serializable', NULL, '1', NULL, lab.setting('version'), "
            "lab.now() - lab.seconds(%s::float8), CASE WHEN NOT %s THEN "
            "lab.now() - lab.seconds(%s::float8) END, CASE WHEN NOT %s THEN %s END, NULL, NULL, "
            "'standard')",
            (
                self.cluster_id(cluster), application, cluster, seconds_ago, running, seconds_ago,
                running, status,
            ),
        )  # fmt: skip

    def crash(self) -> None:
        """Be gone: nobody listens, every connection is reset; the replicas live on."""
        self._server.crash()

    def restart(self) -> None:
        """Come back after `crash`; what dropped replicas left behind is forgotten."""
        for relation in ("mz_hydration_statuses", "mz_compute_hydration_statuses"):
            gone = "replica_id NOT IN (SELECT id FROM mz_catalog.mz_cluster_replicas)"
            self.sql(f"DELETE FROM mz_internal.{relation} WHERE {gone}")  # noqa: S608 - ours
        self._server.come_back()


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
