"""Publishing what a run saw, wanted and did: the assets of the wing, and their checks."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from caretaker.errors import CaretakerError
from caretaker.strategies.cycle import ClusterPlan, Observed, Plan
from ops.events import Event, emit
from ops.logs import LEVEL_VARIABLE, LEVELS
from ops.strategies_metadata import (
    ACTIONS,
    CONFIGS_ARE_VALID,
    CREDITS_UNDER_BUDGET,
    DAY,
    DESIRED,
    NO_FLAPPING,
    SIGNALS,
    Done,
    actions_metadata,
    budget_check,
    configs_check,
    desired_metadata,
    flapping_check,
    signals_metadata,
)
from ops.strategies_pictures import DRAWN_BACK, Life
from resources.materialize.client import Materialize
from resources.materialize.resource import MaterializeResource
from resources.materialize.store import ActionRow, StrategyStore
from resources.materialize.types import aware

#: Rows of the audit that are looked through.
MOST_ACTIONS = 10_000


@dataclass(frozen=True)
class History:
    """What was done in the last day, newest first, and which replicas there were."""

    done: list[Done]
    lives: list[Life]
    now: datetime

    @classmethod
    def read(cls, source: Materialize, store: StrategyStore, names: Mapping[str, str]) -> History:
        """Ask the audit and Materialize; `names` are the clusters' by id.

        A version without the history of replicas leaves the picture empty.
        """
        now = source.identity().now
        done = [_done(row, names, now) for row in store.recent(now - DAY, MOST_ACTIONS)]
        try:
            rows = source.lives(now - DRAWN_BACK)
        except CaretakerError:
            rows = []
        return cls(done, [life for row in rows if (life := _life(row))], now)

    def metadata(self) -> dict[str, Any]:
        """Return what `cluster_actions` shows."""
        return actions_metadata(self.done, self.lives, self.now)

    def check(self) -> dict[str, Any]:
        """Return what `no_flapping` says."""
        return flapping_check(self.done, self.now)


def publish(
    context: dg.OpExecutionContext,
    materialize: MaterializeResource,
    observed: Observed,
    planned: Plan,
    *,
    acted: bool,
) -> None:
    """Publish a cycle: what it saw and wanted, and where it acted what was done lately.

    Behind everything else, the lock let go of: drawing takes a second.
    """
    publish_look(context, observed, planned)
    if not acted:
        return
    try:
        with materialize.open() as source:
            store = materialize.store(source)
            try:
                publish_actions(context, source, store, observed)
            finally:
                store.close()
    except CaretakerError as error:
        # What was done is done, and in the audit.
        reason = f"cluster_actions is not published: {error}"
        emit(context, Event("note", None, {"reason": reason}, level=logging.WARNING))


def publish_look(context: dg.OpExecutionContext, observed: Observed, planned: Plan) -> None:
    """Show what is and what is wanted, with the checks of both."""
    _log(context, dg.AssetMaterialization(SIGNALS, metadata=signals_metadata(observed)))
    _log(context, dg.AssetMaterialization(DESIRED, metadata=desired_metadata(planned)))
    configs, budget = configs_check(planned), budget_check(planned)
    _log(context, dg.AssetCheckEvaluation(DESIRED, CONFIGS_ARE_VALID, **configs))
    _log(context, dg.AssetCheckEvaluation(DESIRED, CREDITS_UNDER_BUDGET, **budget))


def tell_cases(context: dg.OpExecutionContext, decided: Iterable[ClusterPlan]) -> None:
    """Say from what each cluster was judged, letter by letter, to those who ask for -vv.

    Only to them: it would all be kept with the run.
    """
    if os.environ.get(LEVEL_VARIABLE) != LEVELS[-1]:
        return
    for one in decided:
        case = json.dumps(one.case, ensure_ascii=False)
        fields = {"cluster": one.name, "case_hash": one.hash, "reason": f"{one.name}: {case}"}
        emit(context, Event("case", None, fields, logging.DEBUG))


def publish_actions(
    context: dg.OpExecutionContext,
    source: Materialize,
    store: StrategyStore,
    observed: Observed,
) -> None:
    """Show what was done lately."""
    names = {one["id"]: one["name"] for one in observed.clusters}
    history = History.read(source, store, names)
    _log(context, dg.AssetMaterialization(ACTIONS, metadata=history.metadata()))
    _log(context, dg.AssetCheckEvaluation(ACTIONS, NO_FLAPPING, **history.check()))


def _log(context: dg.OpExecutionContext, event: Any) -> None:
    # Evaluations of checks are not in log_event's annotation, but taken by it.
    log_event: Callable[[Any], None] = context.log_event
    log_event(event)


def _done(row: ActionRow, names: Mapping[str, str], now: datetime) -> Done:
    reasons = row.context.get("reasons")
    delta = row.context.get("credits_delta")
    return Done(
        cluster=names.get(row.cluster_id, row.cluster_id),
        sql=row.sql,
        strategy=str(row.context.get("strategy") or "unknown"),
        reason="; ".join(map(str, reasons)) if isinstance(reasons, list) else "",
        credits_delta=float(delta) if isinstance(delta, int | float) else None,
        executed=row.executed,
        error=row.error or None,
        at=(row.created_at or now).astimezone(UTC),
    )


def _life(row: tuple[Any, ...]) -> Life | None:
    cluster, replica, size, created_at, dropped_at, price = row
    created = aware(created_at)
    if created is None:
        return None
    dropped = aware(dropped_at)
    return Life(
        cluster=str(cluster),
        replica=str(replica),
        size=str(size),
        created_at=created.astimezone(UTC),
        dropped_at=None if dropped is None else dropped.astimezone(UTC),
        credits_per_hour=None if price is None else float(price),
    )
