"""The translog wing's sensors: one may start a reset, one only ever gives replicas back."""

# No postponed annotations here: Dagster reads those of a sensor as they stand.
import math
from collections.abc import Callable
from datetime import datetime

import dagster as dg

from caretaker.errors import CaretakerError
from caretaker.translog.model import Owner, ResetTicket
from ops.logbook import FIRST_RETRY_S, RETRY_CAP_S
from ops.owners import death_seen_from
from resources.clock import utc_now
from resources.state_store.resource import StateStoreResource
from sensors.live_runs import end_ghosts, live_run
from sensors.translog_sizes import translog_sizes

__all__ = ["translog_open_tickets", "translog_sizes"]


@dg.sensor(
    job_name="translog_restore",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags={"caretaker/wing": "translog"},
    description=(
        "Starts translog_restore for every open ticket whose run is dead, and again, with "
        "growing pauses, for those that could not be restored. Asks the state store only. "
        "On by default: it changes nothing but what a reset had promised to put back."
    ),
)
def translog_open_tickets(
    context: dg.SensorEvaluationContext, state: StateStoreResource
) -> dg.SensorResult:
    """Request a restore for each abandoned ticket whose turn it is, and call off dead runs."""
    now = utc_now()
    try:
        tickets = state.store.open_tickets()
        locks = state.store.held_locks()
    except CaretakerError as error:
        return dg.SensorResult(skip_reason=str(error))
    ghosts = end_ghosts(context.instance, [*tickets, *locks])
    result = _requests(context.instance, tickets, now)
    if not ghosts:
        return result
    told = f"called off, because nobody is at work on it any more: run {', '.join(ghosts)}"
    context.log.warning(told)
    if result.skip_reason is None:
        return result
    return dg.SensorResult(skip_reason=f"{result.skip_reason.skip_message}; {told}")


def _requests(
    instance: dg.DagsterInstance, tickets: list[ResetTicket], now: datetime
) -> dg.SensorResult:
    if not tickets:
        return dg.SensorResult(skip_reason="no ticket is open")
    if run := live_run(instance, "translog_restore", tickets, now):
        return dg.SensorResult(
            skip_reason=f"restore run {run.run_id} is {run.status.value.lower()}"
        )
    seen_dead = death_seen_from(instance)
    abandoned = [
        (ticket, since) for ticket in tickets if (since := _abandoned_since(ticket, seen_dead, now))
    ]
    if not abandoned:
        return dg.SensorResult(skip_reason=_nothing_due(tickets, now))
    return dg.SensorResult(
        run_requests=[
            _request(ticket, (now - since).total_seconds()) for ticket, since in abandoned
        ]
    )


def _abandoned_since(
    ticket: ResetTicket, seen_dead: Callable[[Owner, datetime | None], bool], now: datetime
) -> datetime | None:
    """Return since when a ticket has been waiting for a restore; None where it is not yet due.

    FAILED says nothing: a run that closes its ticket passes through it. One that gave up says when
    to try again.
    """
    if ticket.next_try_at is not None:
        return ticket.next_try_at if ticket.next_try_at <= now else None
    if seen_dead(ticket.owner, ticket.heartbeat_at):
        return ticket.heartbeat_at or ticket.created_at
    return None


def _request(ticket: ResetTicket, waited_s: float) -> dg.RunRequest:
    return dg.RunRequest(
        # Epoch and attempts change once a run has taken it over. One that died before that would
        # hold the key for ever, so time is part of it.
        run_key=f"ticket-{ticket.id}-{ticket.epoch}-{ticket.attempts}-{turn(waited_s)}",
        run_config={"ticket_ids": [ticket.id]},
        tags={"caretaker/ticket": str(ticket.id), "caretaker/tables": str(ticket.target)},
    )


def turn(waited_s: float) -> int:
    """Return the number of the request that is due after so many seconds.

    At once, then after 30 s, 60 s, 120 s and so on, in the end every 30 minutes.

    >>> [turn(seconds) for seconds in (0, 29, 30, 60, 119, 1799, 1800, 3600)]
    [0, 0, 1, 2, 2, 6, 7, 8]
    """
    if waited_s < FIRST_RETRY_S:
        return 0
    doublings = math.floor(math.log2(min(waited_s, RETRY_CAP_S) / FIRST_RETRY_S))
    return doublings + 1 + int(waited_s // RETRY_CAP_S)


def _nothing_due(tickets: list[ResetTicket], now: datetime) -> str:
    text = f"{len(tickets)} open, of runs that live"
    waits = [
        (ticket.next_try_at - now).total_seconds()
        for ticket in tickets
        if ticket.next_try_at is not None
    ]
    if waits:
        text = (
            f"{len(tickets)} open, {len(waits)} of them could not be restored; "
            f"the next try is in {max(0, min(waits)):.0f} s"
        )
    return text
