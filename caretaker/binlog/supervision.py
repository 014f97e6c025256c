"""Whether a sync must be started, given up, or left alone: looks, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

#: Six signs of life of 5 s each that did not come, and as much again for a slow machine.
STALE_AFTER = timedelta(seconds=60)
#: So long a run that seems dead is looked at again: after an outage of MongoDB, or when the machine
#: slept, its last sign of life is old, and the next one comes within the breaker's longest pause.
SUSPECTED_FOR = timedelta(seconds=30)
#: A run connects, proves transactions and recovers before its first sign of life.
BELIEVED_FOR = timedelta(seconds=120)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0


class Ending(StrEnum):
    """How a run ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Running:
    """A run that is not over for Dagster.

    Attributes:
        started_at: None while it waits in the queue.
    """

    run_id: str
    status: str
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over.

    Attributes:
        resumed: An operator took back that he terminated it.
        wrote: It left the trail longer than it found it: it says nothing against the next one.
    """

    run_id: str
    how: Ending
    at: datetime
    resumed: bool = False
    wrote: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """What the trail says: who writes it, and when he last did.

    Attributes:
        reachable: MongoDB answered; otherwise nothing else here means anything.
        begun: The trail has an end, so that nothing has to be said of where it begins.
        seq: Of the last document in the trail.
        paused: By whom and why; empty where it is not.
        gone: Which process of the holder is known to have ended; empty where that is not known,
            as of one on another host.
    """

    reachable: bool
    holder_run_id: str = ""
    seen_at: datetime | None = None
    paused: str = ""
    gone: str = ""
    begun: bool = False
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A run that seems dead: whose last sign of life this was, and since when it seems so."""

    run_id: str
    seen_at: datetime | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run under a key that no other decision on the same past has."""

    run_key: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Mark a run as failed: nobody works in its name."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """Do nothing, and say why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """Do nothing yet, and hand this over to the next look."""

    suspicion: Suspicion
    reason: str


Decision: TypeAlias = Start | Fail | Say | Suspect


def decide(
    running: Sequence[Running],
    ended: Sequence[Ended],
    life: Life,
    now: datetime,
    suspicion: Suspicion | None = None,
) -> Decision:
    """Return what to do about a source; `running` newest first, `ended` the last to end first.

    `suspicion` is what the look before this one ended with. A look in between at which MongoDB
    was away, or the run was well, takes it back.

    A run that was canceled stays so until an operator resumes, or starts one by hand: somebody
    pressed Terminate and meant it. One that ended well is followed by the next at once.
    """
    if running:
        return _watch_all(running, life, now, suspicion)
    if life.paused:
        return Say(f"paused by {life.paused}")
    if not ended:
        return Start("first")
    last = ended[0]
    if last.how is Ending.CANCELED and not last.resumed:
        return Say(
            f"run {last.run_id[:8]} was terminated by an operator; start binlog_sync by hand, or "
            "caretaker binlog resume"
        )
    failures = failed_in_a_row(ended)
    if failures and not last.resumed:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
        left_s = pause_s - (now - last.at).total_seconds()
        if left_s > 0:
            return Say(f"{failures} failed in a row; the next starts in {left_s:.0f} s")
    return Start(f"after-{last.run_id}")


def failed_in_a_row(ended: Sequence[Ended]) -> int:
    """Return how many of the newest runs failed, one after the other, before they did any good.

    A run that waits for an end that is away lives for a minute, too: only what it wrote counts.
    """
    count = 0
    for run in ended:
        if run.how is not Ending.FAILURE or run.wrote:
            break
        count += 1
    return count


def _watch_all(
    running: Sequence[Running], life: Life, now: datetime, suspicion: Suspicion | None
) -> Decision:
    """Watch them all: one that is dead stays so, however many were started behind it."""
    found = [_watch(run, life, now, suspicion) for run in running]
    known = suspicion.run_id if suspicion is not None else ""
    for decision in found:
        if isinstance(decision, Fail):
            return decision
    suspects = [decision for decision in found if isinstance(decision, Suspect)]
    # One after the other: a second one would make us forget since when the first seems dead.
    suspects.sort(key=lambda each: each.suspicion.run_id != known)
    return suspects[0] if suspects else found[0]


def _watch(run: Running, life: Life, now: datetime, suspicion: Suspicion | None) -> Decision:
    if run.started_at is None:
        return Say(f"run {run.run_id[:8]} is {run.status}")
    if life.gone and life.holder_run_id == run.run_id:
        # A code server that was killed together with its run leaves it started for ever.
        return Fail(run.run_id, f"run {run.run_id[:8]} is dead: {life.gone}")
    if now - run.started_at < BELIEVED_FOR or not life.reachable:
        return Say(f"run {run.run_id[:8]} is {run.status}")
    theirs = life.seen_at if life.holder_run_id == run.run_id else None
    age_s = 0.0 if theirs is None else (now - theirs).total_seconds()
    if theirs is not None and age_s <= STALE_AFTER.total_seconds():
        return Say(f"run {run.run_id[:8]} is {run.status}, seen {max(age_s, 0.0):.0f} s ago")
    reason = (
        f"run {run.run_id[:8]} never took the trail, or lost it"
        if theirs is None
        else f"no sign of life of run {run.run_id[:8]} for {age_s:.0f} s"
    )
    same = suspicion is not None and (suspicion.run_id, suspicion.seen_at) == (run.run_id, theirs)
    if suspicion is None or not same:
        return Suspect(Suspicion(run.run_id, theirs, now), f"{reason}; looking again")
    if now - suspicion.since < SUSPECTED_FOR:
        return Suspect(suspicion, f"{reason}; looking again")
    return Fail(run.run_id, reason)
