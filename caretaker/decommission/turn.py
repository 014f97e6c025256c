"""One look at the pod that is under way: what its steps are given, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from caretaker.decommission.events import EventName, RestartEvent
from caretaker.decommission.facts import Body, body_of
from caretaker.decommission.model import DecommissionStrategy, KubeSeen, Observation
from caretaker.decommission.payment import pay_back
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.steps import (
    LOOK_AGAIN_S,
    SETTING_WITHIN_S,
    Action,
    Await,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    SetGlobal,
    Step,
    as_sql,
)
from caretaker.decommission.ticket import DecommissionState, PodProgress, RestartTicket

#: The delete of a node that will end in a moment must not come late: a restarted process joins
#: 3-4 s after its start (seen live).
DELETE_WITHIN_S = 2.0

#: A node that has not been in `sys.nodes` for so long is not one that a look has missed.
AWAY_FOR_GOOD_S = 30.0

#: Nothing runs away where no process is about to end, and a look by exec may take seconds.
BEGIN_WITHIN_S = 10.0


@dataclass
class Turn:
    """One look at the pod under way: the arguments of every function here, and what to tell."""

    seen: Observation
    kube: KubeSeen
    ticket: RestartTicket
    policy: RestartPolicy
    now: datetime
    #: What to do where nothing is left to be done for this pod.
    next: Callable[[Observation, RestartTicket, RestartPolicy, datetime], Step]
    events: list[RestartEvent] = field(default_factory=list)

    @property
    def pod(self) -> PodProgress:
        """The progress of the pod under way."""
        current = self.ticket.current
        if current is None:
            raise AssertionError("no pod is under way")
        return current

    @property
    def body(self) -> Body:
        """What is of it now."""
        return body_of(self.pod, self.seen)

    @property
    def managed(self) -> bool:
        """Its preStop hook drains it."""
        return self.pod.strategy is DecommissionStrategy.KUBERNETES_MANAGED

    def change(self, **changes: object) -> None:
        """Write something about the pod under way into the ticket."""
        self.ticket = self.ticket.with_pod(replace(self.pod, **changes))  # type: ignore[arg-type]

    def enter(self, state: DecommissionState) -> None:
        """Let the pod stand where it stands, and tell when that is new."""
        before = self.pod.state
        if before is not state:
            self.change(state=state)
            self.tell(EventName.STATE, from_state=before.value, to_state=state.value)

    def note(self, text: str) -> None:
        """Remember for the result what was no failure; once."""
        if text not in self.pod.notes:
            self.change(notes=(*self.pod.notes, text))
            self.events.append(
                RestartEvent(EventName.NOTE, self.pod.name, {"reason": text}, warning=True)
            )

    def tell(self, name: EventName, *, warning: bool = False, **fields: object) -> None:
        """Say what happens with the pod under way."""
        self.events.append(RestartEvent(name, self.pod.name, fields, warning=warning))

    def step(self, action: Action, good_for_s: float = SETTING_WITHIN_S) -> Step:
        """Return what to do next."""
        return Step(self.ticket, action, tuple(self.events), good_for_s)

    def wait(
        self,
        what: str,
        how_far: str,
        since: datetime,
        until: datetime,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> Step:
        """Wait, or give the pod up where it has taken too long."""
        if self.now >= until:
            waited = (self.now - since).total_seconds()
            far = f": {how_far}" if how_far else ""
            return self.fail(f"gave up waiting for {what} after {waited:.0f} s{far}")
        return self.step(Await(what, how_far, since, until, look_again_s))

    def fail(self, reason: str) -> Step:
        """End the pod's turn with an error; what is owed is put back next."""
        name = self.pod.name
        self.tell(EventName.FAILED, warning=True, reason=reason)
        self.change(state=DecommissionState.FAILED, error=reason, ended_at=self.now)
        return self.on(name)

    def on(self, _: str = "") -> Step:
        """Go on with the cluster; what was told here comes first."""
        step = self.next(self.seen, self.ticket, self.policy, self.now)
        return replace(step, events=(*self.events, *step.events))

    def plus(self, at: datetime, seconds: float) -> datetime:
        """A moment so many seconds later; a takeover is given the same time again."""
        base = max(at, self.ticket.resumed_at) if self.ticket.resumed_at is not None else at
        return base + timedelta(seconds=seconds)


def delete(turn: Turn, grace_s: int, reason: str) -> Step:
    """Delete the pod under way, as it was seen; remembered first, told the first time."""
    pod = turn.pod
    first = pod.deleted_at is None
    turn.enter(DecommissionState.DELETING)
    if first:
        turn.change(deleted_at=turn.now)
        name = EventName.GRACE if turn.managed else EventName.DELETE
        turn.tell(name, grace_s=grace_s, reason=reason)
    seen = turn.body.pod
    version = seen.resource_version if seen is not None else ""
    good_for_s = DELETE_WITHIN_S if pod.drain is not None else BEGIN_WITHIN_S
    return turn.step(DeletePod(pod.name, pod.uid, grace_s, version, first=first), good_for_s)


def pay_while_away(turn: Turn) -> Step | None:
    """Put settings back although the old process is not known to have ended; None: nothing to do.

    A node that has been out of the cluster for so long learns of no setting, so a RESET cannot end
    its drain any more; and with allocation restricted its replicas would stay away as long as its
    machine, or its stuck pod, does.
    """
    crate, pod = turn.seen.crate, turn.pod
    if crate is None or turn.body.node is not None:
        return None
    if since_s(pod.away_since, turn.now) < AWAY_FOR_GOOD_S:
        return None
    paid = pay_back(turn.seen, turn.ticket, turn.policy, turn.now)
    if paid.action is not None and not isinstance(paid.action, SetGlobal | ResetGlobal):
        return None
    turn.ticket = paid.ticket
    turn.events += paid.events
    if paid.action is None:
        return None
    return turn.step(paid.action)


def tell_statement(turn: Turn, action: SetGlobal | DecommissionNode) -> None:
    """Tell a statement of a manual drain, with its number."""
    fields = {"number": action.number, "of": action.of, "sql": as_sql(action)}
    turn.events.append(RestartEvent(EventName.STATEMENT, turn.pod.name, fields, detail=True))


def since_s(at: datetime | None, now: datetime) -> float:
    """Seconds since a moment; negative where it is to come, 0 where there is none."""
    return (now - at).total_seconds() if at is not None else 0.0
