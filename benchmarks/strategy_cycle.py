"""What a whole cycle costs over a fleet: statements, and our own processor seconds.

Materialize is the lab's, in a process of its own, so that the seconds are ours alone. Of every
twenty clusters one has something to do.
"""

from __future__ import annotations

import json
import time

import psycopg

from caretaker.strategies.cycle import Observed, Plan, plan
from caretaker.strategies.policy import StrategiesPolicy
from lab.materialize.process import MaterializeProcess
from ops.strategies_apply import Hands, apply, record
from ops.strategies_cycle import observe
from resources.materialize.client import Materialize
from resources.materialize.resource import open_store
from resources.materialize.settings import DatabaseSettings
from resources.materialize.store import StrategyStore

Figures = dict[str, float | None]

BUSY_EVERY = 20
_READY_WITHIN_S = 300


def run(clusters: int) -> Figures:
    """Return what a cycle costs over a tenth of the clusters, and over all of them."""
    with MaterializeProcess("--boot-s", "0.01", "--hydrate-s", "0.01",
                            ready_within_s=_READY_WITHIN_S) as lab:  # fmt: skip
        lab.control.pull("system", max_clusters=clusters + 100)
        settings = DatabaseSettings.from_url(lab.connection_string, timeout_s=120.0)
        few = clusters // 10
        _make(lab, 0, few)
        with Materialize(settings) as source:
            store = open_store(source)
            store.create()
            _configure(lab)
            of_few = _look(source, store)[0]
            _make(lab, few, clusters)
            _configure(lab)
            statements, seconds, observed, planned = _look(source, store)
            began, sent = time.process_time(), source.session.sent
            hands = Hands(source, store, run_id="benchmark", controller="benchmark")
            outcome = record(apply(planned, observed, hands), planned, observed, hands)
            executed = outcome.count("executed")
            assert executed == len(list(planned.actions())) > 0
            return {
                "statements_to_look": float(statements),
                "statements_to_look_at_a_tenth": float(of_few),
                "cpu_seconds_to_look_and_decide": seconds,
                "actions": float(executed),
                "statements_an_action": (source.session.sent - sent) / executed,
                "cpu_seconds_an_action": (time.process_time() - began) / executed,
            }


def _make(lab: MaterializeProcess, first: int, last: int) -> None:
    for number in range(first, last):
        lab.control.pull("cluster", name=f"cluster_{number}", replicas={"r1": "25cc"})


def _configure(lab: MaterializeProcess) -> None:
    """Write two strategies a cluster; what one in twenty of them has is not what they want."""
    with psycopg.connect(lab.connection_string, autocommit=True) as connection:
        connection.execute("DELETE FROM mz_cluster_strategies")
        rows = connection.execute(
            "SELECT id, name FROM mz_catalog.mz_clusters WHERE name LIKE 'cluster_%'"
        ).fetchall()
        values: list[str] = []
        for cluster, name in rows:
            busy = int(name.rpartition("_")[2]) % BUSY_EVERY == 0
            size = "50cc" if busy else "25cc"
            values += [cluster, "target_size", json.dumps({"target_size": size})]
            values += [cluster, "idle_suspend", json.dumps({"idle_after_s": 86400})]
        for begin in range(0, len(values), 3000):
            some = values[begin : begin + 3000]
            rows_of = ", ".join(["(%s, %s, %s::jsonb, now())"] * (len(some) // 3))
            insert = f"INSERT INTO mz_cluster_strategies VALUES {rows_of}"  # noqa: S608 - places
            connection.execute(insert.encode(), some)


def _look(source: Materialize, store: StrategyStore) -> tuple[int, float, Observed, Plan]:
    policy = StrategiesPolicy.checked(mode="apply")
    began, sent = time.process_time(), source.session.sent
    observed = observe(source, store, policy, controller="benchmark")
    planned = plan(observed, policy)
    return source.session.sent - sent, time.process_time() - began, observed, planned
