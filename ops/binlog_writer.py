"""The thread that writes: takes entries in order, and keeps the offset document's time fresh."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import Checkpoint
from caretaker.binlog.schema_versions import schema_of
from caretaker.errors import TransientError
from ops.binlog_metrics import Metrics
from ops.binlog_queue import BatchQueue, Schema, Written
from resources.mongodb.breaker import BreakerState
from resources.mongodb.offsets import Held
from resources.mongodb.sink import Sink
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
        sink: Sink,
        queue: BatchQueue,
        metrics: Metrics,
        *,
        over: Callable[[], None],
        to_mongodb: bool = False,
    ) -> None:
        super().__init__(name="binlog-writer", daemon=True)
        self._trail = trail
        self._held = held
        self._sink = sink
        self._queue = queue
        self._metrics = metrics
        self._over = over
        self._to_mongodb = to_mongodb
        self._schemas: dict[str, Schema] = {}
        self._written_at = time.monotonic()
        self.failure: BaseException | None = None

    @property
    def committed(self) -> Checkpoint | None:
        """What is in MongoDB."""
        return self._sink.checkpoint

    def run(self) -> None:
        """Write until there is nothing more to come."""
        try:
            self._write_all()
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            self.failure = error
            self._queue.close()
        finally:
            self._over()

    def _write_all(self) -> None:
        while True:
            entry = self._queue.take(_IDLE_S)
            if isinstance(entry, Schema):
                self._schemas[entry.table.fingerprint] = entry
            elif entry is not None:
                self._remember_schemas()
                self._write(entry)
            elif self._queue.finished:
                break
            else:
                self._sink.tend()
                self._beat()
            if entry is not None:
                self._queue.done(entry)
            self.look()
        self._remember_schemas()
        self._sink.flush()
        while self._to_mongodb and self._sink.spooled_batches and not self._trail.retries.cancel.wait(_IDLE_S):
            self._sink.tend()
        self.look()

    def _write(self, entry: Written) -> None:
        if entry.server_uuid is not None:
            self._held.server_uuid = entry.server_uuid
        if entry.config_hash is not None:
            self._held.config_hash = entry.config_hash
        batch = entry.batch
        self._sink.write(batch)
        self._written_at = time.monotonic()
        committed = self._sink.checkpoint or batch.checkpoint
        self._metrics.committed(batch.rows, batch.bytes, committed, entry.made_at_s)

    def _beat(self) -> None:
        if time.monotonic() - self._written_at < BEAT_EVERY_S:
            return
        checkpoint = self._sink.resume_from
        # While MongoDB is away nobody can be told, and the spool needs no signs of life.
        here = self._sink.breaker.state is BreakerState.CLOSED and not self._sink.spooled_batches
        if checkpoint is not None and here:
            self._sink.write(empty_batch(checkpoint))
        self._written_at = time.monotonic()

    def _remember_schemas(self) -> None:
        while self._schemas:
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
        self._metrics.looked(
            spooled=(self._sink.spooled_batches, self._sink.spooled_bytes),
            breaker=self._sink.breaker.state.value,
        )
        documents, size = self._queue.waiting
        self._metrics.waiting(documents, size)


def empty_batch(checkpoint: Checkpoint) -> Batch:
    """Return a batch that moves nothing: it says that somebody is there, and who."""
    return Batch((), checkpoint, checkpoint.seq + 1, checkpoint.seq, 0, 0, 0)
