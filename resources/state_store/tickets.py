"""Tickets: what must be given back, by whom, and how far it has got."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_, select, update

from caretaker.errors import CaretakerError, FencedError, RefusedError, TransientError, UnsafeError
from caretaker.translog.model import Owner, ResetState, ResetTicket
from resources.state_store.database import Part
from resources.state_store.outcomes import insert_outcome
from resources.state_store.rows import (
    CHANGEABLE,
    OutcomeRow,
    TicketChanges,
    TicketRow,
    owner_columns,
    owner_of,
    target_columns,
    target_of,
    ticket_columns,
    ticket_of,
    ticket_row_of,
    whose,
)
from resources.state_store.tables import locks, restarts, tickets

_IS_OPEN = tickets.c.closed_at.is_(None)


class Tickets(Part):
    """Every method that changes a ticket is fenced: another epoch, or closed, is a FencedError."""

    def open_ticket(self, ticket: ResetTicket, *, cluster_name: str = "") -> ResetTicket:
        """Return the ticket with its id, once it is on disk.

        Raises UnsafeError naming the holder where the target has an open ticket already: that
        is the lock on a table.
        """
        columns = ticket_columns(ticket) | {
            "heartbeat_at": self._now(),
            "cluster_name": cluster_name,
            "last_error": "",
        }
        # The holder may close its ticket between our two looks, on PostgreSQL; then try again.
        for _ in range(3):
            with self._database.write(repeatable=False) as connection:
                made = connection.execute(
                    self._database.insert_if_absent(tickets).values(columns).returning(*tickets.c)
                )
                row = made.mappings().one_or_none()
                if row is not None:
                    return ticket_of(row)
                holder = _holder(connection, ticket)
            if holder is not None:
                raise _already_open(holder)
        raise TransientError(f"tickets of {ticket.target} come and go", target=ticket.target)

    def advance(self, ticket: ResetTicket, **changes: Unpack[TicketChanges]) -> ResetTicket:
        """Write changes, refresh the heartbeat, and return the ticket as it is stored now."""
        _refuse_unchangeable(changes)
        return self._fenced(ticket, **changes)

    def check_epoch(self, ticket: ResetTicket) -> None:
        """Raise FencedError where somebody took the ticket over, or it was closed."""
        with self._database.read() as connection:
            found = connection.execute(
                select(tickets.c.id).where(_mine(ticket))
            ).scalar_one_or_none()
            if found is None:
                raise _fenced_by(connection, ticket)

    def beat(self, run_id: str, held: Collection[int] = ()) -> int:
        """Refresh the heartbeats of a run's locks, and of its tickets in `held`; return how many.

        A ticket that none of its steps holds any more falls silent, and somebody else restores it;
        one that is only verified has nothing owed, and beats with its run. Whoever was fenced beats
        nothing that another run took over.
        """
        now = self._now()
        beat_tickets = (
            update(tickets)
            .where(
                tickets.c.owner_run_id == run_id,
                _IS_OPEN,
                or_(tickets.c.id.in_(held), tickets.c.state == ResetState.VERIFYING),
            )
            .values(heartbeat_at=now)
        )
        beat_locks = (
            update(locks)
            .where(locks.c.owner_run_id == run_id, locks.c.released_at.is_(None))
            .values(heartbeat_at=now)
        )
        beat_restarts = (
            update(restarts)
            .where(
                restarts.c.owner_run_id == run_id,
                restarts.c.closed_at.is_(None),
                restarts.c.next_try_at.is_(None),
            )
            .values(heartbeat_at=now)
        )
        with self._database.write() as connection:
            # Locks first, always in this order: two runs' heartbeats cannot wait for each other.
            count = connection.execute(beat_locks).rowcount
            count += connection.execute(beat_tickets).rowcount
            return count + connection.execute(beat_restarts).rowcount

    def take_over(self, ticket: ResetTicket, owner: Owner) -> ResetTicket:
        """Make it the new owner's, one epoch on; of several who try, one succeeds."""
        return self._fenced(
            ticket,
            repeatable=False,
            # Somebody is at work on it again: what the last one said about later is over.
            next_try_at=None,
            epoch=ticket.epoch + 1,
            **owner_columns(owner),
        )

    def record_failure(
        self, ticket: ResetTicket, reason: str, next_try_at: datetime | None = None
    ) -> ResetTicket:
        """Keep a ticket that could not be honoured open, and say when to try again."""
        return self._fenced(
            ticket,
            repeatable=False,
            attempts=tickets.c.attempts + 1,
            reason=reason,
            last_error=reason,
            next_try_at=next_try_at,
        )

    def close_ticket(self, ticket: ResetTicket, outcome: OutcomeRow) -> OutcomeRow:
        """Close it and record how it ended, both or neither; return the outcome with its id."""
        closing = {"closed_at": self._now(), "next_try_at": None}
        with self._database.write(repeatable=False) as connection:
            self._update(connection, ticket, closing)
            return insert_outcome(connection, replace(outcome, ticket_id=ticket.id))

    def open_tickets(
        self, cluster_id: str | None = None, *, due_at: datetime | None = None
    ) -> list[ResetTicket]:
        """Return open tickets, oldest first; with `due_at` only those not backing off then."""
        query = select(tickets).where(_IS_OPEN).order_by(tickets.c.id)
        if cluster_id is not None:
            query = query.where(tickets.c.cluster_id == cluster_id)
        if due_at is not None:
            due = or_(tickets.c.next_try_at.is_(None), tickets.c.next_try_at <= due_at)
            query = query.where(due)
        with self._database.read() as connection:
            return [ticket_of(row) for row in connection.execute(query).mappings()]

    def ticket(self, ticket_id: int) -> ResetTicket:
        """Return a ticket, open or closed; RefusedError where there is none."""
        return self.ticket_row(ticket_id).ticket

    def ticket_row(self, ticket_id: int) -> TicketRow:
        """Return a ticket with what only the store knows; RefusedError where there is none."""
        with self._database.read() as connection:
            row = _row(connection, ticket_id)
        if row is None:
            raise RefusedError(f"there is no ticket {ticket_id}", target=ticket_id)
        return ticket_row_of(row)

    def tickets(self, limit: int = 100, *, include_closed: bool = False) -> list[TicketRow]:
        """Return tickets, newest first."""
        query = select(tickets).order_by(tickets.c.id.desc()).limit(limit)
        if not include_closed:
            query = query.where(_IS_OPEN)
        with self._database.read() as connection:
            return [ticket_row_of(row) for row in connection.execute(query).mappings()]

    def _fenced(
        self, ticket: ResetTicket, *, repeatable: bool = True, **columns: object
    ) -> ResetTicket:
        with self._database.write(repeatable=repeatable) as connection:
            return ticket_of(self._update(connection, ticket, columns))

    def _update(
        self, connection: Connection, ticket: ResetTicket, columns: dict[str, Any]
    ) -> RowMapping:
        """The one UPDATE for all: it finds its row only while the ticket is ours."""
        changed = connection.execute(
            update(tickets)
            .where(_mine(ticket))
            .values(heartbeat_at=self._now(), **columns)
            .returning(*tickets.c)
        )
        row = changed.mappings().one_or_none()
        if row is None:
            raise _fenced_by(connection, ticket)
        return row


