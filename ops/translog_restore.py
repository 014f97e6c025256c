"""Steps that honour the tickets of dead runs: find them, take them over, tell how it went.

Restoring and verifying are the very steps of a reset, in `ops.translog`.
"""

# No postponed annotations here: Dagster reads those of an op as they stand.
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

import dagster as dg

from caretaker.errors import FencedError, RefusedError, UnsafeError
from caretaker.translog.model import Owner, ResetTicket
from caretaker.translog.outcome import ResetOutcome, ResetResult
from ops.errors import step_errors
from ops.hands import Hands
from ops.logbook import Journey
from ops.owners import death_seen_from
from ops.translog_config import TranslogRestoreConfig
from ops.translog_run import RunReport, hands, publish
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.retries import connecting
from resources.state_store.resource import StateStoreResource


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
            connected = connecting(
                lambda: with_hands.crate.connect(for_restore=True), sleep=with_hands.guard.pause
            )
            for host, reason in connected.unreachable.items():
                with_hands.say(None, "note", reason=f"{host} is of no use: {reason}")
            seen_dead = death_seen_from(context.instance)
            for ticket in tickets_to_honour(with_hands, config, connected.cluster_id, seen_dead):
                yield dg.DynamicOutput(
                    Journey(ticket.cluster_id, ticket.target, policy, ticket=ticket),
                    mapping_key=f"ticket_{ticket.id}",
                )


def tickets_to_honour(
    with_hands: Hands,
    config: TranslogRestoreConfig,
    cluster_id: str,
    seen_dead: Callable[[Owner, datetime | None], bool],
) -> list[ResetTicket]:
    """Return the open tickets that were asked for, or all whose run is dead."""
    chosen = []
    wanted = config.ticket_ids
    for ticket in with_hands.store.open_tickets(None if wanted else cluster_id):
        if wanted is not None and ticket.id not in wanted:
            continue
        if ticket.cluster_id != cluster_id:
            raise RefusedError(
                f"ticket {ticket.id} of {ticket.target} is of cluster {ticket.cluster_id}, and "
                f"CRATE_CONNECTION_STRING leads to {cluster_id}",
                target=ticket.target,
            )
        if _given_up(ticket) or seen_dead(ticket.owner, ticket.heartbeat_at):
            chosen.append(ticket)
        elif wanted is not None:
            raise UnsafeError(
                f"ticket {ticket.id} of {ticket.target} belongs to run {ticket.owner.run_id}, "
                "which is alive and will restore it itself",
                target=ticket.target,
            )
    return chosen


def _given_up(ticket: ResetTicket) -> bool:
    """Whether it waits for another try: nobody is at work on it, however alive its owner is.

    FAILED does not say so: a run that closes its ticket passes through it.
    """
    return ticket.next_try_at is not None


@dg.op(tags={"kind": "cratedb", "dagster/priority": "1"})
def take_over(
    context: dg.OpExecutionContext,
    journey: Journey,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Make a dead run's ticket ours: from here on the old owner's statements are refused."""
    with hands(context, cratedb, state, journey.policy) as with_hands:
        return taken_over(with_hands, journey)


def taken_over(with_hands: Hands, journey: Journey) -> Journey:
    """Return the journey with its ticket in our name, or over where another was faster."""
    ticket = journey.ticket
    if ticket is None:
        return journey
    if not _given_up(ticket):
        # Who is dead for a table is dead for the cluster: should it only have slept, it begins no
        # further table when it wakes.
        with_hands.store.release_lock(ticket.cluster_id, ticket.owner.run_id)
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
    undone = any(result.left_undone for result in results)
    report = RunReport("", results, 4 if failed else 3 if undone else 0)
    publish(context, report, state)
    return report
