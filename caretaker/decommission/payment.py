"""Putting settings back: one statement at a time, until a look shows that nothing is owed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from caretaker.decommission.events import EventName, RestartEvent
from caretaker.decommission.model import Observation
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.putting_back import (
    Settings,
    foreign,
    forgotten,
    learn_leftovers,
    next_payment,
    remedy,
)
from caretaker.decommission.steps import (
    Action,
    Await,
    Conclude,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    as_sql,
)
from caretaker.decommission.ticket import RestartTicket


@dataclass(frozen=True, slots=True)
class Payment:
    """What is next for the settings; no action: nothing is owed."""

    ticket: RestartTicket
    action: Action | None
    events: tuple[RestartEvent, ...] = ()


def pay_back(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime
) -> Payment:
    """Return the statement that puts something back, a wait for CrateDB, or the end of patience.

    Asked only when no drain is in flight: a RESET before the exit aborts it (seen live). Once all
    is put back and nothing of ours can land any more, what was ours is forgotten: whoever sets the
    same value afterwards means it.
    """
    if not ticket.settings:
        return Payment(ticket, None)
    unknown = any(pod.leftovers_unknown for pod in ticket.pods)
    if not unknown and not any(was.ours for was in ticket.settings):
        return Payment(ticket, None)
    since = ticket.put_back_since or now
    until = since + timedelta(seconds=policy.restore_timeout_s)
    action: ResetGlobal | SetGlobal | None = None
    blind = seen.crate is None or any(
        seen.crate.settings.get(was.key) is None for was in ticket.settings
    )
    if seen.crate is not None and not blind:
        ticket = learn_leftovers(ticket, seen)
        action = next_payment(ticket, seen.crate.settings, policy.statement_timeout_s)
        if action is None:
            return _paid(ticket, seen.crate.settings, policy, now)
    ticket = replace(ticket, put_back_since=since)
    if now >= until:
        why = ticket.error or seen.crate_error or "they read otherwise all the same"
        waited = (now - since).total_seconds()
        reason = f"settings could not be put back in {waited:.0f} s: {why}"
        return Payment(ticket, Conclude(RestartOutcome.NOT_RESTORED, reason, remedy(ticket)))
    if action is None:
        what = "CrateDB to answer, so that settings can be put back"
        return Payment(ticket, Await(what, seen.crate_error, since, until))
    if isinstance(action, SetGlobal):
        nap = landing(ticket.reset_lost_at, policy, now, f"then {as_sql(action)}")
        if nap is not None:
            return Payment(ticket, nap)
    if isinstance(action, ResetGlobal):
        ticket = replace(ticket, reset_open=True)
    event = RestartEvent(EventName.PUT_BACK, fields={"sql": as_sql(action)})
    return Payment(ticket, action, (event,))


def _paid(
    ticket: RestartTicket, settings: Settings, policy: RestartPolicy, now: datetime
) -> Payment:
    """Say what was left alone, once, and forget what was ours where nothing of it can land."""
    pod, events = ticket.current, []
    for text in foreign(ticket, settings) if pod is not None else ():
        if pod is not None and text not in pod.notes:
            pod = replace(pod, notes=(*pod.notes, text))
            events.append(RestartEvent(EventName.NOTE, pod.name, {"reason": text}, warning=True))
    ticket = ticket.with_pod(pod) if pod is not None else ticket
    ticket = replace(ticket, put_back_since=None, error="")
    if still_to_land(ticket, policy, now) is None:
        ticket = forgotten(ticket)
    return Payment(ticket, None, tuple(events))


def still_to_land(ticket: RestartTicket, policy: RestartPolicy, now: datetime) -> Await | None:
    """Return the wait for what nobody answered; None: nothing of ours lands any more.

    A SET that lands after the RESET would stay for ever, and a RESET that lands in the next pod's
    drain would end that.
    """
    moments = (ticket.reset_lost_at, *(was.lost_at for was in ticket.settings))
    lost_at = max((each for each in moments if each is not None), default=None)
    return landing(lost_at, policy, now, "what was set is put back")


def landing(
    lost_at: datetime | None, policy: RestartPolicy, now: datetime, how_far: str
) -> Await | None:
    """Return the wait for what was given up unanswered at `lost_at`; None: it lands no more."""
    if lost_at is None:
        return None
    until = lost_at + timedelta(seconds=policy.statement_timeout_s)
    what = "a statement that was never answered to land, or not to"
    return Await(what, how_far, lost_at, until) if now < until else None
