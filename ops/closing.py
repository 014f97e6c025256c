"""Close a ticket by an operator's word, where a look at the table does not contradict it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from caretaker.errors import FencedError, RefusedError, UnsafeError
from caretaker.translog.model import Owner, ResetTicket
from caretaker.translog.outcome import ResetOutcome
from caretaker.translog.plan import owes_a_restore
from ops.logs import on_one_line
from ops.restoring import remedy_for
from resources.clock import utc_now
from resources.cratedb.client import CrateDBClient
from resources.state_store import OutcomeRow, StateStore


def outcome_by_hand(
    crate: CrateDBClient,
    ticket: ResetTicket,
    reason: str,
    seen_dead: Callable[[Owner, datetime | None], bool],
) -> OutcomeRow:
    """Return how a ticket ends if it is closed now, by what the catalog shows of its table.

    UnsafeError where its run lives, or where the table is there and lacks what was promised.
    """
    target = ticket.target
    if ticket.next_try_at is None and not seen_dead(ticket.owner, ticket.heartbeat_at):
        raise UnsafeError(
            f"ticket {ticket.id} of {target} belongs to run {ticket.owner.run_id}, which is alive",
            target=target,
        )
    connected = crate.connect(for_restore=True)
    if connected.cluster_id != ticket.cluster_id:
        raise RefusedError(
            f"ticket {ticket.id} of {target} is of cluster {ticket.cluster_id}, and "
            f"CRATE_CONNECTION_STRING leads to {connected.cluster_id}",
            target=target,
        )
    now = crate.observe(target, copies=False, cluster_id=ticket.cluster_id)
    final = now.number_of_replicas if now is not None else None
    if now is not None and (final != ticket.original_replicas or owes_a_restore(now, ticket)):
        why = (
            f"has number_of_replicas {final!r}, and had {ticket.original_replicas!r}"
            if final != ticket.original_replicas
            else "has its replicas, but a SET to 0 that nobody answered may still land"
        )
        raise UnsafeError(
            f"ticket {ticket.id} stays open: {target} {why}",
            target=target,
            hint=f"caretaker tickets restore {ticket.id}, or run: {remedy_for(ticket).rendered}",
        )
    outcome = ResetOutcome.SKIPPED
    if ticket.zero_sent:
        gone = now is None
        outcome = ResetOutcome.CHANGED_UNDERNEATH if gone else ResetOutcome.FAILED_RESTORED
    said = "dropped meanwhile; " if now is None else ""
    row = OutcomeRow.of_ticket(
        ticket, outcome=outcome.value, ended_at=utc_now(), final_replicas=final
    )
    return replace(row, reason=on_one_line(f"{said}closed by an operator: {reason}"))


def close_by_hand(store: StateStore, ticket: ResetTicket, row: OutcomeRow) -> None:
    """Close it, with a row in its audit that says who wanted it; FencedError if it moved on."""
    entry = store.begin_statement(ticket, f"-- {row.reason}")
    try:
        sent = tuple(statement.sql_text for statement in store.statements(ticket.id))
        store.close_ticket(ticket, replace(row, statements=sent))
    except FencedError as error:
        store.end_statement(entry, "not_executed", str(error))
        raise
    store.end_statement(entry, "ok")
