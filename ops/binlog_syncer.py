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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from zlib import crc32

from caretaker.backoff import doubling
from caretaker.binlog import announcements
from caretaker.binlog.batcher import Batch
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.filters import Filters
from caretaker.binlog.model import Checkpoint, Position
from caretaker.binlog.policy import SAVED, SyncPolicy
from caretaker.binlog.rows import RowsEncoder
from caretaker.errors import (
    CaretakerError,
    TransientError,
    UnsafeError,
)
from ops import binlog_events
from ops.binlog_cross_check import CrossCheck
from ops.binlog_filters import filters_before, filters_of, remember_filters
from ops.binlog_metrics import Metrics
from ops.binlog_queue import BatchQueue, ClosedError, Written
from ops.binlog_reader import End, Reader, Reading
from ops.binlog_writer import Writer, empty_batch
from ops.events import Event
from resources.clock import utc_now
from resources.mongodb.offsets import Holder
from resources.mongodb.spool import Spool
from resources.mongodb.trail import Trail
from resources.mysql.source import MySQLSource

#: Between two tries to reach the source.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
#: Between two looks at the offset document for an operator's pause, and at the purge margin.
_LOOK_EVERY_S, _MARGIN_EVERY_S = 5.0, 60.0
_MOMENT_S = 0.2


class FlushFailedError(CaretakerError):
    """A stop ran out of time: what was read is not written, and the binlog gives it again."""


