"""The sync itself: knows no Dagster. Reads in one thread, writes in another, stops in good order.

    with Syncer(parts, policy) as syncer:
        summary = syncer.run(each_moment=guard.look_around)

Whatever happens to it, the offset document is the truth, and the next syncer goes on from there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from caretaker.binlog.model import Checkpoint
from caretaker.binlog.policy import SyncPolicy
from caretaker.errors import CaretakerError
from ops import binlog_events
from ops.binlog_beginning import Begun, begin
from ops.binlog_filters import filters_of
from ops.binlog_following import Following
from ops.binlog_looking import Looking
from ops.binlog_metrics import Metrics
from ops.binlog_parts import Parts
from ops.binlog_queue import BatchQueue, Written
from ops.binlog_writer import Writer, empty_batch
from resources.mongodb.spool import Spool, spool_path

_MOMENT_S = 0.2
_JOINED_WITHIN_S = 5.0


class FlushFailedError(CaretakerError):
    """A stop ran out of time: what was read is not written, and the binlog gives it again."""


@dataclass(frozen=True)
class Summary:
    """How a sync ended.

    Attributes:
        why: stopped, until_current or paused.
    """

    why: str
    rows: int
    seq: int
    checkpoint: Checkpoint | None


class Syncer:
    """One source into one trail, until told to stop."""

    def __init__(self, parts: Parts, policy: SyncPolicy) -> None:
        self._parts = parts
        self._policy = policy
        self._queue = BatchQueue(policy.queue_bytes)
        self._stop = threading.Event()
        self._over = threading.Event()
        self._why = "stopped"
        self._following: Following | None = None
        self._looking: Looking | None = None
        self._writer: Writer | None = None
        self._began_at_seq = 0
        self._filters = filters_of(policy, parts.secret)
        self._closing = contextlib.ExitStack()

    @property
    def metrics(self) -> Metrics:
        """What can be said of it at any moment."""
        return self._parts.metrics

    @property
    def committed(self) -> Checkpoint | None:
        """What is in MongoDB."""
        return self._writer.committed if self._writer is not None else None

    def __enter__(self) -> Self:
        """Look whether all is as it must be, take the trail, and begin to read.

        Raises as `binlog_beginning.begin` does.
        """
        try:
            begun = begin(self._parts, self._policy, self._filters, self._closing)
            checkpoint = self._begin_to_write(begun)
            self._begin_to_read(begun, checkpoint)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything; `run` has flushed."""
        self._stop.set()
        self._parts.cancel.set()
        self._queue.close()
        if self._following is not None:
            self._following.stop()
        if self._looking is not None:
            self._looking.close()
        for thread in (self._following, self._writer, self._looking):
            if thread is not None:
                thread.join(_JOINED_WITHIN_S)
        self._closing.close()

    def run(self, each_moment: Callable[[], None] = lambda: None) -> Summary:
        """Follow the source; `each_moment`, five times a second, may end it by raising.

        At its goal it writes all that was read, however long that takes; only who is told to stop
        has no more than `shutdown_flush_s`.

        Raises:
            FlushFailedError: A stop took longer than it may.
            FencedError: Somebody else has the trail now.
        """
        try:
            while not self._over.wait(_MOMENT_S):
                each_moment()
                if self._writer is not None:
                    self._writer.look()
                if self._stop.is_set():
                    break
        except BaseException:
            self._flush()
            raise
        self._flush()
        return self.summary()

    def stop(self, why: str = "stopped") -> None:
        """Ask for an orderly end; `run` returns after the flush."""
        self._why = why
        self._say_flushing()
        self._stop.set()

    def summary(self) -> Summary:
        """Return how it ended, and tell it."""
        following = self._following
        at_goal = following is not None and following.at_goal and not self._stop.is_set()
        why = "until_current" if at_goal else self._why
        vitals = self.metrics.vitals()
        committed = self.committed
        seq = committed.seq if committed is not None else 0
        self._parts.say(binlog_events.stopped(why, committed, seq - self._began_at_seq))
        return Summary(why, vitals.rows, seq, committed)

    # --- the beginning ----------------------------------------------------------------------------

    def _begin_to_write(self, begun: Begun) -> Checkpoint:
        """Start the thread that writes; return where reading goes on, spooled or not."""
        parts, policy = self._parts, self._policy
        self._writer = Writer(
            parts.trail,
            begun.held,
            self._open_spool,
            self._queue,
            self.metrics,
            over=self._over.set,
            # Who asked for "until it is committed" is not served with a spool.
            to_mongodb=policy.until_current,
        )
        saved = self._writer.begin()
        checkpoint = saved if saved is not None else begun.first
        if checkpoint is None:
            raise AssertionError("neither a saved place nor a first one")
        if saved is None:
            parts.say(binlog_events.starting(policy.source, checkpoint, policy.start))
            self._queue.put(
                Written(
                    empty_batch(checkpoint),
                    server_uuid=begun.server_uuid,
                    config_hash=self._filters.fingerprint,
                )
            )
        else:
            parts.say(binlog_events.resuming(policy.source, checkpoint))
        self._began_at_seq = checkpoint.seq
        self.metrics.reached(checkpoint)
        return checkpoint

    def _begin_to_read(self, begun: Begun, checkpoint: Checkpoint) -> None:
        parts, policy, empty = self._parts, self._policy, begun.first is not None
        self._following = Following(
            parts,
            policy,
            self._filters,
            self._queue,
            checkpoint=checkpoint,
            server_uuid=begun.server_uuid,
            config_hash=self._filters.fingerprint if empty else begun.held.config_hash,
            goal=begun.goal,
        )
        self._looking = Looking(
            parts,
            policy.source,
            committed=lambda: self.committed,
            paused=lambda: self.stop("paused"),
        )
        self._following.start()
        self._looking.start()

    @contextlib.contextmanager
    def _open_spool(self) -> Iterator[Spool | None]:
        policy = self._policy
        if policy.spool_dir is None:
            yield None
            return
        path = spool_path(policy.spool_dir, policy.source)
        with Spool(path, policy.source, max_bytes=policy.spool_bytes) as spool:
            yield spool

    # --- the end ----------------------------------------------------------------------------------

    @property
    def _left(self) -> int:
        """Documents that are read and not written."""
        following = self._following
        return self._queue.waiting[0] + (following.pending if following is not None else 0)

    def _say_flushing(self) -> None:
        if not self._stop.is_set():
            self._parts.say(binlog_events.flushing(self._left))

    def _flush(self) -> None:
        """Write what was read, within the time there is; then raise whatever ended the sync."""
        writer, following = self._writer, self._following
        if writer is None or following is None:
            return
        if not self._over.is_set():
            self._say_flushing()
            self._stop.set()
            following.stop()
            deadline = time.monotonic() + self._policy.shutdown_flush_s
            while time.monotonic() < deadline and not self._over.wait(_MOMENT_S):
                continue
        if not self._over.is_set():
            self._parts.cancel.set()
            self._queue.close()
            self.metrics.flush_failed()
            event = binlog_events.flush_failed(self._left, self._policy.shutdown_flush_s)
            self._parts.say(event)
            raise FlushFailedError(event.sentence(), target=self._policy.source)
        if writer.failure is not None:
            raise writer.failure
        if following.failure is not None:
            raise following.failure
