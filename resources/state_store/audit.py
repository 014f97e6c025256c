"""Audit: every changing statement, on record before it is sent."""

from __future__ import annotations

from sqlalchemy import insert, literal, select, update

from caretaker.errors import FencedError
from caretaker.translog.model import ResetTicket
from resources.state_store.database import Part
from resources.state_store.rows import StatementRow
from resources.state_store.tables import statements, tickets


class Audit(Part):
    """A row without an end is a statement whose answer nobody saw."""

    def begin_statement(self, ticket: ResetTicket, sql_text: str) -> int:
        """Record a statement about to be sent and return its id; FencedError: do not send it."""
        asked = (
            select(
                tickets.c.id,
                literal(ticket.owner.run_id),
                tickets.c.epoch,
                literal(sql_text, statements.c.sql_text.type),
                literal(self._now(), statements.c.began_at.type),
            )
            .where(tickets.c.id == ticket.id)
            .where(tickets.c.epoch == ticket.epoch, tickets.c.closed_at.is_(None))
        )
        columns = ["ticket_id", "run_id", "epoch", "sql_text", "began_at"]
        with self._database.write(repeatable=False) as connection:
            made: int | None = connection.execute(
                insert(statements).from_select(columns, asked).returning(statements.c.id)
            ).scalar_one_or_none()
        if made is None:
            raise FencedError(
                f"ticket {ticket.id} of {ticket.target} is not ours any more: not sent: {sql_text}",
                target=ticket.target,
            )
        return made

    def end_statement(self, statement_id: int, result: str, error: str | None = None) -> None:
        """Record its answer. Not fenced: what was sent was sent, whoever has the ticket now."""
        with self._database.write() as connection:
            connection.execute(
                update(statements)
                .where(statements.c.id == statement_id)
                .values(ended_at=self._now(), result=result, error=error)
            )

    def statements(self, ticket_id: int) -> list[StatementRow]:
        """Return what was sent for a ticket, in order."""
        query = (
            select(statements).where(statements.c.ticket_id == ticket_id).order_by(statements.c.id)
        )
        with self._database.read() as connection:
            return [StatementRow(**row) for row in connection.execute(query).mappings()]
