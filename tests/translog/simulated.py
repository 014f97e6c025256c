"""A table that exists on paper: carry a plan out step by step, and stop wherever a test says.

A step is what a crash can fall between: a write to the store, a statement sent, an answer noted.
What is written survives a stop; what was only known does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from caretaker.translog.model import ResetState, ResetTicket, TableObservation
from caretaker.translog.plan import (
    AwaitLeases,
    AwaitReplicas,
    Flush,
    SetReplicas,
    changed_underneath,
    plan_reset,
    plan_restore,
    unsettled,
)
from tests.translog.observed import primary, table


class Fate(Enum):
    """What becomes of the SET to 0."""

    ANSWERED = "applied and answered"
    SILENT = "applied, and the answer is lost"
    NEVER = "lost on its way"
    LATE = "applied later than the restore, unless it was settled first"


@dataclass
class Paper:
    """What CrateDB has, what the store has, and everything that was sent."""

    ticket: ResetTicket
    replicas: str
    fate: Fate = Fate.ANSWERED
    nudge: bool = True
    sent: list[str] = field(default_factory=list)
    #: Steps after which a SET to 0 that is on its way will land; None: none is.
    lands_in: int | None = None
    closed: bool = False

    @property
    def now(self) -> TableObservation:
        """The catalog's word."""
        return table(primary(), number_of_replicas=self.replicas)

    @property
    def changes_left(self) -> list[SetReplicas]:
        """The changes that the planner would still make."""
        plan = plan_reset(self.now, self.ticket, nudge=self.nudge)
        return [action for action in plan if isinstance(action, SetReplicas)]

    @property
    def zeros(self) -> int:
        """How often a SET to 0 was sent."""
        return self.sent.count("0")

    def run(self, steps: int | None = None) -> bool:
        """Plan from what is, and take at most `steps` steps; whether that was the end of it."""
        for number, _ in enumerate(self._steps()):
            if number == steps:
                return False
            self._time_passes()
        return True

    def _time_passes(self) -> None:
        if self.lands_in is not None:
            self.lands_in -= 1
            if self.lands_in < 0:
                self.lands_in = None
                self.replicas = "0"

    def _write(self, **changes: object) -> Iterator[None]:
        self.ticket = replace(self.ticket, **changes)  # type: ignore[arg-type]
        yield

    def _steps(self) -> Iterator[None]:
        # One plan is not carried out blindly: after each action the planner is asked again.
        while not self.closed:
            action = next(plan_reset(self.now, self.ticket, nudge=self.nudge), None)
            if isinstance(action, SetReplicas) and action.replicas == "0":
                yield from self._take_away()
            elif isinstance(action, SetReplicas):
                yield from self._put_back(action)
            elif isinstance(action, Flush):
                yield
                # A flush leaves no trace in the ticket: the wait that follows it does.
                yield from self._write(leases_verdict="clear")
            elif isinstance(action, AwaitLeases):
                yield from self._write(leases_verdict="clear")
            elif action is None or isinstance(action, AwaitReplicas):
                yield from self._close()

    def _take_away(self) -> Iterator[None]:
        yield from self._write(zero_sent=True, state=ResetState.SETTING_REPLICAS_ZERO)
        self.sent.append("0")
        if self.fate in {Fate.ANSWERED, Fate.SILENT}:
            self.replicas = "0"
        if self.fate is Fate.LATE:
            self.lands_in = 4
        yield
        answered = self.fate is Fate.ANSWERED
        if self.replicas == "0":
            yield from self._write(
                zero_acknowledged=answered,
                zero_confirmed=True,
                state=ResetState.MONITORING_LEASES,
            )

    def _put_back(self, action: SetReplicas) -> Iterator[None]:
        yield from self._write(state=ResetState.RESTORING_REPLICAS)
        if not any(isinstance(a, SetReplicas) for a in plan_restore(self.now, self.ticket)):
            return
        self.sent.append(action.replicas)
        self.replicas = action.replicas
        yield
        yield from self._watch()
        if self.replicas == action.replicas:
            yield from self._write(state=ResetState.VERIFYING, zero_acknowledged=True)

    def _watch(self) -> Iterator[None]:
        """Let the settle time pass where a SET to 0 may still land."""
        if unsettled(self.ticket):
            for _ in range(6):
                yield
                if self.replicas != self.ticket.original_replicas:
                    return

    def _close(self) -> Iterator[None]:
        foreign = changed_underneath(self.now, self.ticket)
        state = ResetState.FAILED if foreign else ResetState.COMPLETED
        yield from self._write(state=state)
        self.closed = True
