"""What a report says about one look: a row a table, the commands, and the numbers that plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.translog_outlook import (
    MOST_SHOWN,
    Forecast,
    Forecasts,
    above,
    crossing,
    growing_lines,
    growth_table,
    short_name,
    soonest,
)
from caretaker.translog.detect import Cause, Finding, selected
from caretaker.translog.model import MIB, PartitionRef, Target, partition_text, target_key
from caretaker.translog.policy import ResetPolicy
from ops.pictures import Bar, Fate, backlog_picture, embedded, growth_picture
from ops.shown import clipped, code, fenced, named, table, units
from ops.translog_look import Look, Size
from ops.translog_plans import planned_statements

#: Letters of commands behind the link; each table's are whole or left out.
MOST_COMMANDS = 16_000

#: Tables whose worst replica is left alone are named with the reason, but not all of them.
_MOST_REASONS = 3

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
    "above_since": "datetime64[us, UTC]",
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
    "hours_to_threshold": "0: it is above already.",
    "above_since": "The first look of those in a row that saw it above.",
    "statements": "A reset by hand: wait for the leases before the last one.",
}

_SHOWN_COLUMNS = {
    "table": "string",
    "%": "int",
    "cause": "string",
    "remedy": "string",
    "not reset now, because": "string",
}

_SHOWN_WORDS = {
    "%": "Of what its worst replica may hold.",
    "cause": BACKLOG_WORDS["cause"],
    "remedy": BACKLOG_WORDS["remedy"],
    "not reset now, because": "Empty: a reset would take it.",
}


def backlog_rows(look: Look, policy: ResetPolicy, forecasts: Forecasts) -> Rows:
    """Return a row for each table above its threshold, worst first.

    `policy.table` narrows the rows; its percentage and size only decide which are acted on.
    """
    reasons = {target_key(finding.target): reason for finding, reason in look.selection.skipped}
    return [
        _row(finding, look, forecasts, reasons.get(target_key(finding.target), ""), policy)
        for finding in look.findings
        if asked_for(finding.target, policy)
    ]


def asked_for(target: Target, policy: ResetPolicy) -> bool:
    """Whether the operator's pattern matches the table's name."""
    pattern = policy.table_pattern
    return pattern is None or pattern.fullmatch(str(target.table)) is not None


def backlog_metadata(
    look: Look, policy: ResetPolicy, rows: Rows, forecasts: Forecasts
) -> dict[str, Any]:
    """Return the answers in words, tables, pictures, and the numbers that plot over time."""
    sizes = [size for size in look.sizes if asked_for(size.target, policy)]
    shown = _asked_for(forecasts, policy)
    lines = growing_lines(shown)
    left_alone = _left_alone(rows, policy)
    # Labels are words, and tables are narrow: one wide cell, and Dagster's page has to be scrolled
    # sideways to read any of them. All columns are in the asset itself.
    return {
        "above": above(shown, len(sizes)),
        "will cross": soonest(shown),
        **({"left alone": left_alone} if left_alone else {}),
        "growth": growth_table(shown),
        # Only where there is something to see: an event is kept for ever.
        **(
            {
                "picture of growth": embedded(
                    lambda: growth_picture(lines, look.at),
                    "Translogs that are too large or will be, over the last days",
                )
            }
            if lines
            else {}
        ),
        "picture of sizes": embedded(
            lambda: backlog_picture(
                [_bar(row, policy) for row in rows], policy.percentage, otherwise=_calm(sizes)
            ),
            "Translogs of the worst replicas against their thresholds",
        ),
        "backlog": table(list(map(_shown, rows)), _SHOWN_COLUMNS, _SHOWN_WORDS, MOST_SHOWN),
        "dagster/row_count": len(rows),
        "worst %": round(max((size.percentage for size in sizes), default=0.0), 1),
        "tables above": len(rows),
        "tables to reset": sum(row["acted_on"] for row in rows),
        "tables crossing in 7 days": len(crossing(shown)),
        "tables observed": len(sizes),
        "uncommitted MiB": round(look.replica_bytes / MIB, 1),
    }


def far_above(rows: Rows, policy: ResetPolicy, forecasts: Forecasts) -> dict[str, Any]:
    """Return what `nothing_far_above_threshold` says, as an asset check's own arguments."""
    far = [row for row in rows if row["percentage"] >= policy.percentage]
    if not far:
        said = f"No replica holds {policy.percentage} % of its table's threshold."
        coming = crossing(_asked_for(forecasts, policy))
        if coming:
            first = coming[0]
            said += f" Next above it: {code(short_name(first.size.target))} {first.words}."
    else:
        worst = named([f"{code(_named(row))} {row['percentage']:,.0f} %" for row in far])
        said = f"{len(far):,} at {policy.percentage} % of the threshold or above: {worst}."
        takes = sum(row["acted_on"] for row in far)
        said += f" A reset would take {takes:,} of them" + (
            ": `caretaker translogs --autoexec`." if takes else "."
        )
        left_alone = [row for row in far if not row["acted_on"]]
        if left_alone:
            said += " Left alone: " + "; ".join(
                f"{code(_named(row))}: {clipped(row['reason'])}"
                for row in left_alone[:_MOST_REASONS]
            )
            said += "."
    return {
        "passed": not far,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": said,
        "metadata": {
            # Here and not in the asset's own: there it would be in place, and wide.
            "commands by hand": dg.MetadataValue.md(_commands(rows)),
            "tables": len(far),
            "backlog": table(list(map(_shown, far)), _SHOWN_COLUMNS, _SHOWN_WORDS),
        },
    }


