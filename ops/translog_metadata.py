"""Results as tables that the UI shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from caretaker.translog.model import MIB, partition_text
from caretaker.translog.outcome import ResetResult, summarise


def outcomes_metadata(results: Iterable[ResetResult]) -> dict[str, Any]:
    """Return a table of outcomes, the counts, and the seconds that tables were at 0 replicas."""
    results = list(results)
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
        metadata["tables"] = dg.MetadataValue.table(
            [dg.TableRecord(_record(result)) for result in results], _SCHEMA
        )
    return metadata


_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("table", "string"),
        dg.TableColumn("partition", "string"),
        dg.TableColumn("outcome", "string"),
        dg.TableColumn("reason", "string"),
        dg.TableColumn("cause", "string"),
        dg.TableColumn("worst_mb", "float"),
        dg.TableColumn("threshold_mb", "float"),
        dg.TableColumn("original_replicas", "string"),
        dg.TableColumn("final_replicas", "string"),
        dg.TableColumn("seconds_at_zero", "float"),
        dg.TableColumn("duration_s", "float"),
    ]
)


def _record(result: ResetResult) -> dict[str, Any]:
    outcome = result.outcome.value if result.outcome else "PLANNED"
    return {
        "table": str(result.target.table),
        "partition": partition_text(result.target),
        "outcome": f"{outcome} (degraded)" if result.degraded else outcome,
        "reason": result.reason,
        "cause": result.cause,
        "worst_mb": round(result.worst_bytes / MIB, 1),
        "threshold_mb": round(result.threshold_bytes / MIB, 1),
        "original_replicas": result.original_replicas or "",
        "final_replicas": result.final_replicas or "",
        "seconds_at_zero": round(result.seconds_at_zero, 3),
        "duration_s": round(result.duration_s, 3),
    }
