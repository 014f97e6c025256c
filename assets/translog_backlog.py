"""What a report says about one look: a row a table, the commands, and the numbers that plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from caretaker.translog.detect import Cause, Finding, selected
from caretaker.translog.model import MIB, PartitionRef, Target, partition_text, target_key
from caretaker.translog.policy import ResetPolicy
from caretaker.translog.trend import Sample, growth_per_hour, hours_until
from ops.pictures import Bar, Fate, backlog_picture, embedded
from ops.translog_history import fenced
from ops.translog_look import Look, Size
from ops.translog_plans import planned_statements
from resources.state_store import SampleRow

#: Samples are kept for two weeks; a trend looks at one of them.
SAMPLES_KEPT = timedelta(days=14)
TREND_WINDOW = timedelta(days=7)

#: Smaller translogs are not worth a row an hour.
SAMPLED_FROM_PERCENT = 10.0

#: Rows that the UI shows; the asset itself holds them all.
MOST_ROWS = 200
MOST_COMMANDS = 25

Rows = list[dict[str, Any]]

#: A contract: the CLI and people's notebooks read these names.
BACKLOG_COLUMNS = {
    "schema": "string",
    "table": "string",
    "partition": "string",
    "partition_values": "object",
    "shard": "int64",
    "node": "string",
    "uncommitted_mb": "float64",
    "threshold_mb": "float64",
    "percentage": "float64",
    "cause": "string",
    "replicas": "string",
    "remedy": "string",
    "acted_on": "bool",
    "reason": "string",
    "growth_mb_per_h": "float64",
    "hours_to_threshold": "float64",
    "statements": "object",
}

BACKLOG_WORDS = {
    "partition": "Values of the partition, empty for a whole table.",
    "partition_values": "The same by column, as CrateDB has them; missing for a whole table.",
    "shard": "The shard whose replica is worst.",
    "node": "Where that replica is.",
    "uncommitted_mb": "MiB that the worst replica has not committed.",
    "threshold_mb": "MiB it may hold: flush_threshold_size and a tenth more.",
    "percentage": "The one in % of the other.",
    "cause": "safe_commit_lag, seq_no_gap, primary_too or unknown.",
    "replicas": "number_of_replicas, as the catalog shows it.",
    "remedy": "The gentlest that fits the cause: flush_first or replicas.",
    "acted_on": "Whether a reset would take it now.",
    "reason": "Why a reset would not.",
    "growth_mb_per_h": "MiB an hour since the last fall; missing where it is too early to say.",
    "hours_to_threshold": "0 where it is above already; missing where it does not grow.",
    "statements": "A reset by hand: wait for the leases before the last one.",
}

GROWING_COLUMNS = {
    "schema": "string",
    "table": "string",
    "partition": "string",
    "uncommitted_mb": "float",
    "threshold_mb": "float",
    "percentage": "float",
    "growth_mb_per_h": "float",
    "hours_to_threshold": "float",
}

_SHOWN_COLUMNS = {
    "schema": "string",
    "table": "string",
    "partition": "string",
    "shard": "int",
    "node": "string",
    "uncommitted_mb": "float",
    "threshold_mb": "float",
    "percentage": "float",
    "cause": "string",
    "replicas": "string",
    "remedy": "string",
    "reason": "string",
}

Growth = Mapping[tuple[str, str, str], float | None]


def worth_a_sample(look: Look) -> list[tuple[Target, int, int]]:
    """Return what to remember of this look, as `add_samples` takes it."""
    return [
        (size.target, size.worst_bytes, size.threshold_bytes)
        for size in look.sizes
        if size.percentage >= SAMPLED_FROM_PERCENT
    ]


def growth_of(samples: Iterable[SampleRow]) -> Growth:
    """Return the growth of each target in bytes an hour, by target key."""
    series: dict[tuple[str, str, str], list[Sample]] = {}
    for row in samples:
        series.setdefault(target_key(row.target), []).append((row.at, row.worst_bytes))
    return {key: growth_per_hour(values) for key, values in series.items()}


def backlog_rows(look: Look, policy: ResetPolicy, growth: Growth) -> Rows:
    """Return a row for each table above its threshold, worst first.

    `policy.table` narrows the rows; its percentage and size only decide which are acted on.
    """
    reasons = {target_key(finding.target): reason for finding, reason in look.selection.skipped}
    return [
        _row(finding, look, growth, reasons.get(target_key(finding.target), ""), policy)
        for finding in look.findings
        if asked_for(finding.target, policy)
    ]


def growing_rows(look: Look, policy: ResetPolicy, growth: Growth) -> Rows:
    """Return a row for each table that is still below its threshold and grows, soonest first."""
    rows = [
        _growing(size, growth[key])
        for size in look.sizes
        if size.worst_bytes <= size.threshold_bytes
        and asked_for(size.target, policy)
        and (growth.get(key := target_key(size.target)) or 0) > 0
    ]
    return sorted(rows, key=lambda row: float(row["hours_to_threshold"] or 0))


def asked_for(target: Target, policy: ResetPolicy) -> bool:
    """Whether the operator's pattern matches the table's name."""
    pattern = policy.table_pattern
    return pattern is None or pattern.fullmatch(str(target.table)) is not None


def backlog_metadata(look: Look, policy: ResetPolicy, rows: Rows, growing: Rows) -> dict[str, Any]:
    """Return tables, commands to paste, picture, and numbers that plot over time."""
    sizes = [size for size in look.sizes if asked_for(size.target, policy)]
    return {
        "picture": embedded(
            lambda: backlog_picture(
                [_bar(row, policy) for row in rows], policy.percentage, otherwise=_calm(sizes)
            ),
            "Translogs of the worst replicas against their thresholds",
        ),
        "dagster/row_count": len(rows),
        "tables_observed": len(sizes),
        "tables_over_threshold": len(rows),
        "tables_a_reset_would_take": sum(row["acted_on"] for row in rows),
        "worst_percentage": round(max((size.percentage for size in sizes), default=0.0), 1),
        "total_uncommitted_mb": round(look.replica_bytes / MIB, 1),
        "backlog": _table(rows, _SHOWN_COLUMNS),
        "growing": _table(growing, GROWING_COLUMNS),
        "commands": dg.MetadataValue.md(_commands(rows)),
    }


def far_above(rows: Rows, policy: ResetPolicy) -> dict[str, Any]:
    """Return what `nothing_far_above_threshold` says, as an asset check's own arguments."""
    far = [row for row in rows if row["percentage"] >= policy.percentage]
    if not far:
        said = f"No replica holds {policy.percentage} % of its table's threshold."
    else:
        said = (
            f"{len(far)} at {policy.percentage} % of the threshold or above; "
            f"the worst is {_named(far[0])} at {far[0]['percentage']:.0f} %."
        )
    return {
        "passed": not far,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": said,
        "metadata": {"tables": len(far), "backlog": _table(far, _SHOWN_COLUMNS)},
    }


