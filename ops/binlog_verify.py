"""The step that holds tables against their trails; see `ops.binlog_comparison`."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import os
import time
from typing import Any

import dagster as dg

from caretaker.binlog.frames import file_order
from caretaker.binlog.model import Checkpoint, Flavor
from caretaker.binlog.progress import has_reached
from caretaker.errors import RefusedError, TransientError
from ops.binlog import HASH_SECRET
from ops.binlog_comparison import Compared, compare
from ops.binlog_config import BinlogVerifyConfig
from ops.binlog_filters import saved_filters
from ops.binlog_seen import Seen
from ops.errors import final_errors
from resources.mongodb.resource import MongoDBResource
from resources.mongodb.trail import Trail
from resources.mysql.resource import MySQLResource
from resources.mysql.source import MySQLSource

_LOOK_EVERY_S = 0.5


@dg.op(
    name="verify_tables",
    tags={"kind": "mysql"},
    description="Compare each table's rows with what its trail adds up to, at one moment.",
)
def verify_tables(
    context: dg.OpExecutionContext,
    config: BinlogVerifyConfig,
    mysql: MySQLResource,
    mongodb: MongoDBResource,
) -> list[dict[str, Any]]:
    """Compare, tell what differs, and fail nothing: the caller judges by what is returned."""
    with final_errors():
        policy = config.policy()
        if not config.tables:
            raise RefusedError("tables: found [], expected db.table names", target="tables")
        with mysql.open(f"{policy.source}, verify") as source, mongodb.reading() as trail:
            found = [_verify(source, trail, name, config) for name in config.tables]
        documents = [each.document() for each in found]
        context.add_output_metadata(
            {
                "tables": dg.MetadataValue.table(
                    [
                        dg.TableRecord({k: v for k, v in each.items() if k != "differences"})
                        for each in documents
                    ]
                ),
                "ok": all(each.ok for each in found),
            }
        )
        return documents


def _verify(source: MySQLSource, trail: Trail, name: str, config: BinlogVerifyConfig) -> Compared:
    table = source.table(name)
    if not table.key:
        raise RefusedError(f"{name} has no primary key: its rows cannot be told apart", target=name)
    with source.snapshot() as snapshot:
        _wait_for(trail, config.source, snapshot.high, config.wait_s)
        changes = trail.reads.of_table(table.schema, table.name, source=config.source)
        secret = os.environ.get(HASH_SECRET, "").encode()
        seen = Seen(table, saved_filters(trail, config.source, secret))
        return compare(table, snapshot, changes, seen, max(config.chunk_rows, 1))


def _wait_for(trail: Trail, source: str, until: Checkpoint, wait_s: float) -> None:
    """Wait until the trail has what the snapshot has."""
    deadline = time.monotonic() + wait_s
    while True:
        saved = trail.offset(source).checkpoint
        if saved is not None and _has(saved, until):
            return
        if time.monotonic() >= deadline:
            raise TransientError(
                f"the trail of {source} did not reach the snapshot within {wait_s:g} s",
                target=source,
                hint="is a sync running? caretaker binlog status",
            )
        time.sleep(_LOOK_EVERY_S)


def _has(saved: Checkpoint, until: Checkpoint) -> bool:
    if saved.gtid is not None and until.gtid:
        flavor = Flavor.MYSQL if ":" in until.gtid else Flavor.MARIADB
        return has_reached(saved, until, flavor)
    return file_order(saved.position) >= file_order(until.position)
