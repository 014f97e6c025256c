"""The written side of a journey: the ticket as the store has it, what was told, how it ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from caretaker.errors import CaretakerError, FencedError, NotRestoredError, UnsafeError
from caretaker.translog.detect import Finding
from caretaker.translog.model import ResetState, ResetTicket, TableObservation, Target
from caretaker.translog.outcome import ResetOutcome, ResetResult
from caretaker.translog.policy import ResetPolicy
from ops.hands import Hands
from resources.state_store import OutcomeRow

#: When the sensor tries again what a run could not restore: doubled with every failure.
FIRST_RETRY_S = 30.0
RETRY_CAP_S = 1800.0


@dataclass(frozen=True)
class Journey:
    """A table on its way through the steps: what is known, and how it ended once it did."""

    cluster_id: str
    target: Target
    policy: ResetPolicy
    finding: Finding | None = None
    ticket: ResetTicket | None = None
    result: ResetResult | None = None


class Logbook:
    """Writes a journey down, in the store before the act and to the log after it."""

    def __init__(self, hands: Hands, journey: Journey) -> None:
        self._hands = hands
        self.journey = journey
        if journey.ticket is not None:
            hands.guard.held.add(journey.ticket.id)

    @property
    def ticket(self) -> ResetTicket:
        """The ticket as last written; there must be one."""
        if self.journey.ticket is None:
            raise UnsafeError("no ticket was written", target=self.journey.target)
        return self.journey.ticket

    @property
    def over(self) -> bool:
        """Whether the journey has ended, whichever way."""
        return self.journey.result is not None

    @property
    def touched(self) -> bool:
        """Whether a SET to 0 may have been sent."""
        return self.journey.ticket is not None and self.journey.ticket.zero_sent

    def tell(self, name: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Emit an event about this table."""
        self._hands.say(self.journey.target, name, level=level, **fields)

    def open(self, finding: Finding) -> None:
        """Write the ticket: from here on the table's own text is remembered."""
        now = self._hands.clock.now()
        stored = self._hands.store.open_ticket(
            ResetTicket(
                cluster_id=self.journey.cluster_id,
                target=finding.target,
                original_replicas=str(finding.table.number_of_replicas),
                owner=self._hands.owner,
                created_at=now,
                heartbeat_at=now,
                threshold_bytes=finding.threshold_bytes,
                cause=finding.cause.value,
                worst_bytes=finding.worst_bytes,
            )
        )
        self._hands.guard.held.add(stored.id)
        self.journey = replace(self.journey, ticket=stored, finding=without_copies(finding))

    def advance(self, **changes: Any) -> None:
        """Write what changed about the ticket; raises FencedError when it is no longer ours."""
        ticket = self._hands.store.advance(self.ticket, **changes)
        self.journey = replace(self.journey, ticket=ticket)

    def move_to(self, state: ResetState, **changes: Any) -> None:
        """Write a state transition, and tell it."""
        before = self.ticket.state
        self.advance(state=state, **changes)
        if before is state:
            return
        elapsed = self._hands.clock.now() - self.ticket.created_at
        self.tell(
            "state_transition",
            from_state=before.value,
            to_state=state.value,
            state=state.value,
            original_replicas=self.ticket.original_replicas,
            elapsed_ms=round(elapsed.total_seconds() * 1000),
            reason=changes.get("reason") or None,
        )

    def close(
        self,
        outcome: ResetOutcome,
        reason: str,
        *,
        degraded: bool = False,
        seen: TableObservation | None = None,
    ) -> None:
        """Close the ticket and store its outcome, in one transaction.

        `seen` is the look that the outcome was judged by: a later one could tell another story.
        """
        done = outcome is ResetOutcome.COMPLETED
        # Before the transition: a sibling takes FAILED for a table that waits for a human.
        now = seen or self._hands.reading(
            lambda: self._hands.crate.observe(self.ticket.target, copies=False)
        )
        self.move_to(ResetState.COMPLETED if done else ResetState.FAILED, reason=reason)
        final = now.number_of_replicas if isinstance(now, TableObservation) else None
        row = self._row(outcome, reason, final, degraded=degraded)
        self._hands.store.close_ticket(self.ticket, row)
        self._finish(result_of(row))

    def leave(self, reason: str, *, left_undone: bool = False) -> None:
        """End without having touched the table."""
        outcome = ResetOutcome.SKIPPED
        self._finish(self._unwritten(outcome, ResetState.DETECTED, reason, left_undone=left_undone))

    def reopen(self) -> bool:
        """Write a new ticket for a table at 0 whose old one is closed; whether it is ours now."""
        try:
            closed = self._hands.store.ticket_row(self.ticket.id).closed_at is not None
            now = self._hands.catalog(self.ticket.target) if closed else None
            if now is None or now.number_of_replicas != "0":
                return False
            stored = self._hands.store.open_ticket(replace(self.ticket, owner=self._hands.owner))
        except CaretakerError as error:
            self.tell("note", level=logging.ERROR, reason=f"not looked at again: {error}")
            return False
        self._hands.guard.held.add(stored.id)
        self.journey = replace(self.journey, ticket=stored)
        return True

    def leave_restored(self, reason: str) -> None:
        """End with the table as it was; if the store fails, the open ticket is picked up later."""
        outcome = ResetOutcome.FAILED_RESTORED if self.touched else ResetOutcome.SKIPPED
        try:
            self.close(outcome, reason)
        except FencedError:
            raise
        except CaretakerError as error:
            self.leave_open(f"{reason}; {error}")

    def leave_open(self, reason: str) -> None:
        """End with the table as it was and the ticket open: the sensor sees it to its end.

        In a moment and not at once, or a table that cannot be watched would be a run a tick.
        """
        reason = f"{reason}; its ticket stays open"
        next_try_at = self._hands.clock.now() + timedelta(seconds=FIRST_RETRY_S)
        try:
            self.advance(reason=reason, next_try_at=next_try_at)
        except FencedError:
            raise
        except CaretakerError as error:
            self.tell("note", level=logging.WARNING, reason=f"not written: {error}")
        outcome = ResetOutcome.FAILED_RESTORED
        self._finish(self._unwritten(outcome, ResetState.FAILED, reason, left_undone=True))

    def call_for_help(self, error: NotRestoredError) -> None:
        """Say loudly what a human must do; the ticket stays open and the sensor goes on trying.

        Said first and stored second: the store itself may be what failed.
        """
        self.tell(
            "critical",
            level=logging.CRITICAL,
            reason=f"MANUAL INTERVENTION REQUIRED: {error}. Run: {error.remedy}",
            sql=error.remedy,
            original_replicas=self.ticket.original_replicas,
            error=str(error),
        )
        reason = f"{error}. Run: {error.remedy}"
        try:
            self.move_to(ResetState.FAILED, reason=str(error))
            self._hands.store.record_failure(self.ticket, str(error), self._next_try_at())
            result = result_of(self._row(ResetOutcome.NOT_RESTORED, reason, None))
        except FencedError:
            raise
        except CaretakerError:
            result = self._unwritten(ResetOutcome.NOT_RESTORED, ResetState.FAILED, reason)
        self._finish(result)

    def _next_try_at(self) -> datetime:
        pause_s = min(FIRST_RETRY_S * 2 ** min(self.ticket.attempts, 30), RETRY_CAP_S)
        return self._hands.clock.now() + timedelta(seconds=pause_s)

    def yield_to_new_owner(self, error: FencedError) -> None:
        """End here: somebody else restores this table, and reports how that went."""
        self._leave_to_its_owner(f"taken over: {error}")

    def leave_to_another_run(self) -> None:
        """End here, having sent nothing: the ticket is of the run that this one repeats.

        "Re-execute from failure" hands a new run the old one's journey, hours later perhaps,
        without a preflight, a lock or a heartbeat of its own.
        """
        self._leave_to_its_owner(
            f"ticket {self.ticket.id} belongs to run {self.ticket.owner.run_id}, and this is run "
            f"{self._hands.owner.run_id}: a run that is executed again from its failure cannot "
            f"carry on; run: caretaker tickets restore {self.ticket.id}, and then a reset anew"
        )

    def _leave_to_its_owner(self, reason: str) -> None:
        """End with the outcome that a look at the table bears out."""
        self.tell("note", level=logging.ERROR, reason=reason)
        now = self._hands.reading(
            lambda: self._hands.crate.observe(self.ticket.target, copies=False)
        )
        final = now.number_of_replicas if isinstance(now, TableObservation) else None
        outcome = ResetOutcome.FAILED_RESTORED
        if self.touched and final in {"0", None}:
            outcome = ResetOutcome.NOT_RESTORED
            reason += f"; not restored when it was last looked at (number_of_replicas {final})"
        result = self._unwritten(outcome, ResetState.FAILED, reason)
        self._finish(replace(result, final_replicas=final))

    def _row(
        self, outcome: ResetOutcome, reason: str, final: str | None, *, degraded: bool = False
    ) -> OutcomeRow:
        sent = self._hands.store.statements(self.ticket.id)
        return OutcomeRow.of_ticket(
            replace(self.ticket, reason=reason),
            outcome=outcome.value,
            ended_at=self._hands.clock.now(),
            final_replicas=final,
            degraded=degraded,
            statements=tuple(statement.sql_text for statement in sent),
        )

    def _unwritten(
        self, outcome: ResetOutcome, state: ResetState, reason: str, *, left_undone: bool = False
    ) -> ResetResult:
        finding = self.journey.finding
        known = (
            result_of_finding(finding) if finding else ResetResult(self.journey.target, state, None)
        )
        return replace(known, outcome=outcome, state=state, reason=reason, left_undone=left_undone)

    def _finish(self, result: ResetResult) -> None:
        if self.journey.finding is not None:
            result = replace(result, percentage=self.journey.finding.percentage)
        self.journey = replace(self.journey, result=result)
        self.tell(
            "outcome",
            level=logging.ERROR if result.failed or result.left_undone else logging.INFO,
            state=result.state.value,
            outcome=result.outcome.value if result.outcome else None,
            reason=result.reason or None,
            original_replicas=result.original_replicas,
            final_replicas=result.final_replicas,
            degraded=result.degraded or None,
            seconds_at_zero=result.seconds_at_zero or None,
            elapsed_ms=round(result.duration_s * 1000),
        )


