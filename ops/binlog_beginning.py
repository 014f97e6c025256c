"""How a sync begins: look whether all is as it must be, take the trail, say from where."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from caretaker.binlog.filters import Filters
from caretaker.binlog.model import Checkpoint
from caretaker.binlog.policy import SAVED, SyncPolicy
from caretaker.errors import TransientError, UnsafeError
from ops import binlog_events
from ops.binlog_filters import remember_filters
from ops.binlog_parts import Parts, pauses
from ops.events import Event
from resources.mongodb.offsets import Held
from resources.mysql.source import MySQLSource

#: So long a beginning waits for an end that is away: a restart, a failover, a crowded server.
BEGINS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Begun:
    """A trail that is ours.

    Attributes:
        first: Where an empty trail begins; None where the trail has an end.
        goal: The end of the source's binlog, where the sync is to end there.
    """

    held: Held
    first: Checkpoint | None
    server_uuid: str
    goal: Checkpoint | None


def begin(parts: Parts, policy: SyncPolicy, filters: Filters, closing: ExitStack) -> Begun:
    """Take the trail; what is away is waited for, for a while, and said.

    Raises:
        UnsafeError: Paused, or the start contradicts the trail; nothing touched.
        RefusedError: The source or MongoDB are not set up for it; the message says what to do.
        LostPositionError: The source no longer has what comes next.
        TransientError: One of them stays away.
    """
    parts.trail.retries.on_event = lambda name, fields: parts.say(
        binlog_events.of_the_sink(name, fields)
    )
    until = time.monotonic() + BEGINS_WITHIN_S
    for pause_s in pauses():
        with ExitStack() as taken:
            try:
                begun = _begin(parts, policy, filters, taken)
            except TransientError as error:
                left_s = until - time.monotonic()
                if left_s <= pause_s:
                    raise
                parts.say(binlog_events.waiting_to_begin(error, pause_s, left_s))
                if parts.cancel.wait(pause_s):
                    raise
                continue
            closing.push(taken.pop_all())
            return begun
    raise AssertionError("pauses never end")


def _begin(parts: Parts, policy: SyncPolicy, filters: Filters, closing: ExitStack) -> Begun:
    trail = parts.trail
    offset = trail.offset(policy.source)
    if offset.paused is not None:
        raise UnsafeError(
            f"{policy.source} is paused by {offset.paused.by}: {offset.paused.reason}",
            target=policy.source,
            hint="caretaker binlog resume",
        )
    if offset.checkpoint is not None and policy.start != SAVED:
        raise UnsafeError(
            f"the trail of {policy.source} ends at {binlog_events.place(offset.checkpoint)}: "
            f"beginning at {policy.start} would lose rows, or write them twice",
            target=policy.source,
            hint="--from saved goes on; after a loss: caretaker binlog accept-gap",
        )
    with parts.open_source() as source:
        refuse_problems(source, parts.say)
        first, server_uuid = None, offset.server_uuid
        if offset.checkpoint is None:
            first = source.at("earliest" if policy.start == SAVED else policy.start)
            server_uuid = source.facts().server_uuid
        else:
            source.verify(offset.checkpoint, offset.server_uuid or None)
        goal = source.now() if policy.until_current else None
    held = trail.acquire(policy.source, parts.holder)
    closing.callback(trail.release, held)
    for warning in trail.warnings:
        parts.say(binlog_events.warned(warning))
    recovered = trail.recover(held)
    if recovered.promoted or recovered.archived:
        fields = {"promoted": recovered.promoted, "archived": recovered.archived}
        parts.say(binlog_events.of_the_sink("recovered", fields))
    if held.checkpoint is not None:
        return Begun(held, None, held.server_uuid, goal)
    if first is None:
        raise UnsafeError("the trail was emptied while we looked", target=policy.source)
    remember_filters(trail, filters)
    return Begun(held, first, server_uuid, goal)


def refuse_problems(source: MySQLSource, say: Callable[[Event], None]) -> None:
    """Raise UnsafeError over what keeps the trail from being whole, and tell the rest."""
    problems = source.check()
    for problem in problems:
        if not problem.blocking:
            say(binlog_events.warned(str(problem)))
    blocking = [str(problem) for problem in problems if problem.blocking]
    if blocking:
        raise UnsafeError("; ".join(blocking), target="MYSQL_URL")
