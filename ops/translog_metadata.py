"""A run's results as the UI shows them: a bounded table, and a sentence for those that failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from caretaker.translog.model import MIB, partition_text
from caretaker.translog.outcome import ResetOutcome, ResetResult, summarise
from ops.shown import MOST_NAMES, clipped, table

#: What somebody must know first comes first: a table shows only so many of a thousand.
_FIRST = (
    ResetOutcome.NOT_RESTORED,
    ResetOutcome.PRIMARY_LOST,
    ResetOutcome.LEASES_TIMED_OUT,
    ResetOutcome.CHANGED_UNDERNEATH,
    ResetOutcome.FAILED_RESTORED,
    ResetOutcome.REFUSED,
    ResetOutcome.COMPLETED,
    None,
    ResetOutcome.SKIPPED,
)

#: Letters of a reason in a failure's message; longer than any statement with its error.
_MOST_LETTERS = 1000


def outcomes_metadata(results: Iterable[ResetResult]) -> dict[str, Any]:
    """Return a table of outcomes, the counts, and the seconds that tables were at 0 replicas."""
    results = sorted(results, key=_urgency)
    counts = summarise(results)
    at_zero = [result.seconds_at_zero for result in results if result.attempted]
    metadata: dict[str, Any] = {
        "found": counts.found,
        "attempted": counts.attempted,
        "completed": counts.completed,
        "failed": counts.failed,
        "not_restored": counts.not_restored,
        "skipped": counts.skipped,
    }
    if at_zero:
        metadata["max_seconds_at_zero"] = float(max(at_zero))
    if results:
        metadata["tables"] = table([_record(result) for result in results], _COLUMNS, _WORDS)
    return metadata


def why_it_failed(results: Iterable[ResetResult]) -> str:
    """Name the tables that failed, the worst first; a NOT_RESTORED brings what to paste.

    Its reason ends with the statement, which is told whole or not at all.
    """
    failed = sorted((result for result in results if result.failed), key=_urgency)
    lines = [
        f"{clipped(str(result.target))}: {result.outcome}"
        + (f", {result.reason}" if 0 < len(result.reason) <= _MOST_LETTERS else "")
        for result in failed
    ]
    return "".join(f"\n{line}" for line in lines[:MOST_NAMES]) + (
        f"\nand {len(lines) - MOST_NAMES:,} more: see the asset translog_resets"
        if len(lines) > MOST_NAMES
        else ""
    )


def _urgency(result: ResetResult) -> tuple[int, float]:
    return _FIRST.index(result.outcome), -result.percentage


_COLUMNS = {
    "table": "string",
    "partition": "string",
    "outcome": "string",
    "seconds_at_zero": "float",
    "reason": "string",
    "cause": "string",
    "worst_mb": "float",
    "threshold_mb": "float",
    "original_replicas": "string",
    "final_replicas": "string",
    "duration_s": "float",
}

_WORDS = {
    "partition": "Values of the partition, empty for a whole table.",
    "outcome": "Degraded: replicas are back as text, but not all started and small in time.",
    "seconds_at_zero": "From before the SET to 0 was sent until the original was read back.",
    "worst_mb": "MiB that the worst replica had not committed.",
    "threshold_mb": "MiB it may hold: flush_threshold_size and a tenth more.",
}


def _record(result: ResetResult) -> dict[str, Any]:
    outcome = result.outcome.value if result.outcome else "PLANNED"
    return {
        "table": str(result.target.table),
        "partition": partition_text(result.target),
        "outcome": f"{outcome} (degraded)" if result.degraded else outcome,
        "seconds_at_zero": round(result.seconds_at_zero, 3),
        "reason": result.reason,
        "cause": result.cause,
        "worst_mb": round(result.worst_bytes / MIB, 1),
        "threshold_mb": round(result.threshold_bytes / MIB, 1),
        "original_replicas": result.original_replicas or "",
        "final_replicas": result.final_replicas or "",
        "duration_s": round(result.duration_s, 3),
    }
