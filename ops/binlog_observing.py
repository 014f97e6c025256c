"""What a sync shows in Dagster while it runs: an observation a minute, and its alerts as checks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from caretaker.binlog.alerts import Verdict, verdicts
from ops.binlog_metrics import Vitals
from ops.binlog_pictures import Look, sync_picture
from ops.pictures import embedded
from resources.clock import utc_now

_log = logging.getLogger(__name__)

ROW_CHANGES = dg.AssetKey("row_changes")
BINLOG_OFFSETS = dg.AssetKey("binlog_offsets")

#: Looks that a picture shows: 12 hours of minutes.
_KEPT = 720
#: A picture is thirty times as large as the numbers: not with each of a week's 10,000. A young
#: sync, which somebody looks at, has one more often: each time it is half as old again.
_PICTURE_EVERY_S = 900.0
_OLDER_BY = 1 / 3
#: A check that stays as it is is said again, so that it does not look forgotten.
_CHECKS_EVERY_S = 1800.0


class Observer:
    """Writes observations while the step runs; Dagster stores each as an event."""

    def __init__(
        self, log_event: Callable[[Any], None], vitals: Callable[[], Vitals], every_s: float
    ) -> None:
        self._log_event = log_event
        self._vitals = vitals
        self._every_s = every_s
        self._looks: deque[Look] = deque(maxlen=_KEPT)
        self._at = self._checked = -1e9
        self._began = self._pictured = time.monotonic()
        self._before: Vitals | None = None
        self._passed: dict[str, bool] = {}

    def look_around(self) -> None:
        """Observe if it is time to."""
        if time.monotonic() - self._at >= self._every_s:
            self.observe()

    def observe(self) -> None:
        """Observe now; a storage that does not take it is no reason to end what it tells of."""
        try:
            self._observe()
        except Exception as error:  # noqa: BLE001 - a database's, a network's: whatever it is
            # Where Dagster's storage is away its log is, too: nobody but stderr hears this.
            _log.warning("an observation was not stored: %s", error)

    def _observe(self) -> None:
        now = self._vitals()
        self._at = time.monotonic()
        self._looks.append(Look(utc_now(), now.lag_s, now.rows_per_s))
        metadata = rows_metadata(now)
        age_s = self._at - self._began
        if self._at - self._pictured >= min(_PICTURE_EVERY_S, age_s * _OLDER_BY):
            self._pictured = self._at
            metadata["picture"] = embedded(lambda: sync_picture(self._looks), "lag and rate")
        self._log_event(dg.AssetObservation(asset_key=ROW_CHANGES, metadata=metadata))
        self._log_event(
            dg.AssetObservation(asset_key=BINLOG_OFFSETS, metadata=position_metadata(now))
        )
        self._check(now)
        self._before = now

    def _check(self, now: Vitals) -> None:
        again = self._at - self._checked >= _CHECKS_EVERY_S
        for verdict in verdicts(now, self._before):
            if again or self._passed.get(verdict.check) is not verdict.passed:
                self._passed[verdict.check] = verdict.passed
                self._log_event(evaluation(verdict))
        if again:
            self._checked = self._at


def evaluation(verdict: Verdict) -> dg.AssetCheckEvaluation:
    """Return a verdict as Dagster stores it."""
    return dg.AssetCheckEvaluation(
        asset_key=ROW_CHANGES,
        check_name=verdict.check,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR
        if verdict.check in {"shutdown_flush", "purge_margin"}
        else dg.AssetCheckSeverity.WARN,
        metadata={"found": verdict.found},
    )


def rows_metadata(now: Vitals) -> dict[str, Any]:
    """Return the numbers that plot over time."""
    told: Mapping[str, float | int | str | None] = {
        "in_words": _standing(now),
        "lag_s": None if now.lag_s is None else round(now.lag_s, 3),
        "rows_per_s": round(now.rows_per_s, 1),
        "kb_per_s": round(now.bytes_per_s / 1000, 1),
        "seq": now.seq,
        "rows": now.rows,
        "transactions": now.transactions,
        "waiting_documents": now.waiting_documents,
        "error_rate": round(now.error_rate, 5),
        "attempts": now.attempts,
        "failed_attempts": now.failed_attempts,
        "flush_failed": now.flush_failed,
        "retries": now.retries,
        "mongodb_errors": now.mongodb_errors,
        "mysql_errors": now.mysql_errors,
        "staging_pending": now.staging_pending,
        "staging_oldest_s": round(now.staging_oldest_s, 1),
        "spooled_bytes": now.spooled_bytes,
        "breaker": now.breaker,
    }
    return {name: value for name, value in told.items() if value is not None}


def position_metadata(now: Vitals) -> dict[str, Any]:
    """Return where the trail is."""
    told: Mapping[str, float | int | str | None] = {
        "in_words": _safety(now),
        "gtid": now.gtid,
        "file": now.file,
        "pos": now.pos,
        "seq": now.seq,
        "purge_margin_s": None if now.purge_margin_s is None else round(now.purge_margin_s),
    }
    return {name: value for name, value in told.items() if value is not None}


def _standing(now: Vitals) -> str:
    if now.lag_s is None:
        behind = "Nothing is known of the lag yet"
    elif now.lag_s == 0:
        behind = "All that the source has is in the trail"
    else:
        behind = f"{now.lag_s:.1f} s behind the source"
    away = {"open": "; MongoDB is away", "half_open": "; MongoDB may be back"}.get(now.breaker, "")
    return f"{behind}; {now.seq:,} documents in all, {now.rows_per_s:.1f} a second{away}."


def _safety(now: Vitals) -> str:
    place = f"{now.file}:{now.pos}" if now.gtid is None else "the transactions in gtid"
    done = f"Everything up to {place} is in the trail, seq 1 to {now.seq:,}."
    if now.purge_margin_s is None:
        return done
    days = now.purge_margin_s / 86_400
    return f"{done} What comes next stays in the source for {days:.1f} more days."
