"""One dump of the source, from its checkpoint to where it breaks or ends: bytes in, batches out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from caretaker.binlog.batcher import Batch, Batcher
from caretaker.binlog.columns import KnownType
from caretaker.binlog.concerns import concern_of
from caretaker.binlog.document import ddl_document
from caretaker.binlog.frames import file_order
from caretaker.binlog.model import (
    BeforeTheTrail,
    Checkpoint,
    Commit,
    Ddl,
    EndOfLog,
    Flavor,
    Heartbeat,
    Item,
    Position,
    Rows,
    SchemaChanged,
)
from caretaker.binlog.policy import SyncPolicy
from caretaker.binlog.progress import has_reached
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import KnownTypes, TableMap, TableMaps
from caretaker.binlog.xa import XaSpool
from caretaker.errors import LostPositionError, TransientError
from ops import binlog_events
from ops.binlog_cross_check import CrossCheck
from ops.binlog_metrics import Metrics
from ops.binlog_queue import Entry, Schema, Written
from ops.events import Event
from resources.mysql.known_types import AskedTypes

#: How long a read of a silent source takes before we look whether to stop.
_READ_S = 0.25


class Dump(Protocol):
    """What is read from; `resources.mysql` has the real one."""

    def read(self, timeout_s: float) -> list[bytes]:
        """Return payloads as they come, [] where none came in time."""
        ...


class End(Enum):
    """Why a dump was not read any further."""

    STOPPED = auto()
    GOAL = auto()
    BOUNDARY = auto()


@dataclass(frozen=True)
class Reading:
    """What all dumps of a sync have in common.

    Attributes:
        decompress: Inflates zstd.
        put: Hands an entry over; may wait for room.
        known_types: What only information_schema tells of MariaDB's types.
    """

    policy: SyncPolicy
    flavor: Flavor
    encoder: RowsEncoder
    known_types: KnownTypes
    decompress: Callable[[bytes], Any]
    put: Callable[[Entry], None]
    say: Callable[[Event], None]
    metrics: Metrics
    stop: threading.Event
    cross_check: CrossCheck | None = None


class Reader:
    """Reads one dump.

    Args:
        checkpoint: Where the dump was asked to begin.
        goal: End once everything up to here is handed over, a place of the server that is read;
            None to follow for ever.
        to_boundary: End at the end of the transaction that is in flight.
    """

    def __init__(
        self,
        reading: Reading,
        checkpoint: Checkpoint,
        *,
        goal: Checkpoint | None = None,
        to_boundary: bool = False,
    ) -> None:
        policy = reading.policy
        self._reading = reading
        self._goal = goal
        self._handed = checkpoint
        self._batcher = Batcher(checkpoint, reading.flavor, policy.limits)
        self._stream = Stream(
            Source(reading.flavor, policy.identity, gap_before=policy.gap_before),
            checkpoint,
            TableMaps(reading.flavor, reading.known_types),
            reading.decompress,
            XaSpool(policy.xa_memory_bytes),
        )
        if to_boundary:
            self._batcher.ask_for_boundary()
        self._made_at_s: float | None = None
        self._cut_at = time.monotonic()
        self._end: End | None = None

    @property
    def handed_over(self) -> Checkpoint:
        """What is true once all that was handed over is written: where to begin again."""
        return self._handed

    @property
    def pending(self) -> int:
        """Documents that are read and not handed over."""
        return self._batcher.pending

    def run(self, dump: Dump) -> End:
        """Read until told to stop, or to the goal; hand over what is pending, whatever happens.

        What is pending is handed over only at an orderly end. Where the dump breaks the next one
        gives it again.

        Raises:
            TransientError: The source ended the dump, and not because it had no more: it shuts
                down, or somebody killed the dump.
        """
        if self._goal is not None and self._reached(self._handed.position):
            return End.GOAL
        stop, caught_up = self._reading.stop, self._reading.metrics.caught_up
        while self._end is None:
            if stop.is_set():
                self._end = End.STOPPED
                break
            payloads = dump.read(_READ_S)
            caught_up(not payloads)
            for payload in payloads:
                self._read(payload)
                if self._end is not None or stop.is_set():
                    break
            self._flush_what_waited()
        self._hand_over(self._batcher.flush())
        return self._end

    def _read(self, payload: bytes) -> None:
        try:
            for item in self._stream.feed(payload):
                self._take(item)
        except LostPositionError:
            # Whoever accepts the loss goes on behind it: all before it has to be in the trail.
            self._hand_over(self._batcher.flush())
            raise

    def _flush_what_waited(self) -> None:
        if time.monotonic() - self._cut_at >= self._reading.policy.flush_after_s:
            self._hand_over(self._batcher.flush())
            self._cut_at = time.monotonic()

    def _take(self, item: Item) -> None:
        reading, batcher = self._reading, self._batcher
        if isinstance(item, Rows):
            item.context.seq = batcher.next_seq
            table: Any = item.table
            self._made_at_s = self._made_at_s or float(item.context.timestamp_s)
            encoded = reading.encoder.documents(
                item.event_type, item.body, table, item.context, skip=batcher.to_skip
            )
            if reading.cross_check is not None:
                reading.cross_check.rows(item, encoded.documents)
            full = batcher.rows(item.transaction, encoded)
        elif isinstance(item, Ddl):
            full = self._statement(item)
        else:
            full = batcher.pass_item(item)
            self._notice(item)
        if full:
            self._hand_over(full)

    def _statement(self, item: Ddl) -> list[Batch]:
        known_types = self._reading.known_types
        if isinstance(known_types, AskedTypes):
            known_types.forget()
        if item.administrative:
            return []
        concern = concern_of(item.sql, item.schema)
        if not concern.covered(self._reading.encoder.filters):
            return []
        self._reading.metrics.statement()
        item.context.seq = self._batcher.next_seq
        schema, table = concern.table or (concern.schema or item.schema, "")
        document = ddl_document(
            item.context,
            schema=schema or None,
            table=table or None,
            sql=item.sql,
            local_time=self._reading.policy.local_time,
        )
        return self._batcher.document(item.transaction, document, item.raw)

    def _notice(self, item: Item) -> None:
        reading = self._reading
        if isinstance(item, Commit):
            reading.metrics.transaction()
            self._made_at_s = (
                item.commit_us / 1e6 if item.commit_us is not None else float(item.timestamp_s)
            )
            if item.rolled_back:
                reading.say(binlog_events.partly_rolled_back(item.transaction))
            if self._goal is not None and self._reached(item.position):
                self._end = End.GOAL
        elif isinstance(item, SchemaChanged):
            table = item.table
            if isinstance(table, TableMap) and reading.encoder.covers(table):
                self._warn_of_guesses(table)
                reading.put(Schema(table, str(self._stream.position)))
        elif isinstance(item, BeforeTheTrail):
            reading.say(binlog_events.before_the_trail(item.xid, item.transaction))
        elif isinstance(item, EndOfLog):
            self._end_of_log()
        elif isinstance(item, Heartbeat):
            reading.metrics.caught_up(True)  # noqa: FBT003

    def _warn_of_guesses(self, table: TableMap) -> None:
        known_types = self._reading.known_types
        if not isinstance(known_types, AskedTypes):
            return
        if known_types.is_guess((table.schema, table.name)):
            columns = [each.name for each in table.columns if any(map(each.may_be, KnownType))]
            if columns:
                self._reading.say(binlog_events.guessed_bytes(str(table), columns))

    def _end_of_log(self) -> None:
        """Believe it only at the goal: a server that shuts down says the same, anywhere."""
        position = self._stream.position
        # By GTID, too: of what it has not to send again, a server sends no positions.
        known = self._goal is not None and has_reached(
            self._batcher.checkpoint(), self._goal, self._reading.flavor
        )
        if not known and not self._reached(position):
            raise TransientError(f"the source ended the dump at {position}", target=str(position))
        self._end = End.GOAL

    def _reached(self, position: Position) -> bool:
        # A start that an operator named by GTID has no place in a file yet.
        if self._goal is None or not position.file:
            return False
        return file_order(position) >= file_order(self._goal.position)

    def _hand_over(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._reading.put(Written(batch, self._made_at_s))
            self._handed = batch.checkpoint
            self._cut_at = time.monotonic()
            if batch.boundary:
                self._end = End.BOUNDARY
