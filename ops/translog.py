"""The translog jobs' steps, thin: each hands its table to `ops.reset` and returns the journey."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

from caretaker.errors import UnsafeError
from caretaker.translog.detect import Finding
from caretaker.translog.model import Target, partition_text, target_key
from caretaker.translog.outcome import ResetOutcome, ResetResult, exit_code, summarise
from ops.errors import step_errors
from ops.events import Event, emit
from ops.hands import Hands
from ops.logbook import Journey, result_of_finding, without_copies
from ops.owners import death_seen_from
from ops.preflight import why_not_to_begin
from ops.reset import Reset
from ops.translog_config import TranslogResetConfig
from ops.translog_look import judge
from ops.translog_metadata import outcomes_metadata, why_it_failed
from ops.translog_plans import planned_statements
from ops.translog_run import Ground, RunReport, hands, publish
from resources.clock import utc_now
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.retries import connecting, retrying
from resources.state_store.resource import StateStoreResource


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
        tables = retrying(with_hands.crate.observe_tables, sleep=with_hands.guard.pause)
        look = judge(
            ground.cluster_id,
            ground.cluster_name,
            tables,
            with_hands.store,
            ground.policy,
            utc_now(),
        )
        selection = look.selection
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
    publish(context, report, state)
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
        text + why_it_failed(report.results),
        metadata={**outcomes_metadata(report.results), "exit_code": report.exit_code},
        allow_retries=False,
    )


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
