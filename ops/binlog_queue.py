"""Between the thread that reads and the one that writes: bounded in bytes, in order, closable."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from caretaker.binlog.batcher import Batch
from caretaker.binlog.tablemap import TableMap

#: What a batch without documents counts for.
_LEAST = 256


@dataclass(frozen=True, slots=True)
class Written:
    """A batch to be committed.

    Attributes:
        made_at_s: When the last transaction in it was committed on the source, where known.
        server_uuid, config_hash: What the offset document says from this batch on; None as before.
    """

    batch: Batch
    made_at_s: float | None = None
    server_uuid: str | None = None
    config_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """A version of a table that the rows behind it are of."""

    table: TableMap
    position: str


Entry: TypeAlias = Written | Schema


class ClosedError(Exception):
    """Nobody reads from this queue any more."""


class BatchQueue:
    """Entries in order; `put` waits while `limit_bytes` are in it, but takes one of any size."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = self._documents = 0
        self._taken = 0
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False

    def put(self, entry: Entry) -> None:
        """Add an entry as soon as there is room; ClosedError once nobody takes any."""
        size, documents = _size(entry)
        with self._changed:
            while self._bytes and self._bytes + size > self._limit and not self._closed:
                self._changed.wait(1.0)
            if self._closed:
                raise ClosedError
            self._entries.append(entry)
            self._bytes += size
            self._documents += documents
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Entry | None:
        """Return the oldest entry, None where none comes in time; `done` must follow each."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._entries:
                rest = deadline - time.monotonic()
                if self._ended or rest <= 0:
                    return None
                self._changed.wait(rest)
            self._taken += 1
            return self._entries.popleft()

    def done(self, entry: Entry) -> None:
        """What was taken is written: its room is free."""
        size, documents = _size(entry)
        with self._changed:
            self._bytes -= size
            self._documents -= documents
            self._taken -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will come: `take` gives what is left, then None at once."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody will take any more: whoever waits to put is let go."""
        with self._changed:
            self._closed = self._ended = True
            self._changed.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Whether all that was put is written, within the time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (self._entries or self._taken) and not self._closed:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    return False
                self._changed.wait(rest)
            return not self._entries and not self._taken

    @property
    def finished(self) -> bool:
        """Nothing is left and nothing will come."""
        with self._changed:
            return self._ended and not self._entries

    @property
    def waiting(self) -> tuple[int, int]:
        """Documents and bytes that are not written yet, those being written among them."""
        with self._changed:
            return self._documents, self._bytes


def _size(entry: Entry) -> tuple[int, int]:
    if isinstance(entry, Schema):
        return _LEAST, 0
    return entry.batch.bytes + _LEAST, entry.batch.rows
