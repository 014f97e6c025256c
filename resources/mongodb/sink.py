"""Batches in, durable out, in order: to MongoDB, or to the spool while MongoDB is away.

One commit is under way in a thread of its own while the next batch is read and staged. At the
first failure that five tries did not cure the breaker opens. Then batches go to the spool; without
one, or when it is full, `write` does not return: reading stops, and the binlog keeps the rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import Checkpoint
from caretaker.errors import RefusedError, TransientError
from resources.mongodb.breaker import Breaker, BreakerState
from resources.mongodb.offsets import Held, Marks, follows
from resources.mongodb.retries import ATTEMPTS, CancelledError
from resources.mongodb.spool import Spool, Spooled
from resources.mongodb.staging import Ahead
from resources.mongodb.trail import Trail

#: How often a spool that grows is told of.
_TELL_EVERY_S = 60.0
#: So many committed batches may lie in the staging collection before they are deleted.
_CLEAN_UP_EVERY = 16


@dataclass(slots=True)
class _Item:
    """A batch on its way.

    Attributes:
        spooled: Where it lies in the spool; None for one that was never in it.
    """

    batch: Batch
    marks: Marks
    spooled: Spooled | None = None


class Sink:
    """What the sync writes to; used from one thread.

    Attributes:
        breaker: Its state is shown, and an alert looks at it.
        committed: Batches that reached MongoDB through this sink.
    """

    def __init__(
        self,
        trail: Trail,
        held: Held,
        spool: Spool | None = None,
        *,
        breaker: Breaker | None = None,
    ) -> None:
        """Begin where the trail, or what is spooled behind it, ends.

        Raises:
            RefusedError: The spool does not follow the trail.
        """
        self.breaker = breaker or Breaker()
        self.committed = 0
        self._trail = trail
        self._held = held
        self._spool = spool
        self._cancel: threading.Event = trail.retries.cancel
        self._tell = trail.retries.on_event
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trail")
        self._under_way: Future[None] | None = None
        # Accepted and not known to be durable: what the worker has, and one behind it.
        self._kept: deque[_Item] = deque()
        self._end = held.checkpoint
        # The number of the batch behind the one under way.
        self._next = Ahead(held.n + 1, held.crc)
        self._since_clean_up = 0
        self._told_spooled_at = -_TELL_EVERY_S
        self._spooled_rows = 0
        if spool is not None:
            spool.reconcile(held)
            if (last := spool.last()) is not None:
                self._end = last[0]

    @property
    def resume_from(self) -> Checkpoint | None:
        """Where reading goes on: behind what is written, spooled or not."""
        return self._end

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What is in MongoDB."""
        return self._held.checkpoint

    @property
    def waiting(self) -> tuple[int, int]:
        """Documents and bytes that were accepted and are neither in MongoDB nor in the spool."""
        kept = [item.batch for item in tuple(self._kept)]
        return sum(batch.rows for batch in kept), sum(batch.bytes for batch in kept)

    @property
    def spooled_batches(self) -> int:
        """How many wait on the disk."""
        return 0 if self._spool is None else self._spool.batches

    @property
    def spooled_bytes(self) -> int:
        """What they take there."""
        return 0 if self._spool is None else self._spool.bytes

    # --- what the sync calls ------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        """Take a batch; an earlier one may still be under way when this returns.

        Raises:
            FencedError: Somebody else has acquired the source.
            RefusedError: MongoDB, or the disk of the spool, will not take it.
            CancelledError: Told to stop while there was nowhere to put it; it is in the binlog.
        """
        due = 1 if self._end is None else self._end.seq + 1
        if batch.seq_from != due:
            raise RefusedError(
                f"{self._held.source}: a batch begins with seq {batch.seq_from} where {due} is due",
                target=self._held.source,
                hint="a fault of ours; nothing of it is written, and the next run goes on from the "
                "trail's end",
            )
        item = _Item(batch, self._held.marks)
        self._end = batch.checkpoint
        if not self._away:
            self._send(item)
            return
        self._keep(item)
        # Twice as fast out as in, or the spool would never be empty.
        for _ in range(2):
            self._replay_one()

    def tend(self) -> None:
        """Do what waits, for a moment: called while the source is silent, every second or so."""
        if self._under_way is not None and self._under_way.done():
            self._settle()
        clock = self.breaker.clock
        until = clock.monotonic() + 1.0
        while self._away and clock.monotonic() < until and self._replay_one():
            pass
        if not self._away:
            self._clean_up()

    def flush(self) -> None:
        """Return when everything that was written is durable, in MongoDB or in the spool.

        Raises:
            CancelledError: Told to stop before that.
        """
        self._settle()
        while self._kept:
            self._replay_or_wait()
        if not self._away:
            self._clean_up()

    def close(self) -> None:
        """End the thread; what is not durable is in the binlog."""
        if self._under_way is not None:
            with contextlib.suppress(Exception):
                self._under_way.result()
            self._under_way = None
        self._worker.shutdown()

    def __enter__(self) -> Self:
        """Return itself, to be closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; the spool is whose who opened it."""
        self.close()

    # --- MongoDB is there ---------------------------------------------------------------------

    @property
    def _away(self) -> bool:
        return (
            self.breaker.state is not BreakerState.CLOSED
            or self.spooled_batches > 0
            or (len(self._kept) > 0 and self._under_way is None)
        )

    def _send(self, item: _Item) -> None:
        """Stage it while the one before it is being committed, then commit it."""
        if self._under_way is None:
            self._next = Ahead(self._held.n + 1, self._held.crc)
        try:
            batch = self._trail.fit(self._held, item.batch)
            staged = self._trail.stage(self._held, batch, self._next, item.marks)
        except CancelledError:
            raise
        except TransientError as error:
            self._settle()
            self._opened(error)
            self._keep(item)
            return
        self._settle()
        if self._away:
            # The one before it failed: this one is staged, and waits behind it.
            self._keep(item)
            return
        self._next = Ahead(self._next.n + 1, follows(self._next.follows, batch))
        self._kept.append(item)
        self._start(lambda: self._trail.commit_staged(self._held, batch, staged, item.marks))
        self._since_clean_up += 1
        if self._since_clean_up >= _CLEAN_UP_EVERY:
            self._clean_up()

    def _start(self, commit: Callable[[], None]) -> None:
        self._under_way = self._worker.submit(commit)

    def _settle(self) -> None:
        """Wait for the commit under way, and take what became of it."""
        if self._under_way is None:
            return
        under_way, self._under_way = self._under_way, None
        try:
            under_way.result()
        except CancelledError:
            raise
        except TransientError as error:
            self._opened(error)
            self._put_by()
        else:
            self._landed(self._kept.popleft())

    def _clean_up(self) -> None:
        if self._since_clean_up:
            self._since_clean_up = 0
            try:
                self._trail.clean_up(self._held)
            except CancelledError:
                raise
            except TransientError as error:
                self._tell("clean_up_failed", {"reason": str(error)})

    def _landed(self, item: _Item) -> None:
        self.committed += 1
        if item.spooled is not None and self._spool is not None:
            self._spool.drop(item.spooled)
        if self.breaker.succeeded():
            self._trail.retries.attempts = ATTEMPTS
            self._tell("breaker_closed", {"spooled": self.spooled_batches})

    # --- MongoDB is away ----------------------------------------------------------------------

    def _opened(self, error: TransientError) -> None:
        # A probe is one try: five would hold up the reading of what can be spooled.
        self._trail.retries.attempts = 1
        if self.breaker.failed():
            self._tell("breaker_open", {"reason": str(error), "spool": self._spool is not None})

    def _keep(self, item: _Item) -> None:
        """Put a batch behind all others; returns when there was room for it."""
        self._kept.append(item)
        self._put_by()
        told = False
        while self._kept:
            if not told:
                full = self._spool is not None
                self._tell("spool_full" if full else "waiting", {"bytes": self.spooled_bytes})
                told = True
            self._replay_or_wait()
            self._put_by()

    def _put_by(self) -> None:
        """Move what is kept in memory to the spool, as far as there is room."""
        spool = self._spool
        if spool is None:
            return
        while self._kept and not spool.full:
            item = self._kept[0]
            last = spool.last()
            spool.append(item.batch, item.marks, last[1] if last else self._held.crc)
            self._kept.popleft()
            self._spooled_rows += item.batch.rows
            self._tell_spooled(spool)

    def _tell_spooled(self, spool: Spool) -> None:
        """Tell the first batch of an outage at once, all others once a minute: each is an event."""
        now = self.breaker.clock.monotonic()
        if spool.batches == 1 or now - self._told_spooled_at >= _TELL_EVERY_S:
            self._told_spooled_at = now
            self._tell("spooled", {"rows": self._spooled_rows, "batches": spool.batches})
            self._spooled_rows = 0

    def _replay_or_wait(self) -> None:
        if not self._replay_one() and self._cancel.wait(max(self.breaker.wait_s(), 0.01)):
            raise CancelledError("stopped while MongoDB was away; the binlog has the rest")

    def _replay_one(self) -> bool:
        """Commit the oldest batch, if a try is due; return whether one was committed."""
        if self.breaker.state is not BreakerState.CLOSED and not self.breaker.probe():
            return False
        item = self._oldest()
        if item is None:
            self.breaker.succeeded()
            return False
        try:
            self._trail.commit(self._held, item.batch, item.marks)
        except CancelledError:
            raise
        except TransientError as error:
            self._opened(error)
            return False
        if item.spooled is None:
            self._kept.popleft()
        self._landed(item)
        self._since_clean_up += 1
        return True

    def _oldest(self) -> _Item | None:
        found = None if self._spool is None else self._spool.first()
        if found is not None:
            return _Item(found.batch, found.marks, found)
        return self._kept[0] if self._kept else None