def _row(
    finding: Finding, look: Look, growth: Growth, skipped: str, policy: ResetPolicy
) -> dict[str, Any]:
    reason = skipped or _why_not_selected(finding, policy)
    grows = growth.get(target_key(finding.target))
    return {
        **_names(finding.target),
        "partition_values": _values(finding.target),
        "shard": finding.worst.shard_id,
        "node": finding.worst.node_name or "",
        "uncommitted_mb": _mib(finding.worst_bytes),
        "threshold_mb": _mib(finding.threshold_bytes),
        "percentage": round(finding.percentage, 1),
        "cause": finding.cause.value,
        "replicas": finding.table.number_of_replicas or "",
        "remedy": finding.recommended.value,
        "acted_on": not reason,
        "reason": reason,
        "growth_mb_per_h": None if grows is None else _mib(grows),
        "hours_to_threshold": 0.0,
        "statements": list(
            planned_statements(finding, look.cluster_id, nudge=policy.nudge, remedy=policy.remedy)
        ),
    }


def _growing(size: Size, growth: float | None) -> dict[str, Any]:
    hours = hours_until(size.threshold_bytes, size.worst_bytes, growth)
    return {
        **_names(size.target),
        "uncommitted_mb": _mib(size.worst_bytes),
        "threshold_mb": _mib(size.threshold_bytes),
        "percentage": round(size.percentage, 1),
        "growth_mb_per_h": _mib(growth or 0),
        "hours_to_threshold": None if hours is None else round(hours, 1),
    }


def _why_not_selected(finding: Finding, policy: ResetPolicy) -> str:
    if selected(finding, policy):
        return ""
    if finding.worst_bytes * 100 < policy.percentage * finding.threshold_bytes:
        return f"below {policy.percentage} % of its threshold"
    return f"smaller than {policy.size_mb:g} MiB"


def _commands(rows: Rows) -> str:
    """Write a reset by hand, table by table, with what to wait for between the statements."""
    with_statements = [row for row in rows if row["statements"]]
    if not with_statements:
        return "Nothing to paste: no table is above its threshold."
    lines: list[str] = []
    for row in with_statements[:MOST_COMMANDS]:
        *before, last = row["statements"]
        lines += [f"-- {row['percentage']:.0f} % of its threshold: {_ADVICE[row['cause']]}"]
        lines += [f"{statement};" for statement in before]
        lines += [
            "-- wait until each primary holds one retention lease, its own; then put back:",
            f"{last};",
            "",
        ]
    left_out = len(with_statements) - MOST_COMMANDS
    after = f"\n\n{left_out} more are in the asset's column `statements`." if left_out > 0 else ""
    return fenced(lines[:-1]) + after


_ADVICE = {
    Cause.SAFE_COMMIT_LAG: "the OPTIMIZE alone may cure it, try that first",
    Cause.SEQ_NO_GAP: "only a rebuilt copy cures it",
    Cause.PRIMARY_TOO: "the primary is as large, a reset does not cure that; OPTIMIZE may",
    Cause.UNKNOWN: "cause unknown, the OPTIMIZE alone may cure it",
}


def _bar(row: dict[str, Any], policy: ResetPolicy) -> Bar:
    fate = Fate.RESET if row["acted_on"] else Fate.LEFT
    if row["percentage"] < policy.percentage:
        fate = Fate.BELOW
    return Bar(_named(row), row["percentage"], int(row["uncommitted_mb"] * MIB), fate)


def _calm(sizes: Sequence[Size]) -> str:
    if not sizes:
        return "No table was seen."
    fullest = sizes[0]
    return (
        f"{len(sizes):,} tables and partitions looked at; the fullest is {fullest.target} "
        f"at {fullest.percentage:.0f} % of what it may hold."
    )


def _named(row: Mapping[str, Any]) -> str:
    inside = f" ({row['partition']})" if row["partition"] else ""
    return f"{row['schema']}.{row['table']}{inside}"


def _names(target: Target) -> dict[str, str]:
    return {
        "schema": target.table.schema,
        "table": target.table.name,
        "partition": partition_text(target),
    }


def _values(target: Target) -> dict[str, Any] | None:
    return dict(target.values) if isinstance(target, PartitionRef) else None


def _mib(size: float) -> float:
    return round(size / MIB, 1)


def _table(rows: Rows, columns: Mapping[str, str]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord({name: row[name] for name in columns}) for row in rows[:MOST_ROWS]],
        dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )
