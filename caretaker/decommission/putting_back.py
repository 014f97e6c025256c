"""Settings: what a drain wants, what is owed afterwards, and the order in which it is paid.

RESET GLOBAL clears both levels, so an operator's persistent value goes with ours; only a SET
PERSISTENT brings it back (seen live). `sys.cluster.settings` shows the effective value alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from caretaker.decommission.cluster_settings import (
    ALLOCATION,
    DEFAULTS,
    FORCE,
    KEYS,
    MIN_AVAILABILITY,
    TIMEOUT,
    same_value,
)
from caretaker.decommission.facts import stayed
from caretaker.decommission.model import KubeSeen, MinAvailability, Observation
from caretaker.decommission.policy import AllocationMode, RestartPolicy
from caretaker.decommission.steps import ResetGlobal, SetGlobal
from caretaker.decommission.strategy import forces
from caretaker.decommission.ticket import PodProgress, Remembered, RestartTicket
from caretaker.identifiers import SqlValue

#: What an empty node that hangs is given to end (seen live: exit 0 after 3-5 s).
SHORT_TIMEOUT = "5s"

#: What dc_util restricts allocation to (its source, and older versions of it).
_DC_UTIL_ALLOCATIONS = frozenset({"primaries", "new_primaries"})

Settings = Mapping[str, SqlValue]


def wanted(policy: RestartPolicy, timeout_s: float) -> dict[str, SqlValue]:
    """Return what a manual drain needs, in the order of setting it."""
    values: dict[str, SqlValue] = {
        TIMEOUT: f"{timeout_s:g}s",
        FORCE: True,
        MIN_AVAILABILITY: policy.min_availability.value,
    }
    if policy.allocation is not AllocationMode.ALL:
        values[ALLOCATION] = policy.allocation.value
    return values


def setup(policy: RestartPolicy, timeout_s: float, now: Settings) -> list[SetGlobal]:
    """Return the statements that are left until the settings are what a drain needs.

    >>> [each.key for each in setup(RestartPolicy(), 720, {TIMEOUT: "720s", FORCE: True})]
    ['cluster.graceful_stop.min_availability', 'cluster.routing.allocation.enable']
    """
    needs = wanted(policy, timeout_s)
    of = len(needs) + 1
    return [
        SetGlobal(key, value, timeout_s=policy.statement_timeout_s, number=number, of=of)
        for number, (key, value) in enumerate(needs.items(), start=1)
        if key not in now or not same_value(key, now[key], value)
    ]


def remember(now: Settings) -> tuple[Remembered, ...]:
    """Return the four settings as they are, before anything is touched."""
    return tuple(Remembered(key, now[key]) for key in KEYS if key in now)


def touching(ticket: RestartTicket, action: SetGlobal) -> RestartTicket:
    """Return the ticket that is durable before a SET of ours is sent."""
    was = ticket.remembered(action.key)
    if was is None or action.value is None:
        return ticket
    ours = was.ours if action.value in was.ours else (*was.ours, action.value)
    return ticket.with_setting(
        replace(was, ours=ours, unanswered=True, reset_done=False, persist_done=False)
    )


def learn_leftovers(ticket: RestartTicket, seen: Observation) -> RestartTicket:
    """Take what differs after a managed drain for dc_util's: it leaves its settings behind (live).

    Only once for each setting: what changes later is somebody else's, and so is a value that
    dc_util does not set, and all where the pod has never been on its way. What an operator may
    have set meanwhile is noted.
    """
    pod = next((each for each in ticket.pods if each.leftovers_unknown), None)
    if pod is None or seen.crate is None:
        return ticket
    if stayed(pod, seen):
        return ticket.with_pod(replace(pod, leftovers_known=True))
    odd: list[str] = []
    for was in ticket.settings:
        value = seen.crate.settings.get(was.key)
        if was.ours or value is None or same_value(was.key, value, was.before):
            continue
        if not _may_be_dc_utils(was.key, value, pod, seen.kube):
            odd.append(f"{was.key} is {value!r} by now, which dc_util does not set: left alone")
            continue
        timeouts = (pod.timeout_s, pod.drain_limit_s)
        if was.key == TIMEOUT and not any(same_value(TIMEOUT, value, f"{s:g}s") for s in timeouts):
            odd.append(
                f"{was.key} was {value!r} after the drain of {pod.name}: taken for dc_util's, and "
                f"put back to {was.before!r}"
            )
        ticket = ticket.with_setting(replace(was, ours=(value,)))
    return ticket.with_pod(replace(pod, leftovers_known=True, notes=(*pod.notes, *odd)))


def next_payment(
    ticket: RestartTicket, now: Settings, timeout_s: float = 60.0
) -> SetGlobal | ResetGlobal | None:
    """Return the next statement that puts something back, or None where nothing is owed.

    Everything of ours is reset first, in one statement; then each value that an operator had set
    is set again.
    """
    to_reset = [was.key for was in ticket.settings if _needs_reset(was, now.get(was.key))]
    if to_reset:
        return ResetGlobal(tuple(to_reset), timeout_s=timeout_s)
    for was in ticket.settings:
        if _needs_persistent(was, now.get(was.key)):
            return SetGlobal(was.key, was.before, persistent=True, timeout_s=timeout_s)
    return None


def remedy(ticket: RestartTicket) -> tuple[SetGlobal | ResetGlobal, ...]:
    """Return what a person must send, whatever the settings are now.

    Where nobody has looked yet what dc_util has left behind, that may be any of them.
    """
    unknown = any(pod.leftovers_unknown for pod in ticket.pods)
    touched = [was for was in ticket.settings if was.ours or unknown]
    if not touched:
        return ()
    again = [
        SetGlobal(was.key, was.before, persistent=True)
        for was in touched
        if not same_value(was.key, was.before, DEFAULTS[was.key])
    ]
    return (ResetGlobal(tuple(was.key for was in touched)), *again)


def foreign(ticket: RestartTicket, now: Settings) -> list[str]:
    """Say which settings somebody else has changed meanwhile: those are left as they are."""
    return [
        f"{was.key} is {now[was.key]!r} by now: neither what it was ({was.before!r}) nor ours, "
        "so it was left alone"
        for was in ticket.settings
        if was.ours and was.key in now and _is_foreign(was, now[was.key])
    ]


def changed_by_others(ticket: RestartTicket, now: Settings) -> list[str]:
    """Say which settings are not as they were, and not by us, before a drain has begun."""
    return [
        f"{was.key} is {now[was.key]!r} by now, and was {was.before!r}"
        for was in ticket.settings
        if was.key in now
        and not any(same_value(was.key, now[was.key], each) for each in (was.before, *was.ours))
    ]


def forgotten(ticket: RestartTicket) -> RestartTicket:
    """Return the ticket once all is put back: whatever changes from now on is somebody else's."""
    settings = tuple(Remembered(was.key, was.before) for was in ticket.settings)
    return replace(ticket, settings=settings)


