"""When somebody must look at a sync: the conditions that its operators settled on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

ERROR_RATE = 0.01
STAGING_BATCHES = 100
STAGING_OLDEST_S = 300.0
LAG_S = 5.0
#: A source that purges within the hour leaves no time to sleep.
PURGE_MARGIN_S = 3600.0


class Sign(Protocol):
    """What the alerts are computed from; `ops.binlog_metrics.Vitals` has it."""

    @property
    def error_rate(self) -> float: ...
    @property
    def attempts(self) -> int: ...
    @property
    def failed_attempts(self) -> int: ...
    @property
    def staging_pending(self) -> int: ...
    @property
    def staging_oldest_s(self) -> float: ...
    @property
    def lag_s(self) -> float | None: ...
    @property
    def flush_failed(self) -> bool: ...
    @property
    def retries(self) -> int: ...
    @property
    def mongodb_errors(self) -> int: ...
    @property
    def purge_margin_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition, judged.

    Attributes:
        check: Name of the asset check.
        found: What it is, for people.
    """

    check: str
    passed: bool
    found: str


#: Name of each check, and what it promises.
CHECKS = {
    "error_rate": "At most 1 % of the last minute's commit attempts failed.",
    "staging": "At most 100 staged batches wait, none for longer than 5 minutes.",
    "lag": "The trail is at most 5 s behind the source.",
    "shutdown_flush": "The last stop wrote all that was read.",
    "retries": "No commit had to be tried again since the last look.",
    "mongodb_connection": "No connection to MongoDB was lost since the last look.",
    "purge_margin": "The source keeps what was not read for at least another hour.",
}


def verdicts(now: Sign, before: Sign | None = None) -> Iterator[Verdict]:
    """Judge every condition; those that count events do so since the look `before`."""
    rate = f"{now.failed_attempts} of {now.attempts} attempts failed"
    yield Verdict("error_rate", now.error_rate <= ERROR_RATE, rate)
    waits = now.staging_pending <= STAGING_BATCHES and now.staging_oldest_s <= STAGING_OLDEST_S
    oldest = f", the oldest for {now.staging_oldest_s:.0f} s" if now.staging_pending else ""
    yield Verdict("staging", waits, f"{now.staging_pending} batches wait{oldest}")
    lag = "unknown" if now.lag_s is None else f"{now.lag_s:.1f} s behind"
    yield Verdict("lag", now.lag_s is None or now.lag_s <= LAG_S, lag)
    flush = "failed shutdown flush" if now.flush_failed else "no stop left anything unwritten"
    yield Verdict("shutdown_flush", not now.flush_failed, flush)
    retried = now.retries - (before.retries if before is not None else 0)
    yield Verdict("retries", retried <= 0, f"{max(retried, 0)} since the last look")
    lost = now.mongodb_errors - (before.mongodb_errors if before is not None else 0)
    yield Verdict("mongodb_connection", lost <= 0, f"{max(lost, 0)} lost since the last look")
    margin = now.purge_margin_s
    told = "the source purges nothing by itself" if margin is None else f"{margin / 3600:.1f} h"
    yield Verdict("purge_margin", margin is None or margin >= PURGE_MARGIN_S, told)
