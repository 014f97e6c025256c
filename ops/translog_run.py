"""What the steps of the translog jobs share: their ground, their hands and their report."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg

from caretaker.errors import CaretakerError
from caretaker.translog.outcome import ResetResult
from caretaker.translog.policy import ResetPolicy
from ops.events import Event, emit
from ops.guard import heartbeat, supervised
from ops.hands import Hands
from ops.owners import owner_of
from ops.stops import stopped_before
from ops.translog_history import REPLICAS_ARE_BACK, RESETS, ResetHistory
from ops.translog_metadata import outcomes_metadata
from resources.clock import Clock, utc_now
from resources.cratedb.resource import CrateDBResource
from resources.state_store.resource import StateStoreResource


@dataclass(frozen=True)
class Ground:
    """What the first step established for the others."""

    cluster_id: str
    cluster_name: str
    policy: ResetPolicy
    dry_run: bool = False


@dataclass(frozen=True)
class RunReport:
    """What a run did, table by table, and what a script is told."""

    cluster_id: str
    results: tuple[ResetResult, ...]
    exit_code: int
    dry_run: bool = False


@contextmanager
def hands(
    context: dg.OpExecutionContext,
    cratedb: CrateDBResource,
    state: StateStoreResource,
    policy: ResetPolicy,
) -> Iterator[Hands]:
    """Give a step its clients, its owner record and its voice, its heart beating meanwhile."""
    clock = Clock()
    a_process_each = policy.concurrent > 1
    owner = owner_of(context.run_id, a_process_each=a_process_each)
    beating = heartbeat(
        state.store, context.run_id, clock, watch_parent=supervised(context.run_tags)
    )
    with cratedb.client() as crate, beating as guard:
        guard.told_before = a_process_each and stopped_before(context.instance, context.run_id)
        yield Hands(crate, state.store, clock, guard, owner, lambda event: emit(context, event))


def publish(context: dg.OpExecutionContext, report: RunReport, state: StateStoreResource) -> None:
    """Show the run its own outcomes, and the asset those of the last weeks with them."""
    metadata = outcomes_metadata(report.results)
    context.add_output_metadata({**metadata, "exit_code": report.exit_code})
    if not any(result.attempted for result in report.results):
        return
    try:
        history = ResetHistory.read(state.store, utc_now())
    except CaretakerError as error:
        # What the run did is told all the same; `conclude` must get its report.
        reason = f"translog_resets is published without its history: {error}"
        emit(context, Event("note", None, {"reason": reason}, level=logging.WARNING))
        context.log_event(dg.AssetMaterialization(RESETS, metadata=metadata))
        return
    context.log_event(dg.AssetMaterialization(RESETS, metadata=history.metadata()))
    # Not in log_event's annotation, but taken by it, so that the alert is as fresh as the run.
    verdict = dg.AssetCheckEvaluation(RESETS, REPLICAS_ARE_BACK, **history.check())
    context.log_event(verdict)  # type: ignore[arg-type]