def put_back_by_hand(ticket: RestartTicket, now: Settings) -> RestartTicket:
    """Return the ticket with what is as it was taken for put back: a person says that it is."""
    for was in ticket.settings:
        back = was.key in now and same_value(was.key, now[was.key], was.before)
        if back and not was.unanswered:
            ticket = ticket.with_setting(replace(was, reset_done=True))
    return ticket


def reset_sent(ticket: RestartTicket, keys: Iterable[str]) -> RestartTicket:
    """Return the ticket after an acknowledged RESET."""
    for key in keys:
        was = ticket.remembered(key)
        if was is not None:
            done = replace(was, unanswered=False, reset_done=True, persist_done=False)
            ticket = ticket.with_setting(done)
    return ticket


def _may_be_dc_utils(key: str, value: SqlValue, pod: PodProgress, kube: KubeSeen | None) -> bool:
    """Whether this pod's hook can have set it; of no timeout can that be ruled out."""
    if key == ALLOCATION:
        return str(value).lower() in _DC_UTIL_ALLOCATIONS
    if key == MIN_AVAILABILITY:
        # NONE is also what is not known.
        kept = pod.min_availability
        return kept is MinAvailability.NONE or same_value(key, value, kept.value)
    if key == FORCE and str(value).lower() != "true":
        hooks = kube.statefulsets if kube is not None else ()
        return any(each.name == pod.statefulset and not forces(each) for each in hooks)
    return True


def _needs_reset(was: Remembered, value: SqlValue) -> bool:
    if not was.ours or value is None:
        return False
    if same_value(was.key, value, was.before):
        # Ours may land later still, or the node that was asked lags: after an acknowledged RESET
        # neither matters. What an operator has put back himself is set anew where that clears it.
        return was.unanswered or not was.reset_done
    if not any(same_value(was.key, value, ours) for ours in was.ours):
        return False
    is_default = same_value(was.key, value, DEFAULTS[was.key])
    # Ours may equal the default: then only the flags tell a cleared setting from one of ours, and
    # a SET PERSISTENT that stays hidden shows that something transient is still there.
    return not is_default or not was.reset_done or was.persist_done


def _needs_persistent(was: Remembered, value: SqlValue) -> bool:
    if not was.ours or value is None or same_value(was.key, value, was.before):
        return False
    return same_value(was.key, value, DEFAULTS[was.key])


def _is_foreign(was: Remembered, value: SqlValue) -> bool:
    known = (was.before, DEFAULTS[was.key], *was.ours)
    return not any(same_value(was.key, value, each) for each in known)
