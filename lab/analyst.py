"""`python -m lab.analyst --control URL --told FILE`: somebody whose clusters caretaker looks after.

Makes three clusters in the lab Materialize and writes down how each is to be kept. Then queries
one of them now and then, with a plain psycopg and without knowing of caretaker: the first query
after a pause finds it suspended and fails, as in Materialize, and is tried again until it is
answered. Each line of FILE is JSON: `made`, `ready`, `action`, `failed` or `answered`, and what
there is to say.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from lab.control import LabControl, LabUnreachableError
from lab.supervisor import interrupt_on_signals
from resources.sql.strategies import CREATE

#: Seconds without a query until the dashboards' cluster is suspended, in a hurry: people watch.
IDLE_AFTER_S = 30
_WORKS_FOR_S = 20.0
_QUERY_EVERY_S = 2.0
#: Works no longer than that: somebody may have switched the sensor off.
_GIVES_UP_AFTER_S = 300.0
#: How long a cluster has been suspended when its user is back: at first, later, and when nobody
#: looks any more.
_FIRST_AWAY_S, _AWAY_S, _LONG_AWAY_S = 6.0, 40.0, 300.0
_LIVELY_FOR_S = 1800.0
_LOOK_EVERY_S = 2.0
_TRY_AGAIN_AFTER_S = 1.0

QUERY = "SELECT count(*), sum(total) FROM orders"

DASHBOARDS_SIZE = NIGHTLY_SIZE = "50cc"

#: How each cluster is to be kept: rows of mz_cluster_strategies, by cluster.
STRATEGIES: dict[str, dict[str, dict[str, Any]]] = {
    "dashboards": {
        "target_size": {"target_size": DASHBOARDS_SIZE},
        "burst": {"burst_replica_size": "400cc"},
        "idle_suspend": {"idle_after_s": IDLE_AFTER_S},
    },
    "reports": {"shrink_to_fit": {"max_replica_size": "100cc"}},
    "nightly": {
        "target_size": {"target_size": NIGHTLY_SIZE},
        "idle_suspend": {"idle_after_s": 60},
    },
}

_SHOP = (
    "CREATE TABLE IF NOT EXISTS orders (id INT, total NUMERIC)",
    "INSERT INTO orders VALUES (1, 12.50), (2, 80.00), (3, 7.25)",
)
_ACTIONS = """
SELECT a.action_id, c.name, a.action_sql, a.decision_ctx, a.executed, a.error_message
FROM mz_cluster_strategy_actions a JOIN mz_catalog.mz_clusters c ON c.id = a.cluster_id
WHERE a.executed IS NOT NULL ORDER BY a.created_at
"""


def main() -> int:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m lab.analyst")
    parser.add_argument("--control", required=True, help="URL of the lab's control port")
    parser.add_argument("--told", type=Path, required=True)
    given = parser.parse_args()
    interrupt_on_signals()
    with contextlib.suppress(KeyboardInterrupt):
        _Analyst(os.environ["DATABASE_URL"], LabControl(given.control), given.told).work()
    return 0


@dataclass
class _Analyst:
    url: str
    lab: LabControl
    told: Path
    _began: float = field(default_factory=time.monotonic)
    _seen: set[str] = field(default_factory=set)
    _woken: bool = False

    def work(self) -> None:
        """Begin anew whenever the lab is gone: it comes back empty."""
        while True:
            try:
                with psycopg.connect(
                    self.url, autocommit=True, application_name="dashboard", connect_timeout=5
                ) as connection:
                    self._furnish(connection)
                    while True:
                        self._query(connection)
                        self._wait_for_the_suspension(connection)
            except (psycopg.Error, LabUnreachableError) as error:
                print(f"{type(error).__name__}: {error}", flush=True)
                time.sleep(_TRY_AGAIN_AFTER_S)

    def _furnish(self, connection: psycopg.Connection) -> None:
        """Make clusters that already work, and only then say how they are to be kept."""
        if "dashboards" not in self.lab.status()["clusters"]:
            for statement in _SHOP:
                connection.execute(statement.encode())
            self.lab.pull("cluster", name="dashboards", replicas={"old": "200cc"})
            self.lab.pull("object", kind="materialized-view", cluster="dashboards", name="revenue")
            self.lab.pull("cluster", name="reports", replicas={})
            self.lab.pull("object", kind="index", cluster="reports", name="orders_by_day")
            self.lab.pull("oom", cluster="reports", size="25cc", after_s=3)
            self.lab.pull("cluster", name="nightly", size="25cc", replication_factor=1)
        self._tell(made=", ".join(STRATEGIES))
        while not all(one["ready"] for one in self._cluster("dashboards")["replicas"]):
            time.sleep(_LOOK_EVERY_S)
        for statement in CREATE.values():
            connection.execute(statement.encode())
        if connection.execute("SELECT 1 FROM mz_cluster_strategies LIMIT 1").fetchone():
            return
        for cluster, rows in STRATEGIES.items():
            for strategy, config in rows.items():
                connection.execute(
                    "INSERT INTO mz_cluster_strategies (cluster_id, strategy_type, config) "
                    "VALUES (%s, %s, %s)",
                    (self._cluster(cluster)["id"], strategy, Jsonb(config)),
                )
        self._tell(ready=", ".join(STRATEGIES))

    def _cluster(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.status()["clusters"][name]
        return found

    def _wait_for_the_suspension(self, connection: psycopg.Connection) -> None:
        """Do nothing until the cluster has been suspended for a while."""
        since: float | None = None
        while True:
            self._look_at_the_actions(connection)
            now = time.monotonic()
            if self._cluster("dashboards")["replicas"]:
                since = None
            else:
                since = since or now
                lively = now - self._began < _LIVELY_FOR_S
                again = _AWAY_S if lively else _LONG_AWAY_S
                if now - since >= (again if self._woken else _FIRST_AWAY_S):
                    return
            time.sleep(_LOOK_EVERY_S)

    def _query(self, connection: psycopg.Connection) -> None:
        """Ask for the day's revenue until it is answered, then go on working with it."""
        connection.execute("SET cluster = dashboards")
        asked, failed = time.monotonic(), False
        while not isinstance(answer := self._answer(connection), str):
            if not failed:
                failed = True
                self._tell(failed=QUERY, error=f"{answer.sqlstate} {answer.diag.message_primary}")
            self._look_at_the_actions(connection)
            time.sleep(_TRY_AGAIN_AFTER_S)
        waited_s = time.monotonic() - asked
        if failed:
            self._woken = True
            self._look_at_the_actions(connection)
            self._tell_answer(answer, waited_s)
        self._work(connection)

    def _work(self, connection: psycopg.Connection) -> None:
        """Query until the clusters are what their strategies want: on a slow machine, too."""
        began = time.monotonic()
        while (worked_s := time.monotonic() - began) < _GIVES_UP_AFTER_S:
            nightly = self._cluster("nightly")
            if nightly["size"] != NIGHTLY_SIZE and nightly["replicas"]:
                connection.execute("SET cluster = nightly")
                connection.execute(QUERY.encode())
                connection.execute("SET cluster = dashboards")
            elif worked_s >= _WORKS_FOR_S and self._is_settled():
                return
            connection.execute(QUERY.encode())
            self._look_at_the_actions(connection)
            time.sleep(_QUERY_EVERY_S)

    def _is_settled(self) -> bool:
        """Whether only the replica of the target size is there, without what it replaces."""
        replicas = self._cluster("dashboards")["replicas"]
        return [(one["size"], one["ready"]) for one in replicas] == [(DASHBOARDS_SIZE, True)]

    def _tell_answer(self, answer: str, waited_s: float) -> None:
        replicas = ", ".join(
            f"{one['name']} ({one['size']})" for one in self._cluster("dashboards")["replicas"]
        )
        self._tell(answered=QUERY, answer=answer, waited_s=f"{waited_s:.0f}", replicas=replicas)

    @staticmethod
    def _answer(connection: psycopg.Connection) -> str | psycopg.Error:
        """Return what the query found, or the error of a cluster with nobody to answer it."""
        try:
            row = connection.execute(QUERY.encode()).fetchone()
        except psycopg.errors.FeatureNotSupported as error:
            return error
        return f"{row[0]} orders, {row[1]}" if row else "nothing"

    def _look_at_the_actions(self, connection: psycopg.Connection) -> None:
        """Tell what caretaker has done since this was last asked, from its own audit."""
        # Of another cluster than the one that may be suspended.
        connection.execute("SET cluster = quickstart")
        for action, cluster, sql, context, executed, error in connection.execute(_ACTIONS.encode()):
            if action not in self._seen:
                self._seen.add(action)
                self._tell(action=sql, id=action, cluster=cluster, context=context,
                           executed=executed, error=error)  # fmt: skip
        connection.execute("SET cluster = dashboards")

    def _tell(self, **what: Any) -> None:
        with self.told.open("a", encoding="utf-8") as told:
            told.write(f"{json.dumps(what)}\n")


if __name__ == "__main__":
    sys.exit(main())
