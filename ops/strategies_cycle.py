"""A cycle without Dagster: observe, plan, apply, record; and forgetting what was remembered.

With `source = resource.open()`, `store = resource.store(source)`, a policy and `Hands`:
`observed = observe(source, store, policy)`, `planned = plan(observed, policy)`,
`outcome = record(apply(planned, observed, hands), planned, observed, hands)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caretaker.strategies.cycle import Observed, Plan, plan, usable_sizes
from caretaker.strategies.policy import StrategiesPolicy
from caretaker.strategies.signals import lookback_s
from ops.strategies_apply import Hands, apply, record
from ops.strategies_settling import Settler
from resources.clock import Clock
from resources.materialize.client import Identity, Materialize
from resources.materialize.look import Looker
from resources.materialize.store import Stored, StrategyStore

__all__ = ["Hands", "Observed", "Plan", "Wiped", "apply", "observe", "plan", "record", "wipe"]

_IDLE_SUSPEND = "idle_suspend"


@dataclass(frozen=True, slots=True)
class Wiped:
    """What was forgotten.

    Attributes:
        clusters: Names of those it was limited to, of which anything was remembered; None for all.
        recreated: Tables that were made anew.
    """

    rows: int
    clusters: list[str] | None
    recreated: list[str]


def observe(
    source: Materialize,
    store: StrategyStore,
    policy: StrategiesPolicy,
    *,
    controller: str = "",
    run_id: str = "",
    clock: Clock | None = None,
    identity: Identity | None = None,
) -> Observed:
    """Return everything that the decisions of a cycle depend on.

    With a policy to apply, the tables are made where they are not there, and what an earlier run
    did not live to write down is written now: call it with the lock held. Without, nothing is
    written. The number of statements does not depend on the number of clusters.

    Args:
        source: Materialize.
        store: The strategy tables.
        policy: What is allowed.
        controller: Who we are beside other controllers: the name of the store with our lock.
        run_id: For the audit.
        clock: Waits for the statement history to be written, where it must be.
        identity: As `source.identity()` said; asked for where None.
    """
    who = identity or source.identity()
    if policy.apply:
        store.create()
    stored = store.read()
    look = Looker(
        source,
        now=who.now,
        crash_lookback_s=policy.crash_lookback_s,
        activity_lookback_s=lookback_s(_idle_configs(stored)),
        sleep=(clock or Clock()).sleep,
    ).look(wait_for_history=bool(_idle_configs(stored)))
    observed = Observed(
        now=who.now.isoformat(),
        version=who.version,
        environment=who.environment,
        role=who.role,
        serving=source.session_cluster() if store.in_materialize else None,
        sizes=usable_sizes(look.sizes, policy.replica_sizes),
        clusters=look.clusters,
        signals=look.signals,
        strategies=stored.strategies,
        state=stored.state,
        written_at=_newest(stored),
        warnings=[*stored.warnings, *look.warnings],
    )
    Settler(store, observed, stored, controller=controller, run_id=run_id).settle(
        write=policy.apply
    )
    return observed


def wipe(
    source: Materialize, store: StrategyStore, policy: StrategiesPolicy, *, recreate: bool = False
) -> Wiped:
    """Forget what the strategies remember, of the clusters that the policy concerns.

    `recreate`: drop and make again the tables that the controller itself keeps, whatever their
    shape; for all clusters only. In a dry run nothing is forgotten.
    """
    if recreate:
        made = store.recreate() if policy.apply else []
        return Wiped(0, None, made)
    names: list[str] | None = None
    ids: list[str] | None = None
    if policy.apply:
        store.create()
    stored = store.read()
    if policy.cluster:
        concerned = _concerned(source, stored, policy)
        names, ids = [name for _, name in concerned], [one for one, _ in concerned]
    kept = stored.state if ids is None else {one: stored.state.get(one, {}) for one in ids}
    rows = sum(len(entries) for entries in kept.values())
    if policy.apply and (ids is None or ids):
        rows = store.wipe(ids)
    return Wiped(rows, names, [])


def _concerned(
    source: Materialize, stored: Stored, policy: StrategiesPolicy
) -> Sequence[tuple[str, str]]:
    """Return id and name of clusters that remember something; what is gone has only its id."""
    names = source.cluster_names()
    remembering = {*stored.state, *(one.cluster_id for one in stored.open_actions)}
    named = [(one, names.get(one, one)) for one in sorted(remembering)]
    return [(one, name) for one, name in named if policy.concerns(name)]


def _idle_configs(stored: Stored) -> Sequence[object]:
    return [
        row["config"]
        for rows in stored.strategies.values()
        for row in rows
        if row["type"] == _IDLE_SUSPEND
    ]


def _newest(stored: Stored) -> str | None:
    return max(stored.written_at.values()).isoformat() if stored.written_at else None
