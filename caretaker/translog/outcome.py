"""How a reset ended, and what the exit code of a run says about all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caretaker.translog.model import ResetState, ResetTicket, Target


class ResetOutcome(StrEnum):
    """How one table's reset ended."""

    COMPLETED = "COMPLETED"
    LEASES_TIMED_OUT = "LEASES_TIMED_OUT"
    PRIMARY_LOST = "PRIMARY_LOST"
    REFUSED = "REFUSED"
    SKIPPED = "SKIPPED"
    FAILED_RESTORED = "FAILED_RESTORED"
    NOT_RESTORED = "NOT_RESTORED"
    CHANGED_UNDERNEATH = "CHANGED_UNDERNEATH"


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What became of one table or partition; sizes are bytes, durations seconds.

    Attributes:
        outcome: None only in a dry run, where nothing was attempted.
        left_undone: It should have been reset, and the run stopped before its turn.
        degraded: Replicas are back as text, but not all started or not small in time.
        seconds_at_zero: Read-back of 0 until read-back of the original; 0.0 if never at 0.
        statements: As a person would paste them: sent, or in a dry run to be sent.
    """

    target: Target
    state: ResetState
    outcome: ResetOutcome | None
    reason: str = ""
    cause: str = "unknown"
    worst_bytes: int = 0
    threshold_bytes: int = 0
    percentage: float = 0.0
    original_replicas: str | None = None
    final_replicas: str | None = None
    degraded: bool = False
    left_undone: bool = False
    lease_wait_s: float = 0.0
    duration_s: float = 0.0
    seconds_at_zero: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    statements: tuple[str, ...] = field(default=())

    @property
    def attempted(self) -> bool:
        """Whether the run tried to change this table."""
        return self.outcome not in {None, ResetOutcome.SKIPPED}

    @property
    def failed(self) -> bool:
        """Whether an attempt ended as anything but completed."""
        return self.attempted and self.outcome is not ResetOutcome.COMPLETED


@dataclass(frozen=True, slots=True)
class ResetSummary:
    """The counts that a run reports."""

    found: int
    attempted: int
    completed: int
    failed: int
    not_restored: int
    skipped: int


def summarise(results: Iterable[ResetResult]) -> ResetSummary:
    """Count a run's results; what was left undone is neither skipped nor attempted."""
    results = list(results)
    return ResetSummary(
        found=len(results),
        attempted=sum(result.attempted for result in results),
        completed=sum(result.outcome is ResetOutcome.COMPLETED for result in results),
        failed=sum(result.failed for result in results),
        not_restored=sum(result.outcome is ResetOutcome.NOT_RESTORED for result in results),
        skipped=sum(
            result.outcome is ResetOutcome.SKIPPED and not result.left_undone for result in results
        ),
    )


def exit_code(results: Iterable[ResetResult]) -> int:
    """Return what a script sees: 0 done, 1 nothing touched, 2 all failed, 3 some, 4 not restored.

    >>> exit_code([])
    0
    """
    results = list(results)
    attempted = [result for result in results if result.attempted]
    failed = [result for result in attempted if result.failed]
    undone = any(result.left_undone for result in results)
    if any(result.outcome is ResetOutcome.NOT_RESTORED for result in results):
        return 4
    if not failed and not undone:
        return 0
    if not attempted:
        return 1
    if len(failed) == len(attempted):
        return 2
    return 3


def outcome_of(ticket: ResetTicket) -> ResetOutcome:
    """Return how a reset ended whose table has its original replicas back."""
    if ticket.leases_verdict == "clear":
        return ResetOutcome.COMPLETED
    if ticket.leases_verdict == "timed_out":
        return ResetOutcome.LEASES_TIMED_OUT
    if ticket.leases_verdict == "primary_lost":
        return ResetOutcome.PRIMARY_LOST
    return ResetOutcome.FAILED_RESTORED
