"""The thread that reads: through lost connections, other filters and other servers, in order."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from zlib import crc32

from caretaker.binlog import announcements
from caretaker.binlog.batcher import Batch
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.filters import Filters
from caretaker.binlog.model import Checkpoint
from caretaker.binlog.policy import SyncPolicy
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.source_facts import Failover
from caretaker.errors import FencedError, RefusedError, TransientError
from ops import binlog_events
from ops.binlog_cross_check import CrossCheck
from ops.binlog_filters import filters_before, remember_filters
from ops.binlog_parts import Parts, pauses
from ops.binlog_queue import BatchQueue, ClosedError, Written
from ops.binlog_reader import End, Reader, Reading
from ops.binlog_writer import empty_batch
from resources.mongodb.offsets import Holder
from resources.mysql.dump import Dump
from resources.mysql.session import UnknownHostError
from resources.mysql.source import MySQLSource

#: What the source says to one of two that follow it under one name.
_CROWDED = "same server_uuid"
#: So often within so long somebody else may take our dump: a syncer that is being fenced does.
_CROWDED_AT_MOST, _CROWDED_WITHIN_S = 8, 120.0


class Following(threading.Thread):
    """Reads until told to stop, or to the goal; `failure` is what else ended it.

    Attributes:
        at_goal: It has ended because everything up to the goal was handed over.
    """

    def __init__(
        self,
        parts: Parts,
        policy: SyncPolicy,
        filters: Filters,
        queue: BatchQueue,
        *,
        checkpoint: Checkpoint,
        server_uuid: str,
        config_hash: str,
        goal: Checkpoint | None,
    ) -> None:
        super().__init__(name="binlog-reader", daemon=True)
        self._parts = parts
        self._policy = policy
        self._filters = filters
        self._queue = queue
        # What is true once all that was put is written; moves with each put, not with each read:
        # whatever breaks in between, nothing is put a second time.
        self._checkpoint = checkpoint
        self._server_uuid = server_uuid
        self._config_hash = config_hash
        self._goal = goal
        self._stopped = threading.Event()
        self._reader: Reader | None = None
        self._charsets: dict[str, Charsets] = {}
        self._crowded: deque[float] = deque(maxlen=_CROWDED_AT_MOST)
        self.at_goal = False
        self.failure: BaseException | None = None

    @property
    def pending(self) -> int:
        """Documents that are read and not handed over."""
        reader = self._reader
        return 0 if reader is None else reader.pending

    def stop(self) -> None:
        """Read no further, and hand over what was read."""
        self._stopped.set()

    def run(self) -> None:
        """Follow the source."""
        try:
            self._follow()
        except ClosedError:
            pass  # the writer has ended, and says why
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            self.failure = error
        finally:
            self._queue.end()

    def _follow(self) -> None:
        waits = pauses()
        while not self._stopped.is_set():
            before = self._checkpoint
            try:
                with self._parts.open_source() as source:
                    end = self._read(source)
            except (TransientError, RefusedError) as error:
                if isinstance(error, RefusedError):
                    self._bear_with(error)
                if self._checkpoint != before:
                    waits = pauses()
                pause = next(waits)
                self._parts.metrics.mysql_lost()
                self._parts.say(binlog_events.disconnected(error, pause))
                self._stopped.wait(pause)
                continue
            waits = pauses()
            self.at_goal = end is End.GOAL
            if end is not End.BOUNDARY:
                return

    def _bear_with(self, error: RefusedError) -> None:
        """Pass what passes: a name that nobody knows for a moment, another who is being fenced."""
        if isinstance(error, UnknownHostError):
            # It was found when we began; a headless service drops it while its pod restarts.
            return
        if _CROWDED not in str(error):
            raise error
        holder = self._holder()
        if holder is not None and holder != self._parts.holder:
            raise FencedError(
                f"{self._policy.source}: acquired by {holder}, which reads the source now",
                target=self._policy.source,
            ) from error
        now = time.monotonic()
        if len(self._crowded) == _CROWDED_AT_MOST and now - self._crowded[0] < _CROWDED_WITHIN_S:
            raise error
        self._crowded.append(now)

    def _holder(self) -> Holder | None:
        try:
            return self._parts.trail.offset(self._policy.source).holder
        except TransientError:
            return None

    def _read(self, source: MySQLSource) -> End:
        """Read one connection's worth; the filters of before carry a transaction in flight."""
        filters = self._settle_filters()
        with contextlib.closing(
            source.dump(
                self._checkpoint,
                server_uuid=self._server_uuid or None,
                wait=self._goal is None,
                heartbeat_s=self._policy.heartbeat_s,
            )
        ) as dump:
            if dump.failover is not None:
                self._announce_failover(dump.failover)
                if self._goal is not None:
                    # A place in the files of another server is none in this one's.
                    self._goal = source.now()
            self._server_uuid = dump.server_uuid
            self._parts.say(binlog_events.connected(dump.server_uuid, self._checkpoint))
            self._reader = reader = Reader(
                self._reading(source, dump, filters),
                self._checkpoint,
                goal=self._goal,
                to_boundary=filters is not self._filters,
            )
            try:
                return reader.run(dump)
            finally:
                self._checkpoint = reader.handed_over
                self._reader = None

    def _reading(self, source: MySQLSource, dump: Dump, filters: Filters) -> Reading:
        parts, policy = self._parts, self._policy
        charsets = self._charsets_of(source, dump.server_uuid)
        percent = policy.cross_check_percent
        return Reading(
            policy=policy,
            flavor=source.flavor(),
            encoder=RowsEncoder(
                filters=filters,
                charsets=charsets,
                local_time=policy.local_time,
                on_partial_image=policy.on_partial_image,
            ),
            known_types=source.known_types(parts.trail.known_types),
            decompress=parts.decompress,
            put=self._queue.put,
            say=parts.say,
            metrics=parts.metrics,
            stop=self._stopped,
            cross_check=CrossCheck(filters, charsets, percent=percent) if percent else None,
        )

    def _charsets_of(self, source: MySQLSource, server_uuid: str) -> Charsets:
        """Ask a server once: its tables are some hundred questions, a reconnect is none."""
        if server_uuid not in self._charsets:
            self._charsets = {server_uuid: source.charsets()}
        return self._charsets[server_uuid]

    # --- what the trail says of itself ------------------------------------------------------------

    def _settle_filters(self) -> Filters:
        """Return the filters to read on with; new ones wait for the end of a transaction."""
        parts = self._parts
        saved, ours = self._config_hash, self._filters.fingerprint
        if saved == ours:
            return self._filters
        if self._checkpoint.inflight is not None:
            return filters_before(parts.trail, saved, parts.secret)
        remember_filters(parts.trail, self._filters)
        if saved:
            parts.say(binlog_events.filters_changed(saved, ours))
            told = {"filters_before": saved, "filters_after": ours}
            self._announce(told, config_hash=ours)
        else:
            self._queue.put(Written(empty_batch(self._checkpoint), config_hash=ours))
        self._config_hash = ours
        return self._filters

    def _announce_failover(self, failover: Failover) -> None:
        before, after = failover.before, failover.after
        self._parts.say(binlog_events.failover(before, after))
        gtid = self._checkpoint.gtid or ""
        told = {"server_before": before, "server_after": after, "gtid": gtid}
        # The document still says where the trail was; what is saved may not: beside the new
        # server's uuid a place in the files of the old one reads as a binlog that was lost.
        self._announce(told, saved_as=failover.moved, server_uuid=after)
        self._server_uuid = after

    def _announce(
        self,
        told: dict[str, str],
        *,
        saved_as: Callable[[Checkpoint], Checkpoint] = lambda checkpoint: checkpoint,
        server_uuid: str | None = None,
        config_hash: str | None = None,
    ) -> None:
        document, after = announcements.topology(
            self._policy.identity, self._checkpoint, int(time.time()), told
        )
        after = saved_as(after)
        self._queue.put(
            Written(_batch_of(document, after), server_uuid=server_uuid, config_hash=config_hash)
        )
        self._checkpoint = after


def _batch_of(document: bytes, checkpoint: Checkpoint) -> Batch:
    """Return a batch of a document that no event stands for; `checkpoint` counts it already."""
    seq = checkpoint.seq
    return Batch((document,), checkpoint, seq, seq, 1, len(document), crc32(document))
