"""How a pod's decommission ended: the document that scripts and runs' metadata have of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from caretaker.decommission.document import plain
from caretaker.decommission.steps import Conclude, RestartOutcome
from caretaker.decommission.ticket import DecommissionState, PodProgress, RestartTicket


@dataclass(frozen=True, slots=True)
class DecommissionResult:
    """What became of one pod. The names up to `decommission_timeout` are the operators' own.

    Attributes:
        strategy_used: kubernetes_managed, manual or unknown.
        duration: Seconds from its turn to its end.
        process_exited: Its old CrateDB process was seen to have ended.
        decommission_timeout: Seconds that the drain was given.
        notes: What was no failure and should be known.
    """

    pod_name: str
    namespace: str
    strategy_used: str
    success: bool
    duration: float
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    process_exited: bool = False
    decommission_timeout: int = 720
    uid_before: str | None = None
    uid_after: str | None = None
    restarted_in_place: bool = False
    notes: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        document: dict[str, Any] = plain(self)
        return document


def result_of(ticket: RestartTicket, progress: PodProgress) -> DecommissionResult:
    """Return the result of a pod whose turn is over, or that never had one."""
    began, ended = progress.began_at, progress.ended_at
    duration = (ended - began).total_seconds() if began is not None and ended is not None else 0.0
    error: str | None = progress.error or None
    if progress.state is DecommissionState.PENDING:
        error = "; ".join(ticket.refusal) or "not begun"
    success = progress.state in {DecommissionState.COMPLETED, DecommissionState.SKIPPED}
    return DecommissionResult(
        pod_name=progress.name,
        namespace=ticket.cluster.namespace,
        strategy_used=progress.strategy.value,
        success=success,
        duration=duration,
        error=None if success else error,
        started_at=began,
        completed_at=ended,
        process_exited=progress.out_at is not None,
        decommission_timeout=int(progress.timeout_s or 720),
        uid_before=progress.uid or None,
        uid_after=progress.uid_after or None,
        restarted_in_place=progress.restarted_in_place,
        notes=(*progress.notes, *ticket.notes),
    )


def not_found(pod_name: str, namespace: str) -> DecommissionResult:
    """Return the result of a pod that does not exist."""
    return DecommissionResult(
        pod_name,
        namespace,
        "unknown",
        success=False,
        duration=0.0,
        error=f"Pod not found: {pod_name}",
    )


def results_of(ticket: RestartTicket) -> list[DecommissionResult]:
    """Return the result of every pod of a ticket, in their order."""
    return [result_of(ticket, progress) for progress in ticket.pods]


def exit_code(conclusions: Sequence[Conclude]) -> int:
    """Return what a script sees: 0 done, 3 refused and nothing touched, 1 anything else.

    >>> exit_code([Conclude(RestartOutcome.COMPLETED)]), exit_code([])
    (0, 0)
    >>> exit_code([Conclude(RestartOutcome.REFUSED)])
    3
    """
    outcomes = {each.outcome for each in conclusions}
    if outcomes <= {RestartOutcome.COMPLETED}:
        return 0
    return 3 if outcomes == {RestartOutcome.REFUSED} else 1
