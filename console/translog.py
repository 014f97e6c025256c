"""`caretaker translogs`: report, plan or reset, by the very jobs that the UI shows."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from caretaker.errors import CaretakerError
from caretaker.translog.model import MIB, PartitionRef, ResetState, TableRef, partition_text
from caretaker.translog.outcome import ResetOutcome, ResetResult, exit_code, summarise
from console.environment import require_dagster_home, use_log_format
from console.options import log_format_option, output_option, with_config_file
from console.output import echo, print_json, print_table, results_document
from console.runs import RunEnd, deaf_to_stops, run_job
from console.stores import open_store
from ops.logbook import result_of
from ops.logs import on_one_line, say
from ops.restoring import remedy_for
from ops.translog_config import TranslogReportConfig, TranslogResetConfig, TranslogRestoreConfig
from ops.translog_run import RunReport

_EXAMPLES = """\b
Examples:
  caretaker translogs                                   what is wrong, and why
  caretaker translogs --autoexec --percentage 300 --max-wait 1800
"""

#: Options that choose or shape a reset; `--resume` only finishes what was begun.
_SELECTORS = (
    "percentage",
    "max_wait_s",
    "concurrent",
    "size_mb",
    "table",
    "remedy",
    "nudge",
    "expected_nodes",
    "max_tables",
)

#: Options that a reset shares with the restore that ends it.
_OF_A_RESTORE = frozenset(TranslogRestoreConfig.model_fields)

#: Ctrl-C twice: stop at once, and leave the ticket.
_AT_ONCE = 2

#: Outcomes to look through for those of one run.
_MANY = 10_000


@click.command(
    "translogs",
    epilog=_EXAMPLES,
    help="Find replicas that hold huge uncommitted translogs, and free them. Without an option: "
    "only the report. Exit codes: 0 done or nothing to do, 1 nothing touched, 2 every table "
    "failed, 3 some failed or were left undone, 4 a table is without its original replicas.",
)
@click.option("--autoexec", is_flag=True, help="Reset the tables found, one after another.")
@click.option("--execute", is_flag=True, help="Print the statements for you to run by hand.")
@click.option("--dry-run", is_flag=True, help="Say what --autoexec would do; change nothing.")
@click.option("--resume", is_flag=True, help="Restore tables whose run died; start nothing new.")
@click.option("--percentage", type=int, help="Act from this % of the threshold.  [default: 200]")
@click.option(
    "--max-wait",
    "max_wait_s",
    type=float,
    metavar="SECONDS",
    help="Longest wait for leases.  [default: 720]",
)
@click.option("--concurrent", type=int, help="Tables at 0 replicas at once, 1-8.  [default: 1]")
@click.option("--size-mb", "size_mb", type=float, help="Act only from this many MiB.")
@click.option("--table", metavar="RE", help="Act only where this matches all of schema.table.")
@click.option("--remedy", help="replicas or flush_first.  [default: replicas]")
@click.option(
    "--no-nudge",
    "nudge",
    flag_value=False,
    default=None,
    type=bool,
    help="Wait for CrateDB's own lease sync instead of asking for it.",
)
@click.option("--expected-nodes", type=int, help="Refuse unless so many nodes are present.")
@click.option("--max-tables", type=int, help="Reset at most so many, worst first.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The job's run config in YAML; options win over it.",
)
@output_option
@log_format_option
def translogs(
    *,
    autoexec: bool,
    execute: bool,
    dry_run: bool,
    resume: bool,
    config_file: Path | None,
    output: str,
    log_format: str | None,
    **flags: Any,
) -> None:
    """Choose the face and run its job."""
    _refuse_together(autoexec=autoexec, execute=execute, dry_run=dry_run, resume=resume, **flags)
    use_log_format(log_format)
    if resume:
        code = _resume(config_file, output, dry_run=dry_run)
    elif autoexec or dry_run:
        code = _reset(config_file, flags, output, dry_run=dry_run)
    else:
        code = _report(config_file, flags, output, paste=execute)
    sys.exit(code)


def _refuse_together(*, autoexec: bool, execute: bool, dry_run: bool, **others: Any) -> None:
    resume = others.pop("resume")
    if autoexec and execute:
        raise click.UsageError("--autoexec and --execute exclude each other: run it, or print it")
    if execute and dry_run:
        raise click.UsageError("--execute and --dry-run exclude each other: both only print")
    if resume:
        given = [name for name in _SELECTORS if others.get(name) is not None]
        if given or autoexec or execute:
            raise click.UsageError("--resume finishes what was begun and takes no selector")


def _report(config_file: Path | None, flags: dict[str, Any], output: str, *, paste: bool) -> int:
    # The file may be a reset's: a report takes from it what it has a use for.
    whole = with_config_file(config_file, flags, TranslogResetConfig, TranslogRestoreConfig)
    options = {
        key: value
        for key, value in whole.model_dump().items()
        if key in TranslogReportConfig.model_fields
    }
    end = run_job("translog_report", options, outputs=("translog_backlog",))
    backlog = end.outputs.get("translog_backlog")
    if backlog is None:
        raise end.error()
    results = [_of_row(row) for row in backlog.to_dict("records")]
    if output == "json":
        print_json(results_document(results, 0))
    elif paste:
        _print_statements(results)
    else:
        _print_backlog(results)
    return 0


def _of_row(row: dict[str, Any]) -> ResetResult:
    """Return a row of the backlog as a result; what a reset would not take has its reason."""
    table, values = TableRef(row["schema"], row["table"]), row["partition_values"]
    acted_on = bool(row["acted_on"])
    return ResetResult(
        target=PartitionRef(table, "", tuple(values.items())) if values else table,
        state=ResetState.DETECTED,
        outcome=None if acted_on else ResetOutcome.SKIPPED,
        reason=row["reason"],
        cause=row["cause"],
        worst_bytes=int(row["uncommitted_mb"] * MIB),
        threshold_bytes=int(row["threshold_mb"] * MIB),
        percentage=row["percentage"],
        original_replicas=row["replicas"] or None,
        final_replicas=row["replicas"] or None,
        statements=tuple(row["statements"]) if acted_on else (),
    )


def _reset(config_file: Path | None, flags: dict[str, Any], output: str, *, dry_run: bool) -> int:
    config = with_config_file(config_file, flags, TranslogResetConfig, TranslogRestoreConfig)
    options = {**config.model_dump(), "dry_run": dry_run or config.dry_run}
    end = run_job("translog_reset", options, outputs=("record_resets",))
    with deaf_to_stops():
        report = end.outputs.get("record_resets")
        if isinstance(report, RunReport):
            results: Sequence[ResetResult] = report.results
            code = report.exit_code
        else:
            results, code = _what_is_known(end, options)
        if output == "json":
            print_json(results_document(results, code))
        elif options["dry_run"]:
            _print_statements(results)
        else:
            _print_outcomes(results)
    return code


def _resume(config_file: Path | None, output: str, *, dry_run: bool) -> int:
    config = with_config_file(config_file, {}, TranslogRestoreConfig, TranslogResetConfig)
    require_dagster_home()
    with open_store() as store:
        waiting = store.open_tickets()
    if not waiting or dry_run:
        results: Sequence[ResetResult] = [_of_ticket(ticket) for ticket in waiting]
        if output == "json":
            print_json(results_document(results, 0))
        elif not waiting:
            echo("No open ticket: nothing to resume.")
        else:
            _print_statements(results)
        return 0
    end = run_job("translog_restore", config.model_dump(), outputs=("record_restores",))
    with deaf_to_stops():
        report = end.outputs.get("record_restores")
        if isinstance(report, RunReport):
            results, code = report.results, report.exit_code
        else:
            results, code = _what_is_known(end, config.model_dump())
        if output == "json":
            print_json(results_document(results, code))
        elif results:
            _print_outcomes(results)
        else:
            echo("Every open ticket belongs to a run that is alive: nothing to resume.")
    return code


def _of_ticket(ticket: Any) -> ResetResult:
    return ResetResult(
        target=ticket.target,
        state=ticket.state,
        outcome=None,
        cause=ticket.cause,
        worst_bytes=ticket.worst_bytes,
        threshold_bytes=ticket.threshold_bytes,
        percentage=ticket.worst_bytes * 100 / ticket.threshold_bytes,
        original_replicas=ticket.original_replicas,
        reason=ticket.reason,
        statements=(remedy_for(ticket).rendered,),
    )


def _what_is_known(end: RunEnd, options: Mapping[str, Any]) -> tuple[list[ResetResult], int]:
    """Return outcomes and exit code of a run that did not reach its end.

    Raises the run's own error where nothing was begun. Where something was and the store cannot
    say how it ended, the exit code is the loudest: nobody can say that the replicas are back.
    """
    try:
        results, code = _what_the_store_knows(end, options)
    except CaretakerError as error:
        if not end.began:
            raise end.error() from error
        say(f"the run ended early ({end.failure}), and what it did cannot be read: {error}")
        return [], 4
    if code == 1:
        raise end.error()
    return results, code


def _what_the_store_knows(end: RunEnd, options: Mapping[str, Any]) -> tuple[list[ResetResult], int]:
    """Return the outcomes of a run that did not reach its end, its open tickets restored first.

    The restore keeps to the run's own limits.
    Stopped twice, nothing more is tried: the tickets stay, and so does the way back.
    """
    runs = {end.run_id}
    with open_store() as store:
        left = [ticket for ticket in store.open_tickets() if ticket.owner.run_id == end.run_id]
        if left and end.stops < _AT_ONCE:
            ids = [ticket.id for ticket in left]
            limits = {key: options[key] for key in options if key in _OF_A_RESTORE}
            restored = run_job("translog_restore", {**limits, "ticket_ids": ids}, outputs=())
            runs.add(restored.run_id)
            left = [ticket for ticket in store.open_tickets() if ticket.id in ids]
        results = [result_of(row) for row in store.outcomes(limit=_MANY) if row.run_id in runs]
    results.reverse()
    for ticket in left:
        reason = f"ticket {ticket.id} stays open; run: {remedy_for(ticket).rendered}"
        results.append(
            replace(_of_ticket(ticket), outcome=ResetOutcome.NOT_RESTORED, reason=reason)
        )
    code = exit_code(results)
    if code in {0, 2}:
        # The run did not reach its end: whatever came after these was left undone.
        code = 3 if any(result.attempted for result in results) else 1
    return results, code


def _print_statements(results: Sequence[ResetResult]) -> None:
    """Print SQL that can be pasted as it stands; what is no SQL is a comment."""
    if not any(result.statements for result in results):
        echo("-- Nothing to do.")
    for result in results:
        title = f"{result.target}: {result.worst_bytes / MIB:.1f} MiB, {result.percentage:.0f} % of"
        echo(on_one_line(f"-- {title} its threshold, {result.cause}"))
        if result.outcome is ResetOutcome.SKIPPED:
            echo(on_one_line(f"-- left alone: {result.reason}"))
        for statement in result.statements:
            echo(f"{statement};")


def _print_backlog(results: Sequence[ResetResult]) -> None:
    if not results:
        echo("No replica is above its threshold.")
        return
    columns = ["table", "partition", "worst MiB", "threshold MiB", "%", "cause", "replicas", "note"]
    print_table(
        columns,
        [
            [
                str(result.target.table),
                partition_text(result.target) or None,
                round(result.worst_bytes / MIB, 1),
                round(result.threshold_bytes / MIB, 1),
                round(result.percentage, 1),
                result.cause,
                result.original_replicas,
                result.reason or None,
            ]
            for result in results
        ],
    )
    echo("\nTo see the statements: --execute. To plan the reset: --dry-run. To run: --autoexec.")


def _print_outcomes(results: Sequence[ResetResult]) -> None:
    if not results:
        echo("No table is above its threshold: nothing to do.")
        return
    columns = ["table", "partition", "outcome", "replicas", "s at 0", "seconds", "reason"]
    print_table(
        columns,
        [
            [
                str(result.target.table),
                partition_text(result.target) or None,
                _outcome(result),
                f"{result.original_replicas} -> {result.final_replicas}",
                result.seconds_at_zero,
                result.duration_s,
                result.reason or None,
            ]
            for result in results
        ],
    )
    counts = summarise(results)
    echo(
        f"\n{counts.found} found, {counts.attempted} attempted, {counts.completed} completed, "
        f"{counts.failed} failed, {counts.not_restored} not restored, {counts.skipped} skipped"
    )


def _outcome(result: ResetResult) -> str:
    if result.left_undone:
        return "LEFT UNDONE"
    name = result.outcome.value if result.outcome else result.state.value
    return f"{name} (degraded)" if result.degraded else name
