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
from resources.mongodb.offsets import Held, Marks
from resources.mongodb.spool import Spool, SpoolBusyError, spool_path
from resources.mongodb.trail import Trail
from resources.mysql.session import UnknownHostError
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
            except (TransientError, UnknownHostError) as error:
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
    saved, marks = where_it_goes_on(
        policy, offset.checkpoint, Marks(offset.server_uuid, offset.config_hash)
    )
    if saved is not None and policy.start != SAVED:
        raise UnsafeError(
            f"the trail of {policy.source} ends at {binlog_events.place(saved)}: "
            f"beginning at {policy.start} would lose rows, or write them twice",
            target=policy.source,
            hint="--from saved goes on; after a loss: caretaker binlog accept-gap",
        )
    with parts.open_source() as source:
        refuse_missing(trail)
        refuse_problems(source, parts.say)
        first, server_uuid = None, marks.server_uuid
        if saved is None:
            first = source.at("earliest" if policy.start == SAVED else policy.start)
            server_uuid = source.facts().server_uuid
        else:
            source.verify(saved, server_uuid or None)
        goal = source.now() if policy.until_current else None
    held = trail.acquire(policy.source, parts.holder)
    closing.callback(trail.release, held)
    for warning in trail.warnings:
        parts.say(binlog_events.warned(warning))
    recovered = trail.recover(held)
    if recovered.promoted or recovered.archived:
        fields = {"promoted": recovered.promoted, "archived": recovered.archived}
        parts.say(binlog_events.of_the_sink("recovered", fields))
    if policy.spool_dir is not None:
        trail.remember_spool(held, str(spool_path(policy.spool_dir, policy.source).absolute()))
    # What comes next follows what is spooled, and is marked as that is until something changes.
    saved, marks = where_it_goes_on(policy, held.checkpoint, held.marks)
    held.server_uuid, held.config_hash = marks.server_uuid, marks.config_hash
    if saved is not None:
        return Begun(held, None, held.server_uuid, goal)
    if first is None:
        raise UnsafeError("the trail was emptied while we looked", target=policy.source)
    remember_filters(trail, filters)
    return Begun(held, first, server_uuid, goal)


def where_it_goes_on(
    policy: SyncPolicy, saved: Checkpoint | None, marks: Marks
) -> tuple[Checkpoint | None, Marks]:
    """Return where reading goes on, and what the last batch was read with: spooled, or saved.

    The spool is there for binlogs that are kept less long than MongoDB may be away: whoever looked
    at the trail alone would find a loss where there is none.
    """
    if policy.spool_dir is None:
        return saved, marks
    path = spool_path(policy.spool_dir, policy.source)
    if not path.exists():
        return saved, marks
    try:
        with Spool(path, policy.source, max_bytes=policy.spool_bytes) as spool:
            end = spool.end(saved.seq if saved is not None else 0)
    except SpoolBusyError:
        # Whoever has it is fenced in a moment; if he does not let go of it the writer says so.
        return saved, marks
    return (saved, marks) if end is None else end


def refuse_missing(trail: Trail) -> None:
    """Raise UnsafeError where the trail lacks collections or indexes: it would fill, and crawl."""
    if problems := trail.check():
        raise UnsafeError(
            "; ".join(problem.found for problem in problems),
            target="MONGODB_DATABASE",
            hint="; ".join(dict.fromkeys(problem.fix for problem in problems)),
        )


def refuse_problems(source: MySQLSource, say: Callable[[Event], None]) -> None:
    """Raise UnsafeError over what keeps the trail from being whole, and tell the rest."""
    problems = source.check()
    for problem in problems:
        if not problem.blocking:
            say(binlog_events.warned(str(problem)))
    blocking = [str(problem) for problem in problems if problem.blocking]
    if blocking:
        raise UnsafeError("; ".join(blocking), target="MYSQL_URL")
