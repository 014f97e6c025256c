"""Breaking what a lab Materialize has: replicas that crash, load, other people, the server."""

from __future__ import annotations

from lab.materialize.ground import Ground


class Breaking(Ground):
    """Lets things happen to clusters, and to the server itself."""

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
