"""A lab Materialize, the strategy tables, and controllers that look after clusters."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from caretaker.strategies.cycle import Observed, Plan, plan
from caretaker.strategies.outcome import Outcome
from caretaker.strategies.policy import StrategiesPolicy
from lab.materialize import LabMaterialize
from ops.strategies_apply import Hands, apply, record
from ops.strategies_cycle import observe
from resources.clock import Clock
from resources.materialize.client import Materialize
from resources.materialize.resource import open_store
from resources.materialize.settings import DatabaseSettings
from resources.materialize.store import StrategyStore
from resources.sql.strategies import COLUMNS

APPLY = StrategiesPolicy.checked(mode="apply")
#: Statements of ours that change a cluster.
CHANGES = r"(?i)^(create|drop) cluster replica|^alter cluster"

_names = itertools.count(1)


class Quick(Clock):
    """A clock that does not sleep."""

    def __init__(self) -> None:
        super().__init__(sleep=lambda _: None)


@dataclass
class Cycle:
    """What one cycle saw, wanted and did."""

    observed: Observed
    planned: Plan
    outcome: Outcome


@dataclass
class Controller:
    """Somebody who looks after the clusters: a user, a lock of its own, runs one after another."""

    bench: Bench
    name: str = "here"
    user: str = "materialize"
    policy: StrategiesPolicy = APPLY
    timeout_s: float = 30.0
    fence: Callable[[], None] = lambda: None
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def opened(self) -> Iterator[tuple[Materialize, StrategyStore]]:
        """Give a connection and the tables."""
        url = self.bench.lab.url_for(self.user)
        with Materialize(DatabaseSettings.from_url(url, timeout_s=self.timeout_s)) as source:
            store = open_store(source, self.bench.store_url)
            try:
                yield source, store
            finally:
                store.close()

    def hands(self, source: Materialize, store: StrategyStore, run_id: str) -> Hands:
        return Hands(
            source,
            store,
            run_id=run_id,
            controller=self.name,
            clock=Quick(),
            fence=self.fence,
        )

    def look(self, source: Materialize, store: StrategyStore, run_id: str = "") -> Observed:
        return observe(
            source, store, self.policy, controller=self.name, run_id=run_id, clock=Quick()
        )

    def cycle(self) -> Cycle:
        """Observe, decide, apply and record, as a run does."""
        run_id = f"{self.name}-{next(self.runs)}"
        with self.opened() as (source, store):
            observed = self.look(source, store, run_id)
            planned = plan(observed, self.policy)
            hands = self.hands(source, store, run_id)
            outcome = record(apply(planned, observed, hands), planned, observed, hands)
        return Cycle(observed, planned, outcome)

    def dry_run(self) -> Cycle:
        """Look and decide, and change nothing."""
        with self.opened() as (source, store):
            policy = StrategiesPolicy.checked(mode="dry_run")
            observed = observe(source, store, policy, controller=self.name, clock=Quick())
            return Cycle(observed, plan(observed, policy), Outcome())


class Bench:
    """One lab; its strategy tables there, or in a PostgreSQL of its own."""

    def __init__(self, lab: LabMaterialize, *, elsewhere: bool = False) -> None:
        self.lab = lab
        self.store_url = ""
        if elsewhere:
            server = lab.postgres
            name = f"strategies_{next(_names)}"
            with server.admin("postgres") as admin:
                admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
            port = server.socket.rpartition(".")[2]
            folder = Path(server.socket).parent
            self.store_url = f"postgresql://postgres@/{name}?host={folder}&port={port}"
        with self.controller().opened() as (_, store):
            store.create()
        for table in COLUMNS:
            self.sql(f"GRANT ALL ON {table} TO PUBLIC")

    def controller(self, name: str = "here", **options: Any) -> Controller:
        return Controller(self, name, **options)

    # --- the tables -------------------------------------------------------------------------

    def sql(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        """Run a statement where the strategy tables are, past every rule of the lab's."""
        if not self.store_url:
            return self.lab.sql(statement, args)
        with psycopg.connect(self.store_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    def strategy(self, cluster: str, kind: str, **config: Any) -> None:
        """Write a row of mz_cluster_strategies."""
        self.raw_strategy(self.lab.cluster_id(cluster), kind, json.dumps(config))

    def raw_strategy(self, cluster_id: str, kind: str, config: str | None) -> None:
        self.sql(
            "INSERT INTO mz_cluster_strategies VALUES (%s, %s, %s::jsonb, now())",
            cluster_id, kind, config,
        )  # fmt: skip

    def audit(self) -> list[tuple[str, bool | None, str | None]]:
        """Return (statement, executed, error) in the order in which they were tried."""
        rows = self.sql(
            "SELECT action_sql, executed, error_message FROM mz_cluster_strategy_actions"
            " ORDER BY created_at, action_id"
        )
        return [(text, executed, error) for text, executed, error in rows]

    def state(self, cluster: str) -> dict[str, Any]:
        """Return what the strategies of a cluster remember: the newest row of each."""
        rows = self.sql(
            "SELECT strategy_type, payload FROM mz_cluster_strategy_state WHERE cluster_id = %s"
            " ORDER BY updated_at",
            self.lab.cluster_id(cluster),
        )
        return dict(rows)

    # --- what really happened ---------------------------------------------------------------

    def done(self) -> Counter[str]:
        """Return the changes that Materialize made at our word, by statement."""
        return Counter(
            entry.stmt
            for entry in self.lab.journal
            if entry.applied
            and entry.application == "caretaker"
            and entry.stmt.startswith(("CREATE CLUSTER", "DROP CLUSTER", "ALTER CLUSTER"))
        )

    def said(self) -> Counter[str]:
        """Return the changes that the audit says were made."""
        return Counter(text for text, executed, _ in self.audit() if executed)

    def pass_(self, seconds: float = 60.0) -> None:
        """Let time go by."""
        self.lab.advance(seconds)


def settle(bench: Bench, controller: Controller, *, cycles: int = 8) -> int:
    """Run cycles until one has nothing to do, time going by in between; return how many."""
    for number in range(cycles):
        cycle = controller.cycle()
        if not list(cycle.planned.actions()) and not cycle.outcome.remembered:
            return number
        bench.pass_()
    raise AssertionError(f"not settled after {cycles} cycles: {bench.audit()}")