def result_of_finding(finding: Finding) -> ResetResult:
    """Return what is known of a table that was found and not yet touched."""
    replicas = finding.table.number_of_replicas
    return ResetResult(
        target=finding.target,
        state=ResetState.DETECTED,
        outcome=None,
        cause=finding.cause.value,
        worst_bytes=finding.worst_bytes,
        threshold_bytes=finding.threshold_bytes,
        percentage=finding.percentage,
        original_replicas=replicas,
        final_replicas=replicas,
    )


def result_of(row: OutcomeRow) -> ResetResult:
    """Return a stored outcome as the core knows it."""
    return ResetResult(
        target=row.target,
        state=ResetState(row.state),
        outcome=ResetOutcome(row.outcome),
        reason=row.reason,
        cause=row.cause,
        worst_bytes=row.worst_bytes or 0,
        threshold_bytes=row.threshold_bytes or 0,
        percentage=(row.worst_bytes or 0) * 100 / (row.threshold_bytes or 1),
        original_replicas=row.original_replicas,
        final_replicas=row.final_replicas,
        degraded=row.degraded,
        lease_wait_s=row.lease_wait_s,
        duration_s=row.duration_s,
        seconds_at_zero=row.seconds_at_zero or 0.0,
        started_at=row.started_at,
        ended_at=row.ended_at,
        statements=row.statements,
    )


def without_copies(finding: Finding) -> Finding:
    """Forget the rows of each copy: a thousand tables on their way should stay small."""
    return replace(finding, table=replace(finding.table, copies=()))