def _row(
    finding: Finding, look: Look, forecasts: Forecasts, skipped: str, policy: ResetPolicy
) -> dict[str, Any]:
    reason = skipped or _why_not_selected(finding, policy)
    ahead = forecasts.get(target_key(finding.target))
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
        "growth_mb_per_h": ahead.growth_mib if ahead else None,
        "hours_to_threshold": 0.0,
        "above_since": ahead.outlook.above_since if ahead else None,
        "statements": list(
            planned_statements(finding, look.cluster_id, nudge=policy.nudge, remedy=policy.remedy)
        ),
    }


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "table": clipped(_named(row), 60),
        "%": round(row["percentage"]),
        "cause": row["cause"].replace("_", " "),
        "remedy": row["remedy"].replace("_", " "),
        "not reset now, because": row["reason"],
    }


def _asked_for(forecasts: Forecasts, policy: ResetPolicy) -> list[Forecast]:
    return [one for one in forecasts.values() if asked_for(one.size.target, policy)]


def _left_alone(rows: Rows, policy: ResetPolicy) -> str:
    """Say which of those that a reset acts on it would not take now, and why; '' for none."""
    left = [
        f"{clipped(_named(row), 60)}: {clipped(row['reason'])}"
        for row in rows
        if not row["acted_on"] and row["percentage"] >= policy.percentage
    ]
    more = f"; and {len(left) - _MOST_REASONS:,} more" if len(left) > _MOST_REASONS else ""
    return "; ".join(left[:_MOST_REASONS]) + more


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
    taken = 0
    for row in with_statements:
        by_hand = _by_hand(row)
        if units("\n".join([*lines, *by_hand])) > MOST_COMMANDS:
            break
        lines += by_hand
        taken += 1
    left_out = len(with_statements) - taken
    after = f"\n\n{left_out:,} more are in the asset's column `statements`." if left_out else ""
    return (fenced(lines[:-1]) if taken else "") + after


def _by_hand(row: Mapping[str, Any]) -> list[str]:
    *before, last = row["statements"]
    return [
        f"-- {row['percentage']:.0f} % of its threshold: {_ADVICE[row['cause']]}",
        *(f"{statement};" for statement in before),
        "-- wait until each primary holds one retention lease, its own; then put back:",
        f"{last};",
        "",
    ]


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
