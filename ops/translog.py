"""The translog jobs' steps, thin: each hands its table to `ops.reset` and returns the journey."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import dagster as dg

from caretaker.errors import CaretakerError, FencedError, UnsafeError
from caretaker.translog.detect import Finding, History, find_oversized, select
from caretaker.translog.model import (
    Owner,
    ResetState,
    ResetTicket,
    Target,
    partition_text,
    target_key,
)
from caretaker.translog.outcome import ResetOutcome, ResetResult, exit_code, summarise
from caretaker.translog.policy import ResetPolicy
from ops.errors import step_errors
from ops.events import Event, emit
from ops.guard import heartbeat
from ops.hands import Hands
from ops.logbook import Journey, result_of_finding, without_copies
from ops.owners import death_seen_from, owner_of
from ops.preflight import why_not_to_begin
from ops.reset import Reset
from ops.translog_config import TranslogResetConfig, TranslogRestoreConfig
from ops.translog_history import REPLICAS_ARE_BACK, RESETS, ResetHistory
from ops.translog_metadata import outcomes_metadata
from ops.translog_plans import planned_statements
from resources.clock import Clock, utc_now
from resources.cratedb import CrateDBResource
from resources.cratedb_retries import connecting, retrying
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
    owner = owner_of(context.run_id, a_process_each=policy.concurrent > 1)
    with cratedb.client() as crate, heartbeat(state.store, context.run_id, clock) as guard:
        yield Hands(crate, state.store, clock, guard, owner, lambda event: emit(context, event))


@dg.op(tags={"kind": "cratedb"}, description="Refuse to begin unless the cluster can bear it.")
def preflight(
    context: dg.OpExecutionContext,
    config: TranslogResetConfig,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Ground:
    """Check the settings, the cluster and the store; take the cluster's lock."""
    with step_errors():
        policy = config.policy()
        with hands(context, cratedb, state, policy) as with_hands:
            connected = connecting(with_hands.crate.connect, sleep=with_hands.guard.pause)
            for host, reason in connected.unreachable.items():
                with_hands.say(None, "note", reason=f"{host} does not answer: {reason}")
            ground = Ground(connected.cluster_id, connected.cluster_name, policy, config.dry_run)
            try:
                _refuse_where_unsafe(context, with_hands, ground)
            except UnsafeError as error:
                with_hands.say(None, "preflight_refused", reason=str(error))
                raise
        return ground


def _refuse_where_unsafe(context: dg.OpExecutionContext, with_hands: Hands, ground: Ground) -> None:
    reasons = why_not_to_begin(with_hands, ground.cluster_id, ground.policy)
    if reasons:
        raise UnsafeError("; ".join(reasons), target=ground.cluster_name)
    if not ground.dry_run:
        with_hands.store.acquire_lock(
            ground.cluster_id,
            with_hands.owner,
            purpose="translog_reset",
            is_dead=death_seen_from(context.instance),
        )