def _mine(ticket: ResetTicket) -> ColumnElement[bool]:
    return and_(tickets.c.id == ticket.id, tickets.c.epoch == ticket.epoch, _IS_OPEN)


def _row(connection: Connection, ticket_id: int) -> RowMapping | None:
    query = select(tickets).where(tickets.c.id == ticket_id)
    return connection.execute(query).mappings().one_or_none()


def _holder(connection: Connection, ticket: ResetTicket) -> RowMapping | None:
    names = target_columns(ticket.target)
    query = select(tickets).where(
        tickets.c.cluster_id == ticket.cluster_id,
        tickets.c.schema_name == names["schema_name"],
        tickets.c.table_name == names["table_name"],
        tickets.c.partition_ident == names["partition_ident"],
        _IS_OPEN,
    )
    return connection.execute(query).mappings().one_or_none()


def _already_open(holder: RowMapping) -> UnsafeError:
    target = target_of(holder)
    return UnsafeError(
        f"{target} has an open ticket already: ticket {holder['id']} of"
        f" {whose(owner_of(holder))}, {holder['state']},"
        f" since {holder['created_at'].isoformat(timespec='seconds')}",
        target=target,
        hint=f"let it end, or: caretaker tickets restore {holder['id']}",
    )


def _fenced_by(connection: Connection, ticket: ResetTicket) -> CaretakerError:
    row = _row(connection, ticket.id)
    if row is None:
        return RefusedError(f"there is no ticket {ticket.id}", target=ticket.target)
    if row["closed_at"] is not None:
        closed = row["closed_at"].isoformat(timespec="seconds")
        why = f"was closed at {closed}"
    else:
        why = (
            f"was taken over by {whose(owner_of(row))} (epoch {row['epoch']}, ours {ticket.epoch})"
        )
    return FencedError(f"ticket {ticket.id} of {ticket.target} {why}", target=ticket.target)


def _refuse_unchangeable(changes: TicketChanges) -> None:
    if unknown := set(changes) - set(CHANGEABLE):
        raise TypeError(f"not to be changed on a ticket: {', '.join(sorted(unknown))}")
