"""What resets did over the last weeks, and what is still owed: metadata of `translog_resets`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from statistics import median
from typing import Any

import dagster as dg

from caretaker.translog.model import ResetState, ResetTicket
from caretaker.translog.outcome import ResetOutcome
from ops.pictures import ResetPoint, embedded, resets_picture
from ops.restoring import remedy_for
from ops.shown import INLINE_BELOW, clipped, code, duration, named, table, to_paste, units
from resources.state_store import OutcomeRow, StateStore, TicketRow

RESETS = dg.AssetKey("translog_resets")
REPLICAS_ARE_BACK = "replicas_are_back"

#: How far back the asset looks; at most so many outcomes of that time, newest first.
HISTORY = timedelta(days=30)
LATELY = timedelta(hours=24)
MOST_OUTCOMES = 50_000

#: Heartbeats come every 5 s, and the sensor looks every 10; after this, nobody is at work any more.
SILENT_FOR = timedelta(minutes=2)

#: Rows of the narrow table: more would push everything else off the page.
MOST_SHOWN = 12

#: Letters of statements behind the link and in the check's description, which is on every alert;
#: each is whole or left out.
MOST_TO_PASTE = 16_000
MOST_IN_A_CHECK = 3_000

#: Where something went wrong comes first in a sentence.
_WORDS = {
    ResetOutcome.NOT_RESTORED: "not restored",
    ResetOutcome.PRIMARY_LOST: "primary lost",
    ResetOutcome.LEASES_TIMED_OUT: "leases timed out",
    ResetOutcome.CHANGED_UNDERNEATH: "changed by others",
    ResetOutcome.FAILED_RESTORED: "failed and restored",
    ResetOutcome.REFUSED: "refused",
    ResetOutcome.COMPLETED: "completed",
    ResetOutcome.SKIPPED: "skipped",
}


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

    @cached_property
    def not_restored(self) -> list[TicketRow]:
        """Tickets that wait for a human, oldest first: given up, or left by a run that is gone.

        A dead run's ticket is the sensor's to honour; one that nobody has touched for two minutes
        says that no sensor is at work either.
        """
        return [
            row
            for row in reversed(self.tickets)
            if _given_up(row.ticket) or self._is_abandoned(row.ticket)
        ]

    @property
    def attempted(self) -> list[OutcomeRow]:
        """Those that tried to change something."""
        return [row for row in self.outcomes if row.outcome != ResetOutcome.SKIPPED]

    def metadata(self) -> dict[str, Any]:
        """Return the answers in words, a table, the picture, and the numbers that plot over time.

        Labels are words, and the table is narrow: one wide cell, and Dagster's page has to be
        scrolled sideways to read any of them.
        """
        attempted = self.attempted
        lately = [row for row in attempted if self.now - row.ended_at <= LATELY]
        at_zero = [row.seconds_at_zero for row in attempted if row.seconds_at_zero > 0]
        longest = max([*at_zero, *self._still_at_zero()], default=0.0)
        return {
            **self._owed(),
            "at 0 replicas": self._how_long_at_zero(lately),
            "last 24 h": self._counted(lately, LATELY) or "no reset",
            "last 30 days": self._counted(attempted, HISTORY) or "no reset",
            "resets": table(
                [*map(self._under_way, self.tickets), *map(_ended, self.outcomes)],
                _COLUMNS,
                _COLUMN_WORDS,
                MOST_SHOWN,
            ),
            "picture": self._picture(attempted),
            "open tickets": len(self.tickets),
            "tables not restored": len(self.not_restored),
            **_plotted(attempted, len(self.not_restored)),
            "median s at 0": round(float(median(at_zero)), 3) if at_zero else 0.0,
            "longest s at 0": round(longest, 3),
            "longest s at 0, 24 h": round(
                max(
                    [*(row.seconds_at_zero for row in lately), *self._still_at_zero()], default=0.0
                ),
                3,
            ),
            "dagster/row_count": len(self.outcomes),
        }

    def check(self) -> dict[str, Any]:
        """Return what `replicas_are_back` says, as an asset check's own arguments."""
        owed = self.not_restored
        metadata: dict[str, Any] = {
            "tables not restored": len(owed),
            "open tickets": len(self.tickets),
        }
        if owed:
            metadata["statements to paste"] = self._all_to_paste()
            metadata["tickets"] = table(list(map(self._under_way, owed)), _COLUMNS, _COLUMN_WORDS)
        return {
            "passed": not owed,
            "severity": dg.AssetCheckSeverity.ERROR,
            "description": self._verdict(room=MOST_IN_A_CHECK),
            "metadata": metadata,
        }

    def _owed(self) -> dict[str, Any]:
        """Return who waits for replicas, with what to paste in place where it fits there."""
        if not self.not_restored:
            return {"not restored": self._verdict(room=INLINE_BELOW)}
        said = self._verdict(room=INLINE_BELOW - 1, narrow=True)
        shown = {"not restored": dg.MetadataValue.md(said)}
        if any(self._statement(row) not in said for row in self.not_restored):
            shown["all to paste"] = self._all_to_paste()
        return shown

    def _all_to_paste(self) -> dg.MarkdownMetadataValue:
        block, left = to_paste(list(map(self._statement, self.not_restored)), MOST_TO_PASTE)
        return dg.MetadataValue.md(block + _left_out(left))

    @staticmethod
    def _statement(row: TicketRow) -> str:
        return remedy_for(row.ticket).rendered

    # In words.

    def _verdict(self, room: int, *, narrow: bool = False) -> str:
        """Say who waits for replicas, since when and why, and what to paste, in so many letters."""
        owed = self.not_restored
        if not owed:
            return (
                "Nothing: every table has the replicas it had."
                if not self.tickets
                else "Nothing so far: a run is at work that will restore "
                f"{named([clipped(str(row.ticket.target)) for row in self.tickets])}."
            )
        first = owed[0]
        others = [code(clipped(str(row.ticket.target), 60)) for row in owed[1:]]
        said = f"{code(str(first.ticket.target))} {self._since(first.ticket)}. {self._why(first)}"
        if others:
            said += f" Also: {named(others)}."
        paste = "\n\nPaste, or `caretaker tickets restore`:\n\n"
        room -= units(said + paste + _left_out(len(owed)))
        block, left = to_paste(list(map(self._statement, owed)), room, narrow=narrow)
        if not block:
            # One partition's value may be longer than a page.
            return f"{said}\n\nThe statement is too long for here: `caretaker tickets list`."
        return said + paste + block + _left_out(left)

    def _since(self, ticket: ResetTicket) -> str:
        since = _at_zero_since(ticket)
        if since is None:
            return "waits for an operator"
        # A moment and not how long ago: what is read an hour later still has to be true.
        return f"has had no replicas since {_minute(since)}"

    def _why(self, row: TicketRow) -> str:
        if not _given_up(row.ticket):
            return (
                "The run that promised to restore it is gone, and no other has taken over: "
                "is the sensor `translog_open_tickets` on?"
            )
        why = row.last_error or row.ticket.reason or "unknown"
        return f"Why: {code(why.removeprefix(f'Failed to rollback {row.ticket.target}: '))}."

    def _counted(self, ended: Sequence[OutcomeRow], within: timedelta) -> str:
        """Return "22 resets: 1 not restored, 21 completed (2 degraded)"; '' for none.

        One that is not restored has not ended: it is an open ticket.
        """
        owed = sum(self.now - row.ticket.created_at <= within for row in self.not_restored)
        counts = Counter({ResetOutcome.NOT_RESTORED.value: owed})
        counts.update(row.outcome for row in ended)
        degraded = sum(row.degraded and row.outcome == ResetOutcome.COMPLETED for row in ended)
        words = [
            f"{counts[outcome]:,} {text}"
            + (f" ({degraded:,} degraded)" if degraded and text == "completed" else "")
            for outcome, text in _WORDS.items()
            if counts[outcome]
        ]
        total = counts.total()
        return f"{total:,} reset{'s' if total > 1 else ''}: {', '.join(words)}" if total else ""

    def _how_long_at_zero(self, lately: Sequence[OutcomeRow]) -> str:
        """Say who is without replicas now, and how long others were, the longest first."""
        still = sorted(
            (
                (since, str(row.ticket.target))
                for row in self.tickets
                if (since := _at_zero_since(row.ticket)) is not None
            ),
        )
        now = [f"{clipped(name, 60)} since {_minute(since)}" for since, name in still]
        spells = sorted(lately, key=lambda row: -row.seconds_at_zero)
        were = [
            f"{clipped(str(row.target), 60)} {duration(row.seconds_at_zero)}"
            for row in spells
            if row.seconds_at_zero > 0
        ]
        return f"now: {named(now) or 'none'}; in the last 24 h: {named(were) or 'none'}"

    def _still_at_zero(self) -> list[float]:
        spells = (_at_zero_since(row.ticket) for row in self.tickets)
        return [(self.now - since).total_seconds() for since in spells if since is not None]

    def _is_abandoned(self, ticket: ResetTicket) -> bool:
        seen = ticket.heartbeat_at or ticket.created_at
        return ticket.zero_sent and self.now - seen > SILENT_FOR

    def _under_way(self, row: TicketRow) -> dict[str, Any]:
        ticket, since = row.ticket, _at_zero_since(row.ticket)
        waits = _given_up(ticket) or self._is_abandoned(ticket)
        return {
            "table": clipped(str(ticket.target), 60),
            "outcome": "not restored" if waits else f"under way: {ticket.state.value}",
            "at 0 for": duration((self.now - since).total_seconds()) if since else "never",
            "UTC": _unbroken(ticket.created_at),
        }

    def _picture(self, attempted: Iterable[OutcomeRow]) -> dg.MarkdownMetadataValue:
        points = [
            ResetPoint(row.ended_at, row.seconds_at_zero, ResetOutcome(row.outcome))
            for row in attempted
        ]
        points += [ResetPoint(self.now, seconds, None) for seconds in self._still_at_zero()]
        return embedded(
            lambda: resets_picture(points, self.now - HISTORY, self.now),
            "Seconds at 0 replicas of each reset, over time",
        )


