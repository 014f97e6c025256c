"""Both ends of a sync, for verbs that run no job: the source, the trail, and how each is shown."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from bson import json_util

from caretaker.binlog.model import Checkpoint
from resources.mongodb.offsets import Holder
from resources.mongodb.resource import MongoDBResource
from resources.mongodb.settings import DATABASE, URI
from resources.mongodb.trail import Trail
from resources.mysql.settings import MYSQL_URL
from resources.mysql.source import MySQLSource, open_source

source_option = click.option(
    "--source", default="mysql", show_default=True, metavar="NAME", help="Name of the source."
)
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The job's run config in YAML; options win over it.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done; change nothing."
)


def mongodb() -> MongoDBResource:
    """Return the trail's resource with the variables' very texts."""
    return MongoDBResource(uri=os.environ.get(URI, ""), database=os.environ.get(DATABASE, ""))


@contextmanager
def reading() -> Iterator[Trail]:
    """Open the trail to read from, and to pause."""
    with mongodb().reading() as trail:
        yield trail


def open_mysql(name: str) -> MySQLSource:
    """Return the source of MYSQL_URL, to be closed."""
    return open_source(os.environ.get(MYSQL_URL, ""), name)


def operator() -> str:
    """Return who types this, as the trail is to remember it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def holder(verb: str) -> Holder:
    """Return who holds the trail while a verb writes to it."""
    return Holder(f"caretaker binlog {verb}", socket.gethostname(), os.getpid())


def position(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """Return a checkpoint as scripts read it."""
    if checkpoint is None:
        return None
    inflight = checkpoint.inflight
    return {
        "gtid": checkpoint.gtid,
        "file": checkpoint.position.file,
        "pos": checkpoint.position.pos,
        "seq": checkpoint.seq,
        "inflight": None
        if inflight is None
        else {"transaction": inflight.transaction, "rows": inflight.rows},
    }


def plain(value: Any) -> Any:
    """Return values of the trail as JSON has them: relaxed Extended JSON."""
    return json_util._json_convert(value, json_util.RELAXED_JSON_OPTIONS)  # noqa: SLF001


def told(value: Any) -> str:
    """Return a value of the trail on one line."""
    return str(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))
