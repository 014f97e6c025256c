"""Watch the leases of a table at 0 replicas, for as long as that is worth it."""

from __future__ import annotations

from typing import NamedTuple

from caretaker.backoff import wait_ladder
from caretaker.errors import CaretakerError, RefusedError
from caretaker.translog.leases import LeaseReading, LeaseVerdict, read_leases
from caretaker.translog.model import ResetState, ResetTicket
from caretaker.translog.policy import ResetPolicy
from ops.hands import Hands


class Watched(NamedTuple):
    """How a watch ended.

    Attributes:
        verdict: clear, timed_out, primary_lost, changed or unreadable.
        reason: Why, in words; '' when clear.
        waited_s: How long it took.
    """

    verdict: str
    reason: str
    waited_s: float


def watch_leases(hands: Hands, ticket: ResetTicket, policy: ResetPolicy) -> Watched:
    """Look at once, after every wait, and at the deadline; stop as soon as waiting is pointless."""
    started = hands.clock.monotonic()
    pauses = [*wait_ladder(policy.wait_ladder_s, policy.max_wait_s), None]
    reading = LeaseReading(LeaseVerdict.WAITING, 0, 0, "not read yet")
    verdict, reason = "", ""
    for attempt, pause in enumerate(pauses, start=1):
        now = hands.reading(lambda: hands.crate.observe(ticket.target))
        if isinstance(now, RefusedError):
            verdict, reason = "unreadable", f"the leases cannot be read any more: {now}"
        elif isinstance(now, CaretakerError):
            reading = LeaseReading(reading.verdict, reading.leases, reading.wanted, str(now))
        elif now is not None and now.number_of_replicas != "0":
            verdict, reason = "changed", f"number_of_replicas became {now.number_of_replicas!r}"
        else:
            reading = read_leases(now)
            verdict, reason = _judged(reading)
        _report(hands, ticket, reading, attempt, len(pauses), None if verdict else pause)
        if verdict or pause is None:
            break
        hands.guard.pause(pause)
        hands.store.check_epoch(ticket)
    waited = hands.clock.monotonic() - started
    if not verdict:
        verdict, reason = "timed_out", _timed_out(reading, ticket, waited)
    return Watched(verdict, reason, waited)


def _judged(reading: LeaseReading) -> tuple[str, str]:
    if reading.verdict is LeaseVerdict.CLEAR:
        return "clear", ""
    if reading.verdict is LeaseVerdict.PRIMARY_LOST:
        return "primary_lost", f"primary lost while replicas were 0: {reading.detail}"
    return "", ""


def _timed_out(reading: LeaseReading, ticket: ResetTicket, waited_s: float) -> str:
    return (
        f"leases did not clear in {waited_s:.0f} s: {reading.leases} now, {reading.wanted} wanted; "
        f"number_of_replicas goes back to '{ticket.original_replicas}'. CrateDB expires them every "
        "30 s since 6.0 and every 5 min before, so a longer max_wait may help"
    )


def _report(
    hands: Hands,
    ticket: ResetTicket,
    reading: LeaseReading,
    attempt: int,
    attempts: int,
    pause: float | None,
) -> None:
    hands.say(
        ticket.target,
        "leases",
        state=ResetState.MONITORING_LEASES.value,
        leases=reading.leases,
        wanted=reading.wanted,
        attempt=attempt,
        attempts=attempts,
        next_look_s=pause,
        reason=reading.detail or "clear",
    )
