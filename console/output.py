"""Results on stdout: an aligned table for a person, one JSON document for a script."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from caretaker.translog.model import MIB, PartitionRef
from caretaker.translog.outcome import ResetResult, exit_code, summarise
from ops.logs import on_one_line, say


def echo(text: str = "") -> None:
    """Print to stdout; where nobody reads it or nothing can be written, go on without.

    The exit code is about what was done to the systems, so a closed pipe may not change it.
    """
    try:
        click.echo(text)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            say(f"the result could not be written to stdout: {error.strerror}")
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - not a path of anybody's
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their columns, numbers to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [
        max(len(column), *(len(row[i]) for row in texts), 0) for i, column in enumerate(columns)
    ]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(columns))
    ]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        return "  ".join(placed).rstrip()

    echo(line([column.upper() for column in columns]))
    for row in texts:
        echo(line(row))


def print_json(document: object) -> None:
    """Print one JSON document; times as ISO 8601 in UTC."""
    echo(json.dumps(document, indent=2, ensure_ascii=False, default=_jsonable))


def results_document(results: Sequence[ResetResult], code: int | None = None) -> dict[str, Any]:
    """Return the document of `translogs --output json`, whose keys are a contract."""
    counts = summarise(results)
    return {
        "tables": [_table(result) for result in results],
        "summary": {
            "found": counts.found,
            "attempted": counts.attempted,
            "completed": counts.completed,
            "failed": counts.failed,
            "not_restored": counts.not_restored,
            "skipped": counts.skipped,
        },
        "exit_code": exit_code(results) if code is None else code,
    }


def iso(moment: datetime | None) -> str | None:
    """Return a time as scripts read it, 2026-01-15T12:00:00.123Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _table(result: ResetResult) -> dict[str, Any]:
    target = result.target
    partition = dict(target.values) if isinstance(target, PartitionRef) else None
    return {
        "schema": target.table.schema,
        "table": target.table.name,
        "partition": partition,
        "worst_mb": round(result.worst_bytes / MIB, 1),
        "threshold_mb": round(result.threshold_bytes / MIB, 1),
        "percentage": round(result.percentage, 1),
        "cause": result.cause,
        "original_replicas": result.original_replicas,
        "final_replicas": result.final_replicas,
        "state": result.state.value,
        "outcome": result.outcome.value if result.outcome else None,
        "reason": result.reason,
        "degraded": result.degraded,
        "lease_wait_s": round(result.lease_wait_s, 3),
        "duration_s": round(result.duration_s, 3),
        "seconds_at_zero": round(result.seconds_at_zero, 3),
        "statements": list(result.statements),
    }


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return on_one_line(str(cell))


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(f"{type(value).__name__} has no place in a document")
