"""`caretaker binlog tail`: the documents that a run would write, one a line; nothing remembered."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import bson
import click
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from caretaker.binlog.batcher import Batch
from caretaker.binlog.rows import RowsEncoder
from caretaker.errors import TransientError
from console.binlog_ends import config_option, open_mysql
from console.environment import use_log_format
from console.options import log_format_option, with_config_file
from console.runs import counted_stops
from ops.binlog import hash_secret
from ops.binlog_beginning import refuse_problems
from ops.binlog_config import BinlogSyncConfig
from ops.binlog_cross_check import CrossCheck
from ops.binlog_filters import filters_of
from ops.binlog_metrics import Metrics
from ops.binlog_queue import Entry, Written
from ops.binlog_reader import End, Reader, Reading
from ops.events import Event
from ops.logs import say
from resources.mysql.zstd import decompress

_EXAMPLES = """\b
Examples:
  caretaker binlog tail --from earliest --until-current
  caretaker binlog tail --table 'shop\\.orders' | jq .chg
"""
_DECODED: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_PAUSE_S = 1.0


@click.command(
    "tail",
    epilog=_EXAMPLES,
    help="Print the documents that run would write, one canonical Extended JSON object a line, "
    "seq from 1. Needs no MongoDB and remembers nothing.",
)
@click.option(
    "--from",
    "start",
    default="current",
    show_default=True,
    metavar="PLACE",
    help="earliest, current, gtid:SET or file:NAME:POS.",
)
@click.option("--until-current", is_flag=True, help="End at the position of the source now.")
@click.option("--table", metavar="RE", help="Only where this matches all of db.table.")
@click.option(
    "--decoder",
    type=click.Choice(["own", "reference"]),
    default="own",
    show_default=True,
    help="reference: mysql-replication decodes, too, and the first difference stops.",
)
@config_option
@log_format_option
def tail(
    *,
    start: str,
    until_current: bool,
    table: str | None,
    decoder: str,
    config_file: Path | None,
    log_format: str | None,
) -> None:
    """Read, print, forget."""
    use_log_format(log_format)
    if start == "saved":
        raise click.UsageError("--from: tail remembers nothing, so there is no saved place")
    flags = {"start": start, "until_current": until_current}
    if table is not None:
        flags["include"] = [table]
    config = with_config_file(config_file, flags, BinlogSyncConfig)
    with counted_stops():
        try:
            _follow(config, reference=decoder == "reference")
        except KeyboardInterrupt:
            return
        except BrokenPipeError:
            _let_go_of_stdout()


def _follow(config: BinlogSyncConfig, *, reference: bool) -> None:
    policy = config.policy()
    filters = filters_of(policy, hash_secret(policy))
    # Two that follow under one name end each other's dumps: that of `run`, and of a second tail.
    name = f"{policy.source}, tail {uuid4()}"
    with open_mysql(name) as source:
        refuse_problems(source, _warn)
        checkpoint = source.at(policy.start)
        goal = source.now() if policy.until_current else None
    while True:
        reader = None
        try:
            with (
                open_mysql(name) as source,
                closing(
                    source.dump(checkpoint, wait=goal is None, heartbeat_s=policy.heartbeat_s)
                ) as dump,
            ):
                charsets = source.charsets()
                reading = Reading(
                    policy=policy,
                    flavor=source.flavor(),
                    encoder=RowsEncoder(
                        filters=filters,
                        charsets=charsets,
                        local_time=policy.local_time,
                        on_partial_image=policy.on_partial_image,
                    ),
                    known_types=source.known_types(),
                    decompress=decompress,
                    put=_print,
                    say=_warn,
                    metrics=Metrics(),
                    stop=threading.Event(),
                    cross_check=CrossCheck(filters, charsets, percent=100.0) if reference else None,
                )
                reader = Reader(reading, checkpoint, goal=goal)
                if reader.run(dump) is End.GOAL:
                    return
        except TransientError as error:
            if reader is None:
                raise
            checkpoint = reader.handed_over
            say(f"{error}; going on from {checkpoint.position}")
            threading.Event().wait(_PAUSE_S)


def _print(entry: Entry) -> None:
    if isinstance(entry, Written):
        sys.stdout.writelines(_lines(entry.batch))
        sys.stdout.flush()


def _lines(batch: Batch) -> Iterator[str]:
    for document in batch.documents:
        decoded = bson.decode(document, _DECODED)
        yield json_util.dumps(decoded, json_options=json_util.CANONICAL_JSON_OPTIONS) + "\n"


def _warn(event: Event) -> None:
    say(event.sentence())


def _let_go_of_stdout() -> None:
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - not a path of anybody's
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