def _left_out(statements: int) -> str:
    if not statements:
        return ""
    return f"\n\n{statements:,} more did not fit here: `caretaker tickets list`."


def _plotted(attempted: Sequence[OutcomeRow], owed: int) -> dict[str, int]:
    """Return a number for each outcome, zeros too: a line that stops looks like a gap in looks."""
    counts = Counter({ResetOutcome.NOT_RESTORED.value: owed})
    counts.update(row.outcome for row in attempted)
    return {
        "30 d: resets": counts.total(),
        **{
            f"30 d: {_WORDS[outcome]}": counts[outcome]
            for outcome in ResetOutcome
            if outcome is not ResetOutcome.SKIPPED
        },
        "30 d: degraded": sum(row.degraded for row in attempted),
    }


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%d %b %H:%M} UTC"


def _unbroken(moment: datetime) -> str:
    # A blank that does not break: a narrow column would make three lines of it.
    return f"{moment.astimezone(UTC):%d\N{NO-BREAK SPACE}%b %H:%M}"


def _given_up(ticket: ResetTicket) -> bool:
    # FAILED alone does not say so: a run that closes its ticket passes through it.
    return ticket.state is ResetState.FAILED and ticket.next_try_at is not None


def _at_zero_since(ticket: ResetTicket) -> datetime | None:
    return ticket.zeroed_at if ticket.restored_at is None else None


def _fate(row: OutcomeRow) -> str:
    words = _WORDS[ResetOutcome(row.outcome)]
    return f"{words}, degraded" if row.degraded else words


def _ended(row: OutcomeRow) -> dict[str, Any]:
    return {
        "table": clipped(str(row.target), 60),
        "outcome": _fate(row),
        "at 0 for": duration(row.seconds_at_zero) if row.seconds_at_zero > 0 else "never",
        "UTC": _unbroken(row.ended_at),
    }


_COLUMNS = {
    "table": "string",
    "outcome": "string",
    "at 0 for": "string",
    "UTC": "string",
}

_COLUMN_WORDS = {
    "outcome": "Degraded: replicas are back as text, but not all started and small in time.",
    "at 0 for": "From before the SET to 0 was sent until the original was read back, or until now.",
    "UTC": "When it ended; of one that has not, when it began.",
}
