"""`caretaker binlog`: run the sync, look at it, and say when it is not to run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from caretaker.errors import CaretakerError, LostPositionError
from console.binlog_ends import (
    config_option,
    dry_run_option,
    open_mysql,
    operator,
    position,
    reading,
    source_option,
)
from console.binlog_gap import accept_gap
from console.binlog_rows import history, undo
from console.binlog_tail import tail
from console.binlog_verify import verify
from console.environment import use_log_format
from console.options import log_format_option, output_option, with_config_file
from console.output import echo, iso, print_json, print_table
from console.runs import mark_resumed, run_job
from ops.binlog import hash_secret
from ops.binlog_beginning import where_it_goes_on
from ops.binlog_config import BinlogSetupConfig, BinlogSyncConfig
from resources.clock import utc_now
from resources.mongodb.offsets import Marks

_EXAMPLES = """\b
Examples:
  caretaker binlog setup                         once: collections and indexes
  caretaker binlog run --until-current           everything up to now, then end
"""


@click.group(
    "binlog",
    epilog=_EXAMPLES,
    help="Keep an audit trail in MongoDB of every row change of a MySQL or MariaDB. "
    "Exit codes: 0 done, 1 error, 2 usage, 3 refused and nothing touched.",
)
def binlog() -> None:
    """Every verb is a command of its own."""


_RUN = """\b
Examples:
  caretaker binlog run
  caretaker binlog run --until-current --from current --include 'shop\\..*'
"""


@binlog.command(
    "run",
    epilog=_RUN,
    help="Follow the binlog into the trail, here and now, as a run that the UI shows. Ctrl-C "
    "writes what was read and ends; the next run goes on from there.",
)
@click.option(
    "--until-current",
    is_flag=True,
    default=None,
    help="End once the source's position is written; exit code 1 if stopped before that.",
)
@click.option(
    "--from",
    "start",
    metavar="PLACE",
    help="saved, earliest, current, gtid:SET or file:NAME:POS; only an empty trail may begin "
    "elsewhere than saved.  [default: saved]",
)
@click.option("--source", metavar="NAME", help="Name of the source.  [default: mysql]")
@click.option("--protocol", help="staged, direct, idempotent or auto.  [default: staged]")
@click.option("--include", multiple=True, metavar="RE", help="Only db.tables that match.")
@click.option("--exclude", multiple=True, metavar="RE", help="No db.tables that match.")
@click.option("--spool-dir", metavar="DIR", help="Where batches wait while MongoDB is away.")
@click.option(
    "--cross-check",
    "cross_check_percent",
    metavar="N%",
    help="Decode so many transactions with mysql-replication, too, and stop at a difference.",
)
@config_option
@dry_run_option
@output_option
@log_format_option
def run(
    *,
    config_file: Path | None,
    dry_run: bool,
    output: str,
    log_format: str | None,
    include: Sequence[str],
    exclude: Sequence[str],
    cross_check_percent: str | None,
    **flags: Any,
) -> None:
    """Run the job in this process."""
    use_log_format(log_format)
    flags |= {
        "include": list(include) or None,
        "exclude": list(exclude) or None,
        "cross_check_percent": _percent(cross_check_percent),
    }
    config = with_config_file(config_file, flags, BinlogSyncConfig)
    hash_secret(config.policy())
    if dry_run:
        sys.exit(_plan(config, output))
    end = run_job("binlog_sync", config.model_dump(), outputs=("sync",))
    found = end.outputs.get("sync")
    if not end.success or not isinstance(found, dict):
        raise end.error()
    with reading() as trail:
        offset = trail.offset(config.source)
    told = {**found, "source": config.source, "position": position(offset.checkpoint)}
    # Who asked for everything up to now, and was stopped or paused before that, has not got it.
    code = 1 if config.until_current and found["why"] != "until_current" else 0
    if output == "json":
        print_json({**told, "exit_code": code})
    else:
        echo(
            f"{config.source}: {found['rows']} documents written, seq {found['seq']}; "
            f"{found['why'].replace('_', ' ')}"
        )
    sys.exit(code)


def _percent(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise click.UsageError(f"--cross-check: {text!r} is no percentage, such as 1%") from None


def _plan(config: BinlogSyncConfig, output: str) -> int:
    """Say where a run would begin, and what would refuse it; 3 where something would."""
    policy = config.policy()
    with reading() as trail, open_mysql(policy.source) as source:
        offset = trail.offset(policy.source)
        refusals = [str(each) for each in source.check() if each.blocking]
        warnings = [str(each) for each in source.check() if not each.blocking]
        refusals += [problem.found for problem in trail.check()]
        marks = Marks(offset.server_uuid, offset.config_hash)
        begins, marks = where_it_goes_on(policy, offset.checkpoint, marks)
        try:
            if offset.paused is not None:
                refusals.append(f"paused by {offset.paused.by}: {offset.paused.reason}")
            if begins is None:
                begins = source.at("earliest" if policy.start == "saved" else policy.start)
            else:
                if policy.start != "saved":
                    refusals.append("the trail has an end, and --from names another place")
                source.verify(begins, marks.server_uuid or None)
        except LostPositionError as error:
            refusals.append(str(error))
    would = "resume" if offset.checkpoint is not None else "start"
    document = {
        "source": policy.source,
        "would": would,
        "position": position(begins),
        "refusals": refusals,
        "warnings": warnings,
    }
    if output == "json":
        print_json({**document, "exit_code": 3 if refusals else 0})
    else:
        where = position(begins) or {}
        place = where.get("gtid") or f"{where.get('file')}:{where.get('pos')}"
        echo(f"would {would} from {place}, seq {where.get('seq', 0)}")
        for refusal in refusals:
            echo(f"would refuse: {refusal}")
        for warning in warnings:
            echo(f"would warn: {warning}")
    return 3 if refusals else 0


_SETUP = """\b
Examples:
  caretaker binlog setup
  caretaker binlog setup --dry-run --output json
