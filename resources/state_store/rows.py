"""What the store gives back, as plain values, and how tickets and targets become columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, cast

from sqlalchemy import RowMapping

from caretaker.translog.model import (
    Owner,
    PartitionRef,
    ResetState,
    ResetTicket,
    TableRef,
    Target,
    target_key,
)
from caretaker.translog.outcome import ResetResult


class TicketChanges(TypedDict, total=False):
    """What may change while a ticket is open; never what it promises, nor whose it is."""

    state: ResetState
    cause: str
    worst_bytes: int
    threshold_bytes: int
    zero_sent: bool
    zero_acknowledged: bool
    zero_confirmed: bool
    leases_verdict: str
    reason: str
    zeroed_at: datetime | None
    restored_at: datetime | None
    attempts: int
    next_try_at: datetime | None
    lease_wait_s: float


@dataclass(frozen=True, slots=True)
class TicketRow:
    """A ticket with what only the store knows about it.

    Attributes:
        last_error: Why the last restore failed, '' while none has.
        closed_at: None while it is open.
    """

    ticket: ResetTicket
    cluster_name: str
    last_error: str
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lock:
    """Who may change a cluster; a takeover raises the epoch, and so does the next holder."""

    cluster_id: str
    owner: Owner
    purpose: str
    epoch: int
    acquired_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A changing statement; `ended_at` None: sent, or about to be, and no answer was recorded."""

    id: int
    ticket_id: int
    run_id: str
    epoch: int
    sql_text: str
    began_at: datetime
    ended_at: datetime | None
    result: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """How a reset ended: a `ResetResult`, with whose it was. Durations are seconds.

    Attributes:
        ticket_id: None where it ended before there was a ticket (SKIPPED, REFUSED).
        statements: What was sent, in order, as a person would paste it.
    """

    cluster_id: str
    target: Target
    run_id: str
    outcome: str
    started_at: datetime
    ended_at: datetime
    state: str = ""
    cause: str = "unknown"
    reason: str = ""
    degraded: bool = False
    original_replicas: str | None = None
    final_replicas: str | None = None
    worst_bytes: int = 0
    threshold_bytes: int = 0
    lease_wait_s: float = 0.0
    duration_s: float = 0.0
    seconds_at_zero: float = 0.0
    statements: tuple[str, ...] = ()
    ticket_id: int | None = None
    id: int = 0

    @classmethod
    def of_result(
        cls,
        result: ResetResult,
        *,
        cluster_id: str,
        run_id: str,
        now: datetime,
    ) -> OutcomeRow:
        """Return the row for one that had no ticket; `now` stands in for times it does not say."""
        ended_at = result.ended_at or now
        return cls(
            cluster_id=cluster_id,
            target=result.target,
            run_id=run_id,
            # None is a dry run's, and a dry run writes nothing: the column refuses it.
            outcome=cast("str", result.outcome),
            started_at=result.started_at or ended_at,
            ended_at=ended_at,
            **{name: getattr(result, name) for name in _OF_RESULT},
        )

    @classmethod
    def of_ticket(
        cls,
        ticket: ResetTicket,
        *,
        outcome: str,
        ended_at: datetime,
        final_replicas: str | None,
        degraded: bool = False,
        statements: tuple[str, ...] = (),
    ) -> OutcomeRow:
        """Return the row for a ticket: times, sizes, cause, state and reason are its own."""
        at_zero = 0.0
        if ticket.zeroed_at is not None and ticket.restored_at is not None:
            at_zero = (ticket.restored_at - ticket.zeroed_at).total_seconds()
        return cls(
            cluster_id=ticket.cluster_id,
            target=ticket.target,
            run_id=ticket.owner.run_id,
            outcome=outcome,
            started_at=ticket.created_at,
            ended_at=ended_at,
            state=ticket.state,
            cause=ticket.cause,
            reason=ticket.reason,
            degraded=degraded,
            original_replicas=ticket.original_replicas,
            final_replicas=final_replicas,
            worst_bytes=ticket.worst_bytes,
            threshold_bytes=ticket.threshold_bytes,
            lease_wait_s=ticket.lease_wait_s,
            duration_s=(ended_at - ticket.created_at).total_seconds(),
            seconds_at_zero=at_zero,
            statements=statements,
            ticket_id=ticket.id,
        )


class Attempts(NamedTuple):
    """When a target was last reset, and how often since it was last cured or cleared."""

    last_ended_at: datetime
    uncured: int


class SampleRow(NamedTuple):
    """The worst translog of a target at one moment, in bytes."""

    target: Target
    at: datetime
    worst_bytes: int
    threshold_bytes: int


_OF_RESULT = (
    "state",
    "cause",
    "reason",
    "degraded",
    "original_replicas",
    "final_replicas",
    "worst_bytes",
    "threshold_bytes",
    "lease_wait_s",
    "duration_s",
    "seconds_at_zero",
    "statements",
)

#: Columns whose name is the field's: the promise and what may change of it.
_PLAIN = ("cluster_id", "original_replicas", "created_at", "heartbeat_at", "epoch")
CHANGEABLE = tuple(TicketChanges.__annotations__)


def target_columns(target: Target) -> dict[str, Any]:
    """Return the columns that name a target and bring it back."""
    schema, table, ident = target_key(target)
    values = target.values if isinstance(target, PartitionRef) else None
    return {
        "schema_name": schema,
        "table_name": table,
        "partition_ident": ident,
        "partition_values": values,
    }


def target_of(row: RowMapping) -> Target:
    """Return the target that was stored, equal to it in every value and type."""
    table = TableRef(row["schema_name"], row["table_name"])
    if row["partition_values"] is None:
        return table
    return PartitionRef(table, row["partition_ident"], row["partition_values"])


def owner_columns(owner: Owner) -> dict[str, Any]:
    """Return the columns that say whose it is."""
    return {
        "owner_run_id": owner.run_id,
        "owner_host": owner.host,
        "owner_pid": owner.pid,
        "owner_boot_id": owner.boot_id,
    }


def owner_of(row: RowMapping) -> Owner:
    """Return whose it is."""
    return Owner(row["owner_run_id"], row["owner_host"], row["owner_pid"], row["owner_boot_id"])


def ticket_columns(ticket: ResetTicket) -> dict[str, Any]:
    """Return every column that a ticket fills; its id is the store's to give."""
    return {
        **{name: getattr(ticket, name) for name in (*_PLAIN, *CHANGEABLE)},
        **target_columns(ticket.target),
        **owner_columns(ticket.owner),
    }


def ticket_of(row: RowMapping) -> ResetTicket:
    """Return the ticket that was stored."""
    fields = {name: row[name] for name in (*_PLAIN, *CHANGEABLE)}
    fields["state"] = ResetState(row["state"])
    # RETURNING on sqlite hands 0.0 back as the integer it is kept as.
    fields["lease_wait_s"] = float(row["lease_wait_s"])
    return ResetTicket(id=row["id"], target=target_of(row), owner=owner_of(row), **fields)


def ticket_row_of(row: RowMapping) -> TicketRow:
    """Return the ticket with what only the store knows."""
    return TicketRow(
        ticket_of(row),
        row["cluster_name"],
        row["last_error"],
        row["closed_at"],
    )


def whose(owner: Owner) -> str:
    """Name an owner in a message."""
    return f"run {owner.run_id} on host {owner.host} (pid {owner.pid})"
