"""The interface between the core and whoever carries it out.

A restart is one loop, and the loop is all that `ops` needs::

    ticket = begin(seen, ...)                           # restart.py; UnsafeError: nothing touched
    while True:
        seen = observe(ticket)                          # I/O; a part that fails is None in it
        step = next_step(seen, ticket, policy, now)     # restart.py, pure
        ticket = save(step.ticket)                      # durable *before* the effect
        tell(step.events)
        if isinstance(step.action, Conclude):
            break
        answer = perform(step.action)                   # one effect, or one nap; never raises
        ticket = save(after(ticket, step.action, answer, now))

The process may be killed between any two lines. Whoever takes over calls `resumed(ticket, now)`
once and enters the same loop: everything that matters follows from what is now and from the ticket.

What an effect promises to its performer:

- **It is sent once**, and what came back is told as an `Answer`, whatever it was. Nothing is sent
  again without another look, and after anything but DONE only after a nap of LOOK_AGAIN_S.
- **It is stale soon.** `Step.good_for_s` is how old the observation may be when the effect leaves;
  a process that was suspended in between looks again instead.
- **DecommissionNode blocks for many minutes**, so it is *started* here (in a thread of the
  performer's) and answered at once with DONE; what becomes of it arrives as `Observation.call`.
  The client's deadline is in the action. A process that dies leaves no call behind, and the server
  drains on without it (seen live).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from caretaker.decommission.model import MinAvailability
from caretaker.identifiers import SqlValue, quote_identifier, quote_literal

if TYPE_CHECKING:
    from caretaker.decommission.events import RestartEvent
    from caretaker.decommission.ticket import RestartTicket

#: Seconds between two looks while something is awaited.
LOOK_AGAIN_S = 2.0

#: In a drained node's last 5 s there is no time for that.
LOOK_SOON_S = 0.5


@dataclass(frozen=True, slots=True)
class SetGlobal:
    """Set a cluster setting: TRANSIENT for a drain, PERSISTENT to put an operator's value back.

    Attributes:
        number, of: Which of the drain's statements it is, for the log; 0 when putting back.
    """

    key: str
    value: SqlValue
    persistent: bool = False
    timeout_s: float = 60.0
    number: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class ResetGlobal:
    """RESET GLOBAL: clears both levels, an operator's persistent value too (seen live)."""

    keys: tuple[str, ...]
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DecommissionNode:
    """Start ALTER CLUSTER DECOMMISSION; superuser only, so by exec in the pod where need be.

    Attributes:
        uid, restart_count: Of the pod that is meant: not sent where it is another by now.
        sent_at: Names the call, for `DrainCall.sent_at`.
        timeout_s: The client's deadline.
        again: Sent before, by a process that is gone or whose connection is.
    """

    node_name: str
    pod: str
    uid: str
    restart_count: int
    sent_at: datetime
    timeout_s: float = 1200.0
    number: int = 0
    of: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod, with its UID as precondition.

    Attributes:
        grace_s: Never shorter than what its hook needs; 0 only for `force`.
        resource_version: The second precondition, where it is not '': a delete that lands late, on
            a node that has come back in place meanwhile, is a 409 instead (seen live).
        force: The operator asked for it, the pod is stuck, and its node is out of the cluster.
        first: No delete of this pod was sent before.
    """

    pod: str
    uid: str
    grace_s: int
    resource_version: str = ""
    force: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Await:
    """Look again in a moment.

    Attributes:
        what: What is waited for, to follow "waiting for".
        how_far: What is there already, in numbers; '' where there is nothing to say.
        since, until: When the wait began and when it is given up; None only in a printed plan.
    """

    what: str
    how_far: str = ""
    since: datetime | None = None
    until: datetime | None = None
    look_again_s: float = LOOK_AGAIN_S

    def sentence(self, now: datetime | None = None) -> str:
        """Say it as an operator reads it."""
        text = f"waiting for {self.what}"
        if self.how_far:
            text += f": {self.how_far}"
        if now is not None and self.since is not None and self.until is not None:
            waited, allowed = (now - self.since), (self.until - self.since)
            text += f" ({waited.total_seconds():.0f} s of {allowed.total_seconds():.0f} s)"
        return text


class RestartOutcome(StrEnum):
    """How a run ended."""

    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    NOT_RESTORED = "NOT_RESTORED"


@dataclass(frozen=True, slots=True)
class Conclude:
    """There is nothing left to do. The ticket is closed, except after NOT_RESTORED.

    Attributes:
        remedy: What a person must send where the settings could not be put back.
    """

    outcome: RestartOutcome
    reason: str = ""
    remedy: tuple[SetGlobal | ResetGlobal, ...] = ()


Effect: TypeAlias = SetGlobal | ResetGlobal | DecommissionNode | DeletePod
Action: TypeAlias = Effect | Await | Conclude

#: A look by exec may take seconds, and what is put back must not wait for a fast API server: what
#: it overwrites is only what we have set.
SETTING_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to remember, then what to do.

    Attributes:
        ticket: To be durable before the action is performed.
        events: What to tell, in order, once the ticket is durable.
        good_for_s: How old the observation may be when the effect leaves; look again after that.
    """

    ticket: RestartTicket
    action: Action
    events: tuple[RestartEvent, ...] = ()
    good_for_s: float = SETTING_WITHIN_S


class Verdict(StrEnum):
    """What came back from an effect.

    DONE        acknowledged; of DecommissionNode: it was started
    NOT_SENT    nothing left this process, or nothing was applied (429, refused connection, a look
                that had grown too old): the same effect may be asked for again
    REFUSED     the system said no, and would again: privilege, validation
    CONFLICT    409: the pod is another one by now
    GONE        404: there is no such pod
    UNKNOWN     sent, no answer: it may have been applied, or may be yet
    """

    DONE = "done"
    NOT_SENT = "not_sent"
    REFUSED = "refused"
    CONFLICT = "conflict"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict and its words, such as "Forbidden"."""

    verdict: Verdict
    reason: str = ""


def as_sql(action: SetGlobal | ResetGlobal | DecommissionNode) -> str:
    r"""Return the statement for a person to read or paste; `resources` sends its own, with values.

    >>> as_sql(SetGlobal("cluster.graceful_stop.timeout", "720s"))
    'SET GLOBAL TRANSIENT "cluster.graceful_stop.timeout" = \'720s\''
    """
    if isinstance(action, SetGlobal):
        level = "PERSISTENT" if action.persistent else "TRANSIENT"
        key, value = quote_identifier(action.key), quote_literal(action.value)
        return f"SET GLOBAL {level} {key} = {value}"
    if isinstance(action, ResetGlobal):
        return "RESET GLOBAL " + ", ".join(quote_identifier(key) for key in action.keys)
    return f"ALTER CLUSTER DECOMMISSION {quote_literal(action.node_name)}"


def describe(action: Action, min_availability: MinAvailability | None = None) -> str:
    """Say an action of a plan in one line.

    >>> describe(DeletePod("crate-0", "u-1", 30))
    'delete pod crate-0 (uid u-1) with grace 30 s'
    """
    if isinstance(action, DeletePod):
        how = "force-delete" if action.force else "delete"
        return f"{how} pod {action.pod} (uid {action.uid}) with grace {action.grace_s} s"
    if isinstance(action, Await):
        return action.sentence()
    if isinstance(action, Conclude):
        return f"conclude: {action.outcome.value}"
    text = as_sql(action)
    if isinstance(action, DecommissionNode) and min_availability is not None:
        text += f" (min_availability {min_availability.value})"
    return text