@dg.op(
    out={"journeys": dg.DynamicOut(Journey), "left": dg.Out(list)},
    tags={"kind": "cratedb"},
    description="Find the tables whose replicas hold too much translog, worst first.",
)
def detect(
    context: dg.OpExecutionContext,
    ground: Ground,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Iterator[dg.DynamicOutput[Journey] | dg.Output[list[ResetResult]]]:
    """Yield a journey for each table to reset, and a result for each that is left alone."""
    with step_errors(), hands(context, cratedb, state, ground.policy) as with_hands:
        findings = find_oversized(retrying(with_hands.crate.observe_tables))
        history = {
            key: History(*attempts)
            for key, attempts in with_hands.store.last_attempts(ground.cluster_id).items()
        }
        held = {target_key(t.target) for t in with_hands.store.open_tickets(ground.cluster_id)}
        selection = select(findings, ground.policy, now=utc_now(), history=history, held=held)
        left = [_skipped(finding, reason) for finding, reason in selection.skipped]
        if ground.dry_run:
            left += [_planned(finding, ground) for finding in selection.chosen]
        for result in left:
            tell_left(context, result)
        yield dg.Output(left, "left")
        for finding in () if ground.dry_run else selection.chosen:
            slim = without_copies(finding)
            yield dg.DynamicOutput(
                Journey(ground.cluster_id, finding.target, ground.policy, slim),
                mapping_key=mapping_key(finding.target),
                output_name="journeys",
            )


@dg.op(tags={"kind": "cratedb", "dagster/priority": "1"})
def remember(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Write the ticket: the table's own number_of_replicas, durable before anything is changed."""
    with hands(context, cratedb, state, journey.policy) as with_hands:
        return Reset(with_hands, journey).remember()


@dg.op(tags={"kind": "cratedb", "dagster/priority": "2"})
def drain(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Set the replicas to 0, see it, and ask for the retention leases to be synced."""
    with hands(context, cratedb, state, journey.policy) as with_hands:
        return Reset(with_hands, journey).drain()


@dg.op(tags={"kind": "cratedb", "dagster/priority": "3"})
def await_leases(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Wait until the primaries hold no lease for the copies that are gone."""
    with hands(context, cratedb, state, journey.policy) as with_hands:
        return Reset(with_hands, journey).await_leases()


@dg.op(tags={"kind": "cratedb", "dagster/priority": "4"})
def restore(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Give the table back the exact number_of_replicas it had."""
    with hands(context, cratedb, state, journey.policy) as with_hands:
        return Reset(with_hands, journey).restore()


@dg.op(tags={"kind": "cratedb", "dagster/priority": "5"})
def verify(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """See the replicas started and small again, and close the ticket."""
    with hands(context, cratedb, state, journey.policy) as with_hands:
        return Reset(with_hands, journey).verify()


@dg.op(description="Publish what became of every table, and let go of the cluster.")
def record_resets(
    context: dg.OpExecutionContext,
    ground: Ground,
    journeys: list[Journey],
    left: list[ResetResult],
    state: StateStoreResource,
) -> RunReport:
    """Collect the outcomes, materialise `translog_resets` where something was attempted."""
    results = (*(journey.result for journey in journeys if journey.result), *left)
    if not ground.dry_run:
        with step_errors():
            state.store.release_lock(ground.cluster_id, context.run_id)
    report = RunReport(ground.cluster_id, results, exit_code(results), dry_run=ground.dry_run)
    _publish(context, report, state)
    return report


@dg.op(description="Fail the run if a table was not reset or not restored.")
def conclude(report: RunReport) -> None:
    """Judge the run: the only step after the first ticket that may fail it."""
    if report.exit_code == 0:
        return
    counts = summarise(report.results)
    text = (
        f"{counts.completed} of {counts.attempted} attempted tables completed, "
        f"{counts.failed} failed, {counts.not_restored} not restored"
    )
    undone = sum(result.left_undone for result in report.results)
    if undone:
        text += f", {undone} left undone"
    raise dg.Failure(
        text,
        metadata={**outcomes_metadata(report.results), "exit_code": report.exit_code},
        allow_retries=False,
    )


@dg.op(
    out=dg.DynamicOut(Journey),
    description="Find open tickets whose run is dead, or those that were asked for.",
)
def find_tickets(
    context: dg.OpExecutionContext,
    config: TranslogRestoreConfig,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Iterator[dg.DynamicOutput[Journey]]:
    """Yield a journey for each ticket of this cluster that is to be honoured now."""
    with step_errors():
        policy = config.policy()
        with hands(context, cratedb, state, policy) as with_hands:
            connected = connecting(with_hands.crate.connect, sleep=with_hands.guard.pause)
            seen_dead = death_seen_from(context.instance)
            for ticket in _tickets_to_honour(with_hands, config, connected.cluster_id, seen_dead):
                yield dg.DynamicOutput(
                    Journey(ticket.cluster_id, ticket.target, policy, ticket=ticket),
                    mapping_key=f"ticket_{ticket.id}",
                )


def _tickets_to_honour(
    with_hands: Hands,
    config: TranslogRestoreConfig,
    cluster_id: str,
    seen_dead: Callable[[Owner, datetime | None], bool],
) -> list[ResetTicket]:
    chosen = []
    wanted = config.ticket_ids
    for ticket in with_hands.store.open_tickets(cluster_id):
        if wanted is not None and ticket.id not in wanted:
            continue
        # A ticket that waits for a human has no owner at work, however alive its process is. FAILED
        # alone does not say so: a run that closes its ticket passes through it.
        abandoned = ticket.state is ResetState.FAILED and ticket.next_try_at is not None
        if abandoned or seen_dead(ticket.owner, ticket.heartbeat_at):
            chosen.append(ticket)
        elif wanted is not None:
            raise UnsafeError(
                f"ticket {ticket.id} of {ticket.target} belongs to run {ticket.owner.run_id}, "
                "which is alive and will restore it itself",
                target=ticket.target,
            )
    return chosen


@dg.op(tags={"kind": "cratedb", "dagster/priority": "1"})
def take_over(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Make a dead run's ticket ours: from here on the old owner's statements are refused."""
    ticket = journey.ticket
    if ticket is None:
        return journey
    with hands(context, cratedb, state, journey.policy) as with_hands:
        try:
            taken = with_hands.store.take_over(ticket, with_hands.owner)
        except FencedError as error:
            result = ResetResult(ticket.target, ticket.state, ResetOutcome.SKIPPED, str(error))
            return replace(journey, result=result)
        reason = f"run {ticket.owner.run_id} died in {ticket.state.value}"
        with_hands.say(ticket.target, "note", reason=f"taking over: {reason}")
        if not taken.reason:
            taken = with_hands.store.advance(taken, reason=reason)
        return replace(journey, ticket=taken)


@dg.op(description="Publish what became of the tickets that were taken over.")
def record_restores(
    context: dg.OpExecutionContext, journeys: list[Journey], state: StateStoreResource
) -> RunReport:
    """Collect the outcomes; a table that has its replicas back is what this run was for."""
    results = tuple(journey.result for journey in journeys if journey.result)
    failed = any(result.outcome is ResetOutcome.NOT_RESTORED for result in results)
    report = RunReport("", results, 4 if failed else 0)
    _publish(context, report, state)
    return report


def _publish(context: dg.OpExecutionContext, report: RunReport, state: StateStoreResource) -> None:
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
    shown = {**history.metadata(), **metadata}
    context.log_event(dg.AssetMaterialization(RESETS, metadata=shown))
    # Not in log_event's annotation, but taken by it, so that the alert is as fresh as the run.
    verdict = dg.AssetCheckEvaluation(RESETS, REPLICAS_ARE_BACK, **history.check())
    context.log_event(verdict)  # type: ignore[arg-type]


def _skipped(finding: Finding, reason: str) -> ResetResult:
    return replace(result_of_finding(finding), outcome=ResetOutcome.SKIPPED, reason=reason)


def _planned(finding: Finding, ground: Ground) -> ResetResult:
    """Return what a reset would send, in order."""
    policy = ground.policy
    statements = planned_statements(
        finding, ground.cluster_id, nudge=policy.nudge, remedy=policy.remedy
    )
    return replace(result_of_finding(finding), statements=statements)


def tell_left(context: dg.OpExecutionContext, result: ResetResult) -> None:
    """Say why a table is left alone, or in a dry run what would be sent."""
    if result.outcome is ResetOutcome.SKIPPED:
        fields = {"outcome": "SKIPPED", "reason": result.reason, "state": result.state.value}
        emit(context, Event("outcome", result.target, fields))
    for statement in result.statements:
        emit(
            context,
            Event("note", result.target, {"sql": statement, "reason": f"would run {statement}"}),
        )


def mapping_key(target: Target) -> str:
    """Return a step suffix that a person recognises and that no two targets share."""
    name = f"{target.table}_{partition_text(target)}"
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60]
    digest = hashlib.sha256(repr(target_key(target)).encode()).hexdigest()[:8]
    return f"{readable}_{digest}" if readable else digest