@dataclass(frozen=True)
class Parts:
    """What a sync works with.

    Attributes:
        open_source: Gives a connection of one's own to the source; called again after each loss.
        secret: The key of column hashes.
        decompress: Inflates zstd.
    """

    open_source: Callable[[], AbstractContextManager[MySQLSource]]
    trail: Trail
    holder: Holder
    say: Callable[[Event], None]
    decompress: Callable[[bytes], object]
    secret: bytes = b""
    metrics: Metrics = field(default_factory=Metrics)
    cancel: threading.Event = field(default_factory=threading.Event)


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
        self._reader: Reader | None = None
        self._reading_thread: threading.Thread | None = None
        self._looking_thread: threading.Thread | None = None
        self._read_failure: BaseException | None = None
        self._goal: Position | None = None
        self._server_uuid = self._config_hash = ""
        self._done = threading.Event()
        self._began_at_seq = 0
        self._filters = filters_of(policy, parts.secret)
        self._charsets: dict[str, Charsets] = {}
        self._closing = contextlib.ExitStack()
        self._writer: Writer | None = None

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

        Raises:
            UnsafeError: Paused, or the start contradicts the trail; nothing touched.
            RefusedError: The source or MongoDB are not set up for it; the message says what to do.
            LostPositionError: The source no longer has what comes next.
            TransientError: One of them is away.
        """
        try:
            self._begin()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything; `run` has flushed."""
        self._stop.set()
        self._done.set()
        self._parts.cancel.set()
        self._queue.close()
        for thread in (self._reading_thread, self._writer, self._looking_thread):
            if thread is not None:
                thread.join(5.0)
        self._closing.close()

    def run(self, each_moment: Callable[[], None] = lambda: None) -> Summary:
        """Follow the source; `each_moment`, five times a second, may end it by raising.

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

    # --- the beginning ----------------------------------------------------------------------------

    def _begin(self) -> None:
        parts, policy = self._parts, self._policy
        parts.trail.retries.on_event = lambda name, fields: parts.say(
            binlog_events.of_the_sink(name, fields)
        )
        offset = parts.trail.offset(policy.source)
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
            first = None
            if offset.checkpoint is None:
                first = source.at("earliest" if policy.start == SAVED else policy.start)
            else:
                source.verify(offset.checkpoint, offset.server_uuid or None)
            if policy.until_current:
                self._goal = source.now().position
            self._acquire(source, first)
        self._reading_thread = threading.Thread(
            target=self._read_in_thread, name="binlog-reader", daemon=True
        )
        self._reading_thread.start()
        self._looking_thread = threading.Thread(
            target=self._look_in_thread, name="binlog-look", daemon=True
        )
        self._looking_thread.start()

    def _acquire(self, source: MySQLSource, first: Checkpoint | None) -> None:
        parts, policy = self._parts, self._policy
        held = parts.trail.acquire(policy.source, parts.holder)
        self._closing.callback(parts.trail.release, held)
        for warning in parts.trail.warnings:
            parts.say(binlog_events.warned(warning))
        self._server_uuid, self._config_hash = held.server_uuid, held.config_hash
        recovered = parts.trail.recover(held)
        if recovered.promoted or recovered.archived:
            fields = {"promoted": recovered.promoted, "archived": recovered.archived}
            parts.say(binlog_events.of_the_sink("recovered", fields))
        self._writer = Writer(
            parts.trail,
            held,
            self._open_spool,
            self._queue,
            self.metrics,
            over=self._over.set,
            # Who asked for "until it is committed" is not served with a spool.
            to_mongodb=policy.until_current,
        )
        start = self._writer.begin()
        if start is None:
            if first is None:
                raise UnsafeError("the trail was emptied while we looked", target=policy.source)
            start = first
            self._server_uuid = source.facts().server_uuid
            self._config_hash = self._filters.fingerprint
            remember_filters(parts.trail, self._filters)
            self._queue.put(
                Written(
                    empty_batch(start),
                    server_uuid=self._server_uuid,
                    config_hash=self._config_hash,
                )
            )
            parts.say(binlog_events.starting(policy.source, start, policy.start))
        else:
            parts.say(binlog_events.resuming(policy.source, start))
        self._began_at_seq = start.seq
        self.metrics.reached(start)
        self._start_from = start

    @contextlib.contextmanager
    def _open_spool(self) -> Iterator[Spool | None]:
        policy = self._policy
        if policy.spool_dir is None:
            yield None
            return
        path = Path(policy.spool_dir) / f"{policy.source}.spool"
        with Spool(path, policy.source, max_bytes=policy.spool_bytes) as spool:
            yield spool

    # --- reading ----------------------------------------------------------------------------------

    def _read_in_thread(self) -> None:
        try:
            self._follow(self._start_from)
        except ClosedError:
            pass  # the writer has ended, and says why
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            self._read_failure = error
        finally:
            self._queue.end()

    def _follow(self, checkpoint: Checkpoint) -> None:
        pauses = _pauses()
        while not self._stop.is_set():
            self._reader = None
            before = checkpoint
            try:
                with self._parts.open_source() as source:
                    end, checkpoint = self._read_once(source, checkpoint)
            except TransientError as error:
                if self._reader is not None:
                    checkpoint = self._reader.handed_over
                if checkpoint != before:
                    pauses = _pauses()
                pause = next(pauses)
                self.metrics.mysql_lost()
                self._parts.say(binlog_events.disconnected(error, pause))
                self._stop.wait(pause)
                continue
            pauses = _pauses()
            if end is End.GOAL:
                self.stop("until_current")
            if end is not End.BOUNDARY:
                return

    def _read_once(self, source: MySQLSource, checkpoint: Checkpoint) -> tuple[End, Checkpoint]:
        """Read one connection's worth; the filters of before carry a transaction in flight."""
        checkpoint, filters = self._settle_filters(checkpoint)
        with contextlib.closing(
            source.dump(
                checkpoint,
                server_uuid=self._server_uuid or None,
                wait=self._goal is None,
                heartbeat_s=self._policy.heartbeat_s,
            )
        ) as dump:
            if dump.failover is not None:
                checkpoint = self._announce_failover(
                    dump.failover.before, dump.server_uuid, checkpoint
                )
            self._server_uuid = dump.server_uuid
            self._parts.say(binlog_events.connected(dump.server_uuid, checkpoint))
            reading = Reading(
                policy=self._policy,
                flavor=source.flavor(),
                encoder=RowsEncoder(
                    filters=filters,
                    charsets=self._charsets_of(source, dump.server_uuid),
                    local_time=self._policy.local_time,
                    on_partial_image=self._policy.on_partial_image,
                ),
                known_types=source.known_types(),
                decompress=self._parts.decompress,
                put=self._queue.put,
                say=self._parts.say,
                metrics=self.metrics,
                stop=self._stop,
                cross_check=CrossCheck(
                    source.flavor(),
                    filters,
                    self._charsets_of(source, dump.server_uuid),
                    percent=self._policy.cross_check_percent,
                )
                if self._policy.cross_check_percent
                else None,
            )
            self._reader = Reader(
                reading, checkpoint, goal=self._goal, to_boundary=filters is not self._filters
            )
            end = self._reader.run(dump)
        return end, self._reader.handed_over

    def _charsets_of(self, source: MySQLSource, server_uuid: str) -> Charsets:
        """Ask a server once: its tables are some hundred questions, a reconnect is none."""
        if server_uuid not in self._charsets:
            self._charsets = {server_uuid: source.charsets()}
        return self._charsets[server_uuid]

    def _settle_filters(self, checkpoint: Checkpoint) -> tuple[Checkpoint, Filters]:
        """Return the filters to read on with; new ones wait for the end of a transaction."""
        saved, ours = self._config_hash, self._filters.fingerprint
        if saved == ours:
            return checkpoint, self._filters
        if checkpoint.inflight is not None:
            return checkpoint, filters_before(self._parts.trail, saved, self._parts.secret)
        remember_filters(self._parts.trail, self._filters)
        self._config_hash = ours
        if saved:
            self._parts.say(binlog_events.filters_changed(saved, ours))
            told = {"filters_before": saved, "filters_after": ours}
            checkpoint = self._announce(told, checkpoint, config_hash=ours)
        else:
            self._queue.put(Written(empty_batch(checkpoint), config_hash=ours))
        return checkpoint, self._filters

    def _announce_failover(self, before: str, after: str, checkpoint: Checkpoint) -> Checkpoint:
        self._parts.say(binlog_events.failover(before, after))
        told = {"server_before": before, "server_after": after, "gtid": checkpoint.gtid or ""}
        return self._announce(told, checkpoint, server_uuid=after)

    def _announce(
        self,
        told: dict[str, str],
        checkpoint: Checkpoint,
        *,
        server_uuid: str | None = None,
        config_hash: str | None = None,
    ) -> Checkpoint:
        document, after = announcements.topology(
            self._policy.identity, checkpoint, int(time.time()), told
        )
        self._queue.put(
            Written(batch_of((document,), after), server_uuid=server_uuid, config_hash=config_hash)
        )
        return after

    # --- the end ----------------------------------------------------------------------------------

    def _look_in_thread(self) -> None:
        """Look for an operator's pause, and at what the alerts ask for."""
        margin_at = -_MARGIN_EVERY_S
        while not self._done.wait(_LOOK_EVERY_S):
            # What is wrong with either end is the reader's and the writer's to say.
            with contextlib.suppress(CaretakerError):
                self._look()
            if time.monotonic() - margin_at >= _MARGIN_EVERY_S and self.committed is not None:
                margin_at = time.monotonic()
                with contextlib.suppress(CaretakerError), self._parts.open_source() as source:
                    self.metrics.looked(purge_margin_s=source.purge_margin_s(self.committed))

    def _look(self) -> None:
        status = self._parts.trail.status(self._policy.source)
        if status.offset.paused is not None:
            self.stop("paused")
        since = status.oldest_pending_at
        age_s = 0.0 if since is None else (utc_now() - since).total_seconds()
        self.metrics.looked(staging=(status.pending, age_s))

    def _say_flushing(self) -> None:
        if not self._stop.is_set():
            pending = self._reader.pending if self._reader is not None else 0
            self._parts.say(binlog_events.flushing(pending + self._queue.waiting[0]))

    def _flush(self) -> None:
        """Write what was read, within the time there is; then raise whatever ended the sync."""
        writer, deadline = self._writer, time.monotonic() + self._policy.shutdown_flush_s
        if writer is None or self._reading_thread is None:
            return
        if not self._over.is_set():
            self._say_flushing()
        self._stop.set()
        while time.monotonic() < deadline and not self._over.wait(_MOMENT_S):
            continue
        if not self._over.is_set():
            self._parts.cancel.set()
            self._queue.close()
            left = self._queue.waiting[0] + (self._reader.pending if self._reader else 0)
            self.metrics.flush_failed()
            event = binlog_events.flush_failed(left, self._policy.shutdown_flush_s)
            self._parts.say(event)
            raise FlushFailedError(event.sentence(), target=self._policy.source)
        if writer.failure is not None:
            raise writer.failure
        if self._read_failure is not None:
            raise self._read_failure

    def summary(self) -> Summary:
        """Return how it ended, and tell it."""
        vitals = self.metrics.vitals()
        committed = self.committed
        seq = committed.seq if committed is not None else 0
        rows = seq - self._began_at_seq
        self._parts.say(binlog_events.stopped(self._why, committed, rows))
        return Summary(self._why, vitals.rows, seq, committed)


def refuse_problems(source: MySQLSource, say: Callable[[Event], None]) -> None:
    """Raise RefusedError over what keeps the trail from being whole, and tell the rest."""
    problems = source.check()
    for problem in problems:
        if not problem.blocking:
            say(binlog_events.warned(str(problem)))
    blocking = [str(problem) for problem in problems if problem.blocking]
    if blocking:
        raise UnsafeError("; ".join(blocking), target="MYSQL_URL")


def batch_of(documents: tuple[bytes, ...], checkpoint: Checkpoint) -> Batch:
    """Return a batch of documents that no event stands for; `checkpoint` counts them already."""
    crc = 0
    for document in documents:
        crc = crc32(document, crc)
    size = sum(map(len, documents))
    first = checkpoint.seq - len(documents) + 1
    return Batch(documents, checkpoint, first, checkpoint.seq, len(documents), size, crc)


def _pauses() -> Iterator[float]:
    return doubling(FIRST_PAUSE_S, LONGEST_PAUSE_S)
