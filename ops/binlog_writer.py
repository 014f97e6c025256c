"""The thread that writes: takes entries in order, and keeps the offset document's time fresh."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import Checkpoint
from caretaker.binlog.schema_versions import schema_of
from caretaker.errors import TransientError
from ops.binlog_metrics import Metrics
from ops.binlog_queue import BatchQueue, Schema, Written
from resources.mongodb.breaker import BreakerState
from resources.mongodb.offsets import Held
from resources.mongodb.sink import Sink
from resources.mongodb.spool import Spool
from resources.mongodb.trail import Trail

#: An idle trail says so often that somebody keeps it: a supervisor takes six missed ones for death.
BEAT_EVERY_S = 5.0

_IDLE_S = 0.25


class Writer(threading.Thread):
    """Writes what the reader hands over, until the queue has ended or something is final.

    `failure` is what ended it, None for an orderly end.
    """

    def __init__(
        self,
        trail: Trail,
        held: Held,
        open_spool: Callable[[], AbstractContextManager[Spool | None]],
        queue: BatchQueue,
        metrics: Metrics,
        *,
        over: Callable[[], None],
        to_mongodb: bool = False,
    ) -> None:
        super().__init__(name="binlog-writer", daemon=True)
        self._trail = trail
        self._held = held
        self._open_spool = open_spool
        self._sink: Sink | None = None
        self._begun = threading.Event()
        self._queue = queue
        self._metrics = metrics
        self._over = over
        self._to_mongodb = to_mongodb
        self._resume_from: Checkpoint | None = None
        self._schemas: dict[str, Schema] = {}
        self._written_at = time.monotonic()
        self.failure: BaseException | None = None

    @property
    def committed(self) -> Checkpoint | None:
        """What is in MongoDB."""
        return self._held.checkpoint

    def begin(self) -> Checkpoint | None:
        """Start, and return where reading goes on, spooled or not; None: the trail is empty.

        Raises:
            RefusedError: The spool does not follow the trail, or its disk does not take it.
        """
        self.start()
        self._begun.wait()
        if self._sink is None:
            raise self.failure or RuntimeError("the writer did not begin")
        return self._resume_from

    def run(self) -> None:
        """Write until there is nothing more to come."""
        try:
            # A spool belongs to the thread that opened it.
            with self._open_spool() as spool, Sink(self._trail, self._held, spool) as sink:
                self._resume_from = sink.resume_from
                self._sink = sink
                self._begun.set()
                self._write_all(sink)
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            self.failure = error
            self._queue.close()
        finally:
            self._begun.set()
            self._over()

    def _write_all(self, sink: Sink) -> None:
        while True:
            entry = self._queue.take(_IDLE_S)
            if isinstance(entry, Schema):
                self._schemas[entry.table.fingerprint] = entry
            elif entry is not None:
                self._remember_schemas(sink)
                self._write(sink, entry)
            elif self._queue.finished:
                break
            else:
                sink.tend()
                self._remember_schemas(sink)
                self._beat(sink)
            if entry is not None:
                self._queue.done(entry)
            self.look()
        self._remember_schemas(sink)
        sink.flush()
        cancel = self._trail.retries.cancel
        while self._to_mongodb and sink.spooled_batches and not cancel.wait(_IDLE_S):
            sink.tend()
        self._remember_schemas(sink)
        self.look()

    def _write(self, sink: Sink, entry: Written) -> None:
        if entry.server_uuid is not None:
            self._held.server_uuid = entry.server_uuid
        if entry.config_hash is not None:
            self._held.config_hash = entry.config_hash
        batch = entry.batch
        sink.write(batch)
        self._written_at = time.monotonic()
        self._metrics.committed(batch.rows, batch.bytes, entry.made_at_s)

    def _beat(self, sink: Sink) -> None:
        if time.monotonic() - self._written_at < BEAT_EVERY_S:
            return
        checkpoint = sink.resume_from
        # While MongoDB is away nobody can be told, and the spool needs no signs of life.
        here = sink.breaker.state is BreakerState.CLOSED and not sink.spooled_batches
        if checkpoint is not None and here:
            sink.write(empty_batch(checkpoint))
        self._written_at = time.monotonic()

    def _remember_schemas(self, sink: Sink) -> None:
        # Each try waits for a server; while MongoDB is known to be away, batches need that time.
        while self._schemas and sink.breaker.state is BreakerState.CLOSED:
            fingerprint, entry = next(iter(self._schemas.items()))
            try:
                self._trail.remember_schema(fingerprint, schema_of(entry.table, entry.position))
            except TransientError:
                # Told later: rows need no schema to be right, and MongoDB is away for them, too.
                return
            del self._schemas[fingerprint]

    def look(self) -> None:
        """Tell the metrics what can be seen now; any thread may, a write that waits cannot."""
        counts = self._trail.counts
        self._metrics.attempted(
            counts.attempts, counts.failed, counts.retries, counts.connection_errors
        )
        sink = self._sink
        documents, size = self._queue.waiting
        if sink is not None:
            kept, kept_bytes = sink.waiting
            documents, size = documents + kept, size + kept_bytes
            self._metrics.looked(
                spooled=(sink.spooled_batches, sink.spooled_bytes),
                breaker=sink.breaker.state.value,
            )
        if self.committed is not None:
            self._metrics.reached(self.committed)
        self._metrics.waiting(documents, size)


def empty_batch(checkpoint: Checkpoint) -> Batch:
    """Return a batch that moves nothing: it says that somebody is there, and who."""
    return Batch((), checkpoint, checkpoint.seq + 1, checkpoint.seq, 0, 0, 0)