"""


@binlog.command("setup", epilog=_SETUP, help="Make the trail's collections and indexes.")
@click.option("--protocol", help="staged, direct, idempotent or auto.  [default: staged]")
@dry_run_option
@output_option
@log_format_option
def setup(*, protocol: str | None, dry_run: bool, output: str, log_format: str | None) -> None:
    """Run the job in this process."""
    use_log_format(log_format)
    flags = {"protocol": protocol, "dry_run": dry_run}
    config = with_config_file(None, flags, BinlogSetupConfig)
    end = run_job("binlog_setup", config.model_dump(), outputs=("setup",))
    found = end.outputs.get("setup")
    if not end.success or not isinstance(found, dict):
        raise end.error()
    if output == "json":
        print_json({**found, "exit_code": 0})
        return
    for line in found["missing" if dry_run else "made"]:
        echo(line)
    if not found["made"] and not found["missing"]:
        echo("Everything is there.")


_STATUS = """\b
Examples:
  caretaker binlog status
  caretaker binlog status --source orders --output json
"""


@binlog.command("status", epilog=_STATUS, help="How far the trail is, who writes it, what waits.")
@source_option
@output_option
def status(*, source: str, output: str) -> None:
    """Read the offset document; ask the source where it can be reached."""
    with reading() as trail:
        found = trail.status(source)
    offset = found.offset
    since = found.oldest_pending_at
    document: dict[str, Any] = {
        "source": source,
        "position": position(offset.checkpoint),
        "epoch": offset.epoch,
        "server_uuid": offset.server_uuid or None,
        "holder": None if offset.holder is None else offset.holder.document(),
        "last_seen_at": iso(offset.at),
        "paused": None
        if offset.paused is None
        else {
            "by": offset.paused.by,
            "reason": offset.paused.reason,
            "at": iso(offset.paused.at),
        },
        "staging": {
            "pending": found.pending,
            "oldest_pending_s": None if since is None else (utc_now() - since).total_seconds(),
            "archived": found.archived,
        },
        **_seen_from_the_source(source, offset.checkpoint, offset.server_uuid),
    }
    if output == "json":
        print_json(document)
        return
    flat = {
        **{key: value for key, value in document.items() if not isinstance(value, dict)},
        **(document["position"] or {}),
        "staging": f"{found.pending} pending, {found.archived} archived",
    }
    if offset.holder is not None:
        flat["holder"] = str(offset.holder)
    if offset.paused is not None:
        flat["paused"] = f"by {offset.paused.by}: {offset.paused.reason}"
    print_table(["what", "found"], [[key, value] for key, value in flat.items()])


def _seen_from_the_source(name: str, checkpoint: Any, server_uuid: str) -> dict[str, Any]:
    """Return what only the source knows; nulls where it cannot be reached."""
    unknown = {"caught_up": None, "purge_margin_s": None, "source_error": None}
    if checkpoint is None:
        return unknown
    try:
        with open_mysql(f"{name}, status") as source:
            now = source.now()
            try:
                source.verify(checkpoint, server_uuid or None)
            except LostPositionError as error:
                return {"caught_up": False, "purge_margin_s": 0.0, "source_error": str(error)}
            return {
                **unknown,
                "caught_up": now.gtid == checkpoint.gtid
                if now.gtid is not None
                else now.position == checkpoint.position,
                "purge_margin_s": source.purge_margin_s(checkpoint),
            }
    except CaretakerError as error:
        return {**unknown, "source_error": str(error)}


_PAUSE = """\b
Examples:
  caretaker binlog pause --reason 'moving MongoDB tonight'
  caretaker binlog pause --source orders --dry-run
"""


@binlog.command(
    "pause",
    epilog=_PAUSE,
    help="Let the running sync write what it has read and end, and start none until resumed.",
)
@click.option("--reason", default="no reason given", metavar="TEXT", help="For whoever asks why.")
@source_option
@dry_run_option
@output_option
def pause(*, reason: str, source: str, dry_run: bool, output: str) -> None:
    """Write the operator's word into the offset document."""
    with reading() as trail:
        before = trail.offset(source).paused
        if not dry_run:
            trail.pause(source, operator(), reason)
    _told_pause(source, output, paused=not dry_run, was_paused=before is not None)


_RESUME = """\b
Examples:
  caretaker binlog resume
  caretaker binlog resume --source orders
"""


@binlog.command(
    "resume",
    epilog=_RESUME,
    help="Lift a pause, and let the supervisor start again after a terminated run.",
)
@source_option
@dry_run_option
@output_option
def resume(*, source: str, dry_run: bool, output: str) -> None:
    """Take the operator's word back."""
    with reading() as trail:
        was = trail.offset(source).paused is not None
        if not dry_run:
            trail.resume(source)
            mark_resumed("binlog_sync", operator())
    _told_pause(source, output, paused=was and dry_run, was_paused=was)


def _told_pause(source: str, output: str, *, paused: bool, was_paused: bool) -> None:
    if output == "json":
        print_json({"source": source, "paused": paused, "was_paused": was_paused})
    else:
        now, before = ("paused" if flag else "not paused" for flag in (paused, was_paused))
        echo(f"{source} is {now} (was {before})")


for command in (tail, verify, history, undo, accept_gap):
    binlog.add_command(command)
