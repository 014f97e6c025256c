"""What a step works with: reads that are tried again, and changes that are sent once, fenced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from caretaker.backoff import wait_ladder
from caretaker.errors import (
    CaretakerError,
    FencedError,
    RefusedError,
    TransientError,
    UnknownResultError,
)
from caretaker.translog.model import Owner, ResetTicket, TableObservation, Target
from ops.events import Event
from ops.guard import Guard
from resources.clock import Clock
from resources.cratedb.client import CrateDBClient
from resources.cratedb.retries import retrying
from resources.sql.cratedb import Statement
from resources.state_store import StateStore

#: How long a read-back may lag behind an acknowledged ALTER.
READ_BACK_S = 5.0

#: Pauses between looks at something that takes moments: read-backs, recovering copies.
QUICK_LOOKS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

_RESULTS = {
    FencedError: "not_executed",
    TransientError: "not_executed",
    UnknownResultError: "unknown",
    RefusedError: "refused",
}

T = TypeVar("T")


@dataclass
class Hands:
    """The clients, the clock and the voice of one step."""

    crate: CrateDBClient
    store: StateStore
    clock: Clock
    guard: Guard
    owner: Owner
    emit: Callable[[Event], None]

    def say(
        self, target: Target | None, name: str, *, level: int = logging.INFO, **fields: Any
    ) -> None:
        """Emit an event of this run about a target."""
        self.emit(Event(name, target, {"run_id": self.owner.run_id, **fields}, level))

    def reading(self, read: Callable[[], T]) -> T | CaretakerError:
        """Read, three times if it must be, and return what came or why nothing did."""
        try:
            return retrying(read, sleep=self.guard.pause)
        except CaretakerError as error:
            return error

    def observe(self, target: Target) -> TableObservation | None:
        """Return the table as it is now, or None where the catalog does not show it."""
        now = self.reading(lambda: self.crate.observe(target))
        if isinstance(now, CaretakerError):
            raise now
        return now

    def catalog(self, target: Target, cluster_id: str = "") -> TableObservation | None:
        """Return what the catalog says of the table, without its copies; None as in `observe`."""
        now = self.reading(lambda: self.crate.observe(target, copies=False, cluster_id=cluster_id))
        if isinstance(now, CaretakerError):
            raise now
        return now

    def look(self, target: Target) -> TableObservation:
        """Return the table as it is; a table that is not there is refused."""
        now = self.observe(target)
        if now is None:
            raise RefusedError(f"{target} is no longer in the catalog", target=target)
        return now

    def reads_back(self, target: Target, replicas: str) -> bool:
        """Whether the catalog shows this `number_of_replicas` within a moment."""
        for pause in (*wait_ladder(QUICK_LOOKS_S, READ_BACK_S), 0.0):
            now = self.catalog(target)
            if now is not None and now.number_of_replicas == replicas:
                return True
            self.guard.pause(pause)
        return False

    def send(self, ticket: ResetTicket, statement: Statement, *, owed: bool = False) -> None:
        """Send a change once: fenced, audited before it leaves and again when it came back.

        Fenced to the last moment: a process may sleep between any two lines, so the epoch is looked
        at again when all that is left to do is to send. `owed`: what a ticket promised goes out
        even where the store cannot be written or read. It was just seen that the table lacks it, so
        whoever sends it does what a new owner would.
        """
        entry = self._audit_before(ticket, statement, owed=owed)
        started = self.clock.monotonic()
        result, error = "unknown", None

        def still_ours() -> None:
            if entry is not None:
                self.store.check_epoch(ticket)

        try:
            self.crate.change(statement, just_before=still_ours)
            result = "ok"
        except CaretakerError as failure:
            result, error = _RESULTS.get(type(failure), "failed"), str(failure)
            raise
        finally:
            elapsed = round((self.clock.monotonic() - started) * 1000)
            self.say(ticket.target, "sql", sql=statement.rendered, elapsed_ms=elapsed, error=error)
            if entry is not None:
                self._audit_answer(entry, result, error)

    def send_retrying(self, ticket: ResetTicket, statement: Statement) -> None:
        """Send a change; again only where it provably was never executed."""
        retrying(lambda: self.send(ticket, statement), sleep=self.guard.pause)

    def _audit_before(self, ticket: ResetTicket, statement: Statement, *, owed: bool) -> int | None:
        try:
            return self.store.begin_statement(ticket, statement.rendered)
        except FencedError:
            raise
        except CaretakerError as failure:
            if not owed:
                raise
            reason = f"sent without an audit: {failure}"
            self.say(ticket.target, "note", level=logging.ERROR, reason=reason)
            return None

    def _audit_answer(self, entry: int, result: str, error: str | None) -> None:
        """Write what came back; a store that fails here must not pass for CrateDB's answer."""
        try:
            self.store.end_statement(entry, result, error)
        except CaretakerError as failure:
            reason = f"the answer was not written to the audit: {failure}"
            self.say(None, "note", level=logging.WARNING, reason=reason)
