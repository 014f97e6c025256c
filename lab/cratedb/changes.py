"""The statements about tables that change something, by the grammar's name for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lab.cratedb import alter, tables, upkeep, writes
from lab.cratedb.answers import Answer
from lab.cratedb.commands import Command
from lab.cratedb.world import World

CHANGES: dict[str, Callable[[World, str, Command, Sequence[Any]], Answer]] = {
    "CreateTable": tables.create_table,
    "DropTable": tables.drop_table,
    "AlterTableProperties": alter.alter_properties,
    "AlterBlobTableProperties": alter.alter_properties,
    "AlterTableOpenClose": alter.open_close,
    "RerouteCancelShard": upkeep.cancel_shard,
    "Optimize": upkeep.optimize,
    "RefreshTable": upkeep.refresh,
    "Insert": writes.insert,
}
