"""The loop of a restart: look, ask the core, remember, act, remember. It knows no Dagster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from caretaker.decommission.cluster_settings import ALLOCATION
from caretaker.decommission.events import RestartEvent
from caretaker.decommission.model import Observation
from caretaker.decommission.restart import after, next_step, stopped
from caretaker.decommission.steps import (
    LOOK_AGAIN_S,
    Action,
    Await,
    Conclude,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    SetGlobal,
    Step,
    Verdict,
)
from caretaker.decommission.ticket import DecommissionState, RestartTicket
from caretaker.errors import CaretakerError, TransientError, UnsafeError
from caretaker.translog.model import Owner
from ops.decommission_look import Looker
from ops.decommission_perform import Performer
from ops.events import Event
from ops.guard import NAP_S, Guard, OrphanedError
from ops.owners import lost_the_lock
from resources.clock import Clock
from resources.state_store import LookRow, RestartRow, StateStore

T = TypeVar("T")

#: What may become of a change because of the way that it went.
_IN_VAIN = frozenset({Verdict.UNKNOWN, Verdict.NOT_SENT})

#: How often a wait is told while nothing about it changes.
TELL_EVERY_S = 15.0

#: How long a store that is away, or whatever a step is made ready with, is waited for before the
#: run gives up; the ticket stays.
PATIENCE_S = 120.0

#: How long the watch may take to tell of a change that was just acknowledged.
SOON_TOLD_S = 1.0

#: What a stop raises inside a step, from whichever side.
_STOPS = (KeyboardInterrupt, OrphanedError)


@dataclass
class Hands:
    """The clients, the clock and the voice of one step, for one cluster."""

    looker: Looker
    performer: Performer
    store: StateStore
    clock: Clock
    guard: Guard
    owner: Owner
    emit: Callable[[Event], None]
    purpose: str
    way: Mapping[str, Any]
    stops: tuple[type[BaseException], ...] = _STOPS


@dataclass
class Restart:
    """A restart on its way.

    Attributes:
        held: Its row in the store; None until the first thing is to be remembered.
        conclusion: How it ended, None while it goes on.
        stops: How often this step was told to stop.
    """

    hands: Hands
    ticket: RestartTicket
    held: RestartRow | None = None
    conclusion: Conclude | None = None
    stops: int = 0
    _saved: RestartTicket | None = None
    _look: tuple[Any, ...] = ()
    _told: tuple[str, float] = ("", float("-inf"))
    _unread: set[str] = field(default_factory=set)

    def run(self, mine: Callable[[Step], bool] = lambda _: True) -> Conclude | None:
        """Go on until it has ended, or the next step is not one of `mine`.

        The first stop (Ctrl-C, Terminate, a parent that died) begins no further pod and puts back
        what was set; the second passes, and leaves the ticket.
        """
        while self.conclusion is None:
            try:
                if not self._turn(mine):
                    break
            except self.hands.stops as stop:
                self._stop(stop)
        return self.conclusion

    # --- one turn ---------------------------------------------------------------------------------

    def _turn(self, mine: Callable[[Step], bool]) -> bool:
        hands, policy = self.hands, self.ticket.policy
        call = hands.performer.calls.of(self.held.id) if self.held is not None else None
        seen = hands.looker.observe(self.ticket, call)
        step = next_step(seen, self.ticket, policy, hands.clock.now())
        if not mine(step):
            return False
        if self.held is None and isinstance(step.action, Conclude):
            # Nothing was touched, so nothing needs to be remembered.
            self.ticket, self.conclusion = step.ticket, step.action
            self._tell(step)
            return False
        self._remember(step.ticket)
        self._note(seen)
        self._say_what_is_unknown()
        self._tell(step)
        if isinstance(step.action, Conclude):
            self.conclusion = step.action
            return False
        if isinstance(step.action, Await):
            self._wait(step.action)
            return True
        self._act(step)
        return True

    def _act(self, step: Step) -> None:
        held, hands = self.held, self.hands
        if held is None:
            raise AssertionError("remembered before it acts")
        performer = hands.performer
        entry = self.patiently(lambda: performer.begin(step.action, held))
        answer = performer.perform(
            step.action,
            held,
            entry,
            through=hands.looker.through,
            good_until=hands.looker.looked_at + step.good_for_s,
        )
        if answer.verdict in _IN_VAIN and not isinstance(step.action, DeletePod):
            hands.looker.shunned = hands.looker.through
        if answer.verdict is not Verdict.DONE:
            fields = {"reason": f"{_name(step.action)}: {answer.verdict.value}, {answer.reason}"}
            self._say("note", fields, level=logging.WARNING)
        self._remember(after(self.ticket, step.action, answer, hands.clock.now()))
        if answer.verdict is not Verdict.DONE:
            self._nap(LOOK_AGAIN_S)
        elif isinstance(step.action, DeletePod):
            # The watch tells of it in a moment; a look before that would see a pod untouched.
            self._nap(SOON_TOLD_S, until_change=True)

    def _wait(self, action: Await) -> None:
        now = self.hands.clock.monotonic()
        what, told_at = self._told
        if what != action.what or now - told_at >= TELL_EVERY_S:
            self._told = (action.what, now)
            sentence = action.sentence(self.hands.clock.now())
            self._say("waiting", {"reason": sentence, "what": action.what})
        self._nap(action.look_again_s, until_change=True)

    def _nap(self, seconds: float, *, until_change: bool = False) -> None:
        """Sleep in naps; a pod that changes ends it early."""
        deadline = self.hands.clock.monotonic() + seconds
        while (rest := deadline - self.hands.clock.monotonic()) > 0:
            if self.stops == 0:
                self.hands.guard.look_around()
            nap = min(NAP_S, rest)
            if not until_change:
                self.hands.clock.sleep(nap)
            elif self.hands.looker.look.wait(nap):
                return

    # --- remembering ------------------------------------------------------------------------------

    def _remember(self, ticket: RestartTicket) -> None:
        """Make a ticket durable; a store that is away is waited for, before any effect."""
        self.ticket = ticket
        if ticket == self._saved:
            return
        self.patiently(lambda: self._save(ticket))
        self._saved = ticket

    def patiently(self, ask: Callable[[], T]) -> T:
        """Return what the store answers; one that is away is waited for."""
        return patiently(
            ask,
            self.hands.clock,
            lambda error: self._say("note", {"reason": str(error)}, level=logging.WARNING),
        )

    def _save(self, ticket: RestartTicket) -> None:
        store, hands = self.hands.store, self.hands
        if self.held is None:
            cluster = ticket.cluster
            if lost := lost_the_lock(store, hands.owner, cluster.id):
                raise UnsafeError(f"{cluster}: {lost[0]}", target=str(cluster))
            self.held = store.open_restart(
                ticket, hands.owner, purpose=hands.purpose, way=hands.way
            )
        else:
            self.held = store.save_restart(self.held, ticket)

    def _stop(self, stop: BaseException) -> None:
        self.stops += 1
        if self.stops > 1 or self.held is None:
            raise stop
        reason = (
            "its parent process died"
            if isinstance(stop, OrphanedError)
            else ("stopped by the operator")
        )
        self._say("note", {"reason": f"{reason}: no further pod is begun"}, level=logging.WARNING)
        self._remember(stopped(self.ticket, self.hands.clock.now(), reason))

    def _note(self, seen: Observation) -> None:
        """Record what is seen where it has changed, for the picture; it may fail."""
        crate, current = seen.crate, self.ticket.current
        state = current.state if current is not None else DecommissionState.PENDING
        look = (
            crate.health if crate is not None else None,
            str(crate.settings.get(ALLOCATION)) if crate is not None else None,
            len(crate.nodes) if crate is not None else None,
            crate.relocating if crate is not None else None,
            current.name if current is not None else "",
            state.value if current is not None else "",
        )
        if look == self._look or self.held is None:
            return
        self._look = look
        try:
            self.hands.store.add_look(self.held.id, LookRow(self.hands.clock.now(), *look))
        except CaretakerError as error:
            self._say("note", {"reason": str(error)}, level=logging.WARNING)

    # --- telling ----------------------------------------------------------------------------------

    def _say_what_is_unknown(self) -> None:
        """Say once which right is missing where something is unknown, and the restart goes on."""
        for resource, error in self.hands.looker.look.unreadable.items():
            if resource not in self._unread:
                self._unread.add(resource)
                self._say("note", {"reason": error.sentence}, level=logging.WARNING)

    def _tell(self, step: Step) -> None:
        for event in step.events:
            tell(self.hands.emit, event, self.hands.owner.run_id)

    def _say(self, name: str, fields: dict[str, Any], *, level: int = logging.INFO) -> None:
        told = {"run_id": self.hands.owner.run_id, "cluster": str(self.ticket.cluster), **fields}
        self.hands.emit(Event(name, None, told, level))


def patiently(ask: Callable[[], T], clock: Clock, tell: Callable[[TransientError], None]) -> T:
    """Return what `ask` returns, asking again, PATIENCE_S long, while it raises TransientError."""
    deadline = clock.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except TransientError as error:
            if clock.monotonic() > deadline:
                raise
            tell(error)
            clock.sleep(NAP_S)


@dataclass(frozen=True)
class Told(Event):
    """An event of the core, which has its own sentence."""

    text: str = ""

    def sentence(self) -> str:
        """Return it as a person reads it."""
        return self.text


def tell(emit: Callable[[Event], None], event: RestartEvent, run_id: str) -> None:
    """Emit an event of the core as one of the run's."""
    level = logging.WARNING if event.warning else logging.DEBUG if event.detail else logging.INFO
    fields = {**event.as_fields(), "run_id": run_id}
    emit(Told(event.name.value, None, fields, level, event.sentence()))


def _name(action: Action) -> str:
    names: dict[type[Any], str] = {
        SetGlobal: "SET GLOBAL",
        ResetGlobal: "RESET GLOBAL",
        DecommissionNode: "DECOMMISSION",
        DeletePod: "delete",
    }
    return names.get(type(action), type(action).__name__)
