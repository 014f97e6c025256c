"""A managed pod that was given up on its way out: its preStop hook may run yet, or again.

Its kubelet, or its whole machine, may only have been cut off. What the hook then leaves behind
would be owed by nobody, so its ticket is kept open until a look shows that the pod is out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from caretaker.decommission.facts import body_of
from caretaker.decommission.model import Observation
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.putting_back import changed_by_others, remedy
from caretaker.decommission.steps import Await, Conclude, RestartOutcome
from caretaker.decommission.ticket import PodProgress, RestartTicket


def hook_to_end(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime
) -> Await | None:
    """Return the wait for the hook of a pod that an earlier owner gave up; None: it left no trace.

    What differs may be what its drain runs under, and a RESET would end that (seen live). The owner
    who gives a pod up has waited for as long already.
    """
    pod, taken_over_at = _on_its_way(seen, ticket), ticket.resumed_at
    if pod is None or pod.ended_at is None or seen.crate is None:
        return None
    if taken_over_at is None or taken_over_at < pod.ended_at:
        return None
    until = taken_over_at + timedelta(seconds=pod.drain_limit_s + policy.ready_margin_s)
    changed = changed_by_others(ticket, seen.crate.settings)
    if not changed or now >= until:
        return None
    what = f"pod {pod.name} to end, whose preStop hook seems to run"
    return Await(what, "; ".join(changed), taken_over_at, until)


def kept_open(
    seen: Observation, ticket: RestartTicket, conclusion: Conclude
) -> tuple[RestartTicket, Conclude]:
    """Return how a restart ends: with its ticket open as long as a hook may run."""
    pod = _on_its_way(seen, ticket)
    if pod is None:
        return ticket, conclusion
    # Whoever takes over looks once more what it has left behind.
    ticket = ticket.with_pod(replace(pod, leftovers_known=False))
    reason = (
        f"{conclusion.reason}; pod {pod.name} is not known to have ended, so its preStop hook may "
        "run yet: the ticket stays open, and what the hook leaves behind can be put back only once "
        "the pod is out"
    )
    return ticket, Conclude(RestartOutcome.NOT_RESTORED, reason, remedy(ticket))


def _on_its_way(seen: Observation, ticket: RestartTicket) -> PodProgress | None:
    """Return the pod that was given up, unless it is there and not on its way out after all."""
    pod = ticket.given_up
    if pod is None:
        return None
    body = body_of(pod, seen)
    stays = body.pod is not None and not body.leaving
    return None if stays else pod
