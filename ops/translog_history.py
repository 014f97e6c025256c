"""What resets did over the last weeks, and what is still owed: metadata of `translog_resets`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import dagster as dg

from caretaker.translog.model import ResetState, ResetTicket, Target, partition_text
from caretaker.translog.outcome import ResetOutcome
from ops.pictures import ResetPoint, embedded, resets_picture
from ops.restoring import remedy_for
from resources.state_store import OutcomeRow, StateStore, TicketRow

RESETS = dg.AssetKey("translog_resets")
REPLICAS_ARE_BACK = "replicas_are_back"

#: How far back the asset looks; at most so many outcomes of that time, newest first.
HISTORY = timedelta(days=30)
MOST_OUTCOMES = 50_000

#: Rows in the UI: an event is stored whole, and nobody reads further down.
MOST_ROWS = 50


@dataclass(frozen=True)
class ResetHistory:
    """Outcomes of the last 30 days, newest first, and the tickets that are open now."""

    outcomes: Sequence[OutcomeRow]
    tickets: Sequence[TicketRow]
    now: datetime

    @classmethod
    def read(cls, store: StateStore, now: datetime) -> ResetHistory:
        """Ask the store, about all clusters it knows."""
        return cls(
            store.outcomes(since=now - HISTORY, limit=MOST_OUTCOMES),
            store.tickets(limit=MOST_OUTCOMES),
            now,
        )

    @property
    def not_restored(self) -> list[TicketRow]:
        """Tickets that wait for a human: the restore was given up, and is still owed."""
        given_up = {
            outcome.ticket_id
            for outcome in self.outcomes
            if outcome.outcome == ResetOutcome.NOT_RESTORED
        }
        return [
            row
            for row in self.tickets
            if row.ticket.state is ResetState.FAILED or row.ticket.id in given_up
        ]

    def metadata(self) -> dict[str, Any]:
        """Return tables, the numbers that plot over time, and the picture."""
        attempted = [row for row in self.outcomes if row.outcome != ResetOutcome.SKIPPED]
        at_zero = [row.seconds_at_zero for row in attempted if row.seconds_at_zero > 0]
        completed = sum(row.outcome == ResetOutcome.COMPLETED for row in attempted)
        return {
            "picture": self._picture(attempted),
            "resets_30_days": len(attempted),
            "completed_30_days": completed,
            "failed_30_days": len(attempted) - completed,
            "open_tickets": len(self.tickets),
            "tickets_not_restored": len(self.not_restored),
            "median_seconds_at_zero": round(float(median(at_zero)), 3) if at_zero else 0.0,
            "longest_seconds_at_zero": round(float(max(at_zero, default=0.0)), 3),
            "newest_resets": _table(self.outcomes[:MOST_ROWS], _of_outcome, _OUTCOME_COLUMNS),
            "tickets": _table(self.tickets[:MOST_ROWS], self._of_ticket, _TICKET_COLUMNS),
        }

    def check(self) -> dict[str, Any]:
        """Return what `replicas_are_back` says, as an asset check's own arguments."""
        owed = self.not_restored
        metadata: dict[str, Any] = {
            "tickets_not_restored": len(owed),
            "open_tickets": len(self.tickets),
        }
        if owed:
            statements = [f"{remedy_for(row.ticket).rendered};" for row in owed[:MOST_ROWS]]
            metadata["statements_to_paste"] = dg.MetadataValue.md(fenced(statements))
            metadata["tickets"] = _table(owed[:MOST_ROWS], self._of_ticket, _TICKET_COLUMNS)
        return {
            "passed": not owed,
            "severity": dg.AssetCheckSeverity.ERROR,
            "description": _verdict(owed),
            "metadata": metadata,
        }

    def _of_ticket(self, row: TicketRow) -> dict[str, Any]:
        ticket = row.ticket
        return {
            "ticket": ticket.id,
            "table": str(ticket.target.table),
            "partition": partition_text(ticket.target),
            "state": ticket.state.value,
            "original_replicas": ticket.original_replicas,
            "run_id": ticket.owner.run_id,
            "since": _second(ticket.created_at),
            "attempts": ticket.attempts,
            "next_try_at": _second(ticket.next_try_at),
            "last_error": row.last_error,
            "statement": remedy_for(ticket).rendered if row in self.not_restored else "",
        }

    def _picture(self, attempted: Iterable[OutcomeRow]) -> dg.MarkdownMetadataValue:
        points = [
            ResetPoint(row.ended_at, row.seconds_at_zero, ResetOutcome(row.outcome))
            for row in attempted
        ]
        points += [
            ResetPoint(self.now, (self.now - since).total_seconds(), None)
            for row in self.tickets
            if (since := _at_zero_since(row.ticket)) is not None
        ]
        return embedded(
            lambda: resets_picture(points, self.now - HISTORY, self.now),
            "Seconds at 0 replicas of each reset, over time",
        )


def fenced(lines: Iterable[str], language: str = "sql") -> str:
    """Return lines as a block of code in Markdown, whatever they contain.

    >>> print(fenced(["SELECT 1"]))
    ```sql
    SELECT 1
    ```
    """
    text = "\n".join(lines)
    fence = "```"
    # A partition's value may hold the fence itself, on a line of its own.
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _at_zero_since(ticket: ResetTicket) -> datetime | None:
    return ticket.zeroed_at if ticket.restored_at is None else None


def _verdict(owed: Sequence[TicketRow]) -> str:
    if not owed:
        return "Every table has the replicas it had, or a run is at work that will restore it."
    target: Target = owed[0].ticket.target
    more = f" and {len(owed) - 1} more" if len(owed) > 1 else ""
    return (
        f"{target}{more} could not be restored: paste the statement, or caretaker tickets restore."
    )


def _table(rows: Iterable[Any], record: Any, columns: dict[str, str]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord(record(row)) for row in rows],
        dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )


def _of_outcome(row: OutcomeRow) -> dict[str, Any]:
    return {
        "table": str(row.target.table),
        "partition": partition_text(row.target),
        "outcome": f"{row.outcome} (degraded)" if row.degraded else row.outcome,
        "reason": row.reason,
        "cause": row.cause,
        "original_replicas": row.original_replicas or "",
        "final_replicas": row.final_replicas or "",
        "seconds_at_zero": round(row.seconds_at_zero, 3),
        "lease_wait_s": round(row.lease_wait_s, 3),
        "duration_s": round(row.duration_s, 3),
        "ended_at": _second(row.ended_at),
        "run_id": row.run_id,
    }


def _second(moment: datetime | None) -> str:
    return moment.isoformat(sep=" ", timespec="seconds") if moment is not None else ""


_OUTCOME_COLUMNS = {
    "table": "string",
    "partition": "string",
    "outcome": "string",
    "reason": "string",
    "cause": "string",
    "original_replicas": "string",
    "final_replicas": "string",
    "seconds_at_zero": "float",
    "lease_wait_s": "float",
    "duration_s": "float",
    "ended_at": "string",
    "run_id": "string",
}

_TICKET_COLUMNS = {
    "ticket": "int",
    "table": "string",
    "partition": "string",
    "state": "string",
    "original_replicas": "string",
    "run_id": "string",
    "since": "string",
    "attempts": "int",
    "next_try_at": "string",
    "last_error": "string",
    "statement": "string",
}
