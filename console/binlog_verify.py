"""`caretaker binlog verify`: tables held against their trails, as a run that the UI shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from console.binlog_ends import config_option
from console.binlog_rows import table_name
from console.environment import use_log_format
from console.options import log_format_option, output_option, with_config_file
from console.output import echo, print_json, print_table
from console.runs import run_job
from ops.binlog_config import BinlogSyncConfig, BinlogVerifyConfig

_EXAMPLES = """\b
Examples:
  caretaker binlog verify shop.orders
  caretaker binlog verify shop.orders shop.items --output json
"""
_COUNTS = ("rows", "equal", "partial", "not_covered", "different", "missing", "extra")


@click.command(
    "verify",
    epilog=_EXAMPLES,
    help="Compare every row of tables with what their trails add up to. Rows older than the trail "
    "are not covered. Exits with 1 where a row differs.",
)
@click.argument("tables", nargs=-1, required=True, metavar="DB.TABLE...")
@click.option("--source", metavar="NAME", help="Name of the source.  [default: mysql]")
@click.option("--wait", "wait_s", type=float, metavar="SECONDS", help="For the trail to be there.")
@click.option("--chunk-rows", type=int, help="Rows compared at once.  [default: 10000]")
@config_option
@output_option
@log_format_option
def verify(
    *,
    tables: Sequence[str],
    source: str | None,
    wait_s: float | None,
    chunk_rows: int | None,
    config_file: Path | None,
    output: str,
    log_format: str | None,
) -> None:
    """Run the job, and judge."""
    use_log_format(log_format)
    for table in tables:
        table_name(table)
    flags = {
        "tables": list(tables),
        "source": source,
        "wait_s": wait_s,
        "chunk_rows": chunk_rows,
    }
    config = with_config_file(config_file, flags, BinlogVerifyConfig, BinlogSyncConfig)
    end = run_job("binlog_verify", config.model_dump(), outputs=("verify_tables",))
    found = end.outputs.get("verify_tables")
    if not end.success or not isinstance(found, list):
        raise end.error()
    bad = any(each["different"] or each["missing"] or each["extra"] for each in found)
    if output == "json":
        print_json({"tables": found, "exit_code": int(bad)})
    else:
        columns = ["table", *(name.replace("_", " ") for name in _COUNTS)]
        print_table(columns, [[each["table"], *(each[name] for name in _COUNTS)] for each in found])
        for each in found:
            for difference in each["differences"]:
                told = ", ".join(
                    f"{side['column']}: {side['source']} here, {side['trail']} in the trail"
                    for side in difference["columns"]
                )
                echo(f"{each['table']} {difference['key']}: {difference['what']} {told}".rstrip())
    sys.exit(int(bad))
