"""What a sync can say of itself at any moment: written by its threads, read by everybody else."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from caretaker.binlog.model import Checkpoint

#: Rates are of this many seconds past.
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at a running sync.

    Attributes:
        rows, transactions, ddl: Committed since the start; `rows` are documents of every kind.
        rows_per_s, bytes_per_s: Over the last minute, or since the start if that is shorter.
        lag_s: Age of the newest committed transaction while there is more to come, 0 where the
            trail has all that the source has; None before anything is known.
        gtid, file, pos, seq: What is committed.
        waiting_documents, waiting_bytes: Read and not written yet.
        attempts, failed_attempts: Commits tried in the last minute, and those that failed.
        retries: Commits tried again since the start.
        mongodb_errors, mysql_errors: Connections lost or refused since the start.
        purge_margin_s: Until the source may purge what was not read; None where it never does.
        staging_pending, staging_oldest_s: Batches that wait in the staging collection.
        spooled_batches, spooled_bytes: What waits on the local disk.
        breaker: closed, open or half_open.
        flush_failed: The last stop did not write what was read.
    """

    up_s: float
    rows: int
    transactions: int
    ddl: int
    rows_per_s: float
    bytes_per_s: float
    lag_s: float | None
    gtid: str | None
    file: str | None
    pos: int | None
    seq: int
    waiting_documents: int
    waiting_bytes: int
    attempts: int
    failed_attempts: int
    retries: int
    mongodb_errors: int
    mysql_errors: int
    purge_margin_s: float | None
    staging_pending: int
    staging_oldest_s: float
    spooled_batches: int
    spooled_bytes: int
    breaker: str
    flush_failed: bool

    @property
    def error_rate(self) -> float:
        """Failed share of the last minute's commit attempts, 0 to 1."""
        return self.failed_attempts / self.attempts if self.attempts else 0.0

    def document(self) -> dict[str, Any]:
        """Return it flat, for JSON."""
        return {**asdict(self), "error_rate": self.error_rate}


@dataclass(slots=True)
class _Second:
    at: int
    rows: int = 0
    bytes: int = 0
    attempts: int = 0
    failed: int = 0


class Metrics:
    """Counters that several threads write and anybody may read."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._began = monotonic()
        self._seconds: deque[_Second] = deque()
        self._rows = self._transactions = self._ddl = 0
        self._retries = self._mongodb_errors = self._mysql_errors = 0
        self._checkpoint: Checkpoint | None = None
        self._committed_at_s: float | None = None
        self._caught_up = False
        self._waiting = (0, 0)
        self._purge_margin_s: float | None = None
        self._staging = (0, 0.0)
        self._spooled = (0, 0)
        self._breaker = "closed"
        self._flush_failed = False
        self._seen_totals = (0, 0)

    def committed(self, rows: int, size: int, made_at_s: float | None) -> None:
        """A batch is on its way; `made_at_s` is when its last transaction was committed."""
        with self._lock:
            second = self._second()
            second.rows += rows
            second.bytes += size
            self._rows += rows
            if made_at_s is not None:
                self._committed_at_s = made_at_s

    def reached(self, checkpoint: Checkpoint) -> None:
        """What is in MongoDB."""
        with self._lock:
            self._checkpoint = checkpoint

    def transaction(self) -> None:
        """A transaction was read to its end."""
        with self._lock:
            self._transactions += 1

    def statement(self) -> None:
        """A definition was read."""
        with self._lock:
            self._ddl += 1

    def attempted(self, attempts: int, failures: int, retries: int, connection_errors: int) -> None:
        """Take over the sink's own running totals."""
        with self._lock:
            before = self._seen_totals
            second = self._second()
            second.attempts += max(attempts - before[0], 0)
            second.failed += max(failures - before[1], 0)
            self._seen_totals = (attempts, failures)
            self._retries = retries
            self._mongodb_errors = connection_errors

    def mysql_lost(self) -> None:
        """The connection to the source broke, or could not be made."""
        with self._lock:
            self._mysql_errors += 1
            self._caught_up = False

    def caught_up(self, yes: bool) -> None:
        """Whether the source said that there is nothing more."""
        with self._lock:
            self._caught_up = yes

    def waiting(self, documents: int, size: int) -> None:
        """How much is read and not written, a commit under way among it."""
        with self._lock:
            self._waiting = (documents, size)

    def looked(
        self,
        *,
        purge_margin_s: float | None = None,
        staging: tuple[int, float] | None = None,
        spooled: tuple[int, int] | None = None,
        breaker: str | None = None,
    ) -> None:
        """What the once-a-minute look found; None leaves what was known."""
        with self._lock:
            if purge_margin_s is not None:
                self._purge_margin_s = purge_margin_s
            self._staging = self._staging if staging is None else staging
            self._spooled = self._spooled if spooled is None else spooled
            self._breaker = self._breaker if breaker is None else breaker

    def flush_failed(self) -> None:
        """A stop ran out of time."""
        with self._lock:
            self._flush_failed = True

    def vitals(self) -> Vitals:
        """Return one consistent look."""
        with self._lock:
            self._forget()
            up_s = self._monotonic() - self._began
            span = max(min(up_s, WINDOW_S), 1e-3)
            known = self._checkpoint
            return Vitals(
                up_s=up_s,
                rows=self._rows,
                transactions=self._transactions,
                ddl=self._ddl,
                rows_per_s=sum(second.rows for second in self._seconds) / span,
                bytes_per_s=sum(second.bytes for second in self._seconds) / span,
                lag_s=self._lag_s(),
                gtid=known.gtid if known else None,
                file=known.position.file if known else None,
                pos=known.position.pos if known else None,
                seq=known.seq if known else 0,
                waiting_documents=self._waiting[0],
                waiting_bytes=self._waiting[1],
                attempts=sum(second.attempts for second in self._seconds),
                failed_attempts=sum(second.failed for second in self._seconds),
                retries=self._retries,
                mongodb_errors=self._mongodb_errors,
                mysql_errors=self._mysql_errors,
                purge_margin_s=self._purge_margin_s,
                staging_pending=self._staging[0],
                staging_oldest_s=self._staging[1],
                spooled_batches=self._spooled[0],
                spooled_bytes=self._spooled[1],
                breaker=self._breaker,
                flush_failed=self._flush_failed,
            )

    def _lag_s(self) -> float | None:
        there = not self._waiting[0] and not self._spooled[0] and self._breaker == "closed"
        if self._caught_up and there:
            return 0.0
        if self._committed_at_s is None:
            return None
        # Two machines' clocks: a source that is ahead of us is not in our future.
        return max(0.0, self._wall() - self._committed_at_s)

    def _second(self) -> _Second:
        now = int(self._monotonic())
        if not self._seconds or self._seconds[-1].at != now:
            self._seconds.append(_Second(now))
            self._forget()
        return self._seconds[-1]

    def _forget(self) -> None:
        oldest = self._monotonic() - WINDOW_S
        while self._seconds and self._seconds[0].at < oldest:
            self._seconds.popleft()
