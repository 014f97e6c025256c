"""INSERT: rows are counted and their size felt, but they are not kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lab.cratedb import options, partitions, targets
from lab.cratedb.answers import Answer, CrateError, invalid
from lab.cratedb.commands import Command
from lab.cratedb.model import EMPTY_TRANSLOG, Relation, Table
from lab.cratedb.tables import add_relation
from lab.cratedb.world import World

Args = Sequence[Any]


def insert(world: World, user: str, command: Command, args: Args) -> Answer:
    """INSERT: rows are counted, not kept; partitions come into being, translogs grow."""
    target = command.targets[0]
    table = targets.table(world, user, "DML", target)
    names = list(command.names) or [c.name for c in table.columns if "[" not in c.name]
    touched: set[str] = set()
    for row in command.rows:
        given = [value(args) for value in row]
        if len(given) > len(names):
            raise invalid(
                f"Number of target columns ({len(names)}) of insert statement doesn't match "
                f"number of source columns ({len(given)})"
            )
        relation = _home_of(world, table, dict(zip(names, given, strict=False)))
        _refuse_writes(relation)
        _write(relation, len(json.dumps(given, default=str)) + 60)
        world.lease_work.add(relation.key)
        touched.add(relation.ident)
    if touched:
        world.touch(table.schema, table.name)
    return Answer(rowcount=len(command.rows))


def _home_of(world: World, table: Table, row: dict[str, Any]) -> Relation:
    if not table.partitioned_by:
        return table.relations[""]
    values = partitions.values_of_row(table, row)
    ident = partitions.ident_of(table, values)
    return table.relations.get(ident) or add_relation(world, table, ident, values)


def _refuse_writes(relation: Relation) -> None:
    for block in ("blocks.read_only", "blocks.write", "blocks.read_only_allow_delete"):
        if options.value_of(relation.settings, block):
            raise CrateError(
                4007,
                "OperationOnInaccessibleRelationException",
                f'The relation "{relation.schema}.{relation.table}" doesn\'t support or allow '
                "INSERT operations",
            )


def _write(relation: Relation, size: int) -> None:
    shard = min(relation.shards, key=lambda s: s.docs)
    if shard.primary is None:
        raise CrateError(
            5002,
            "UnavailableShardsException",
            f"[{relation.schema}.{relation.table}] shard {shard.number} is not available",
        )
    shard.docs += 1
    threshold = int(options.value_of(relation.settings, "translog.flush_threshold_size"))
    for copy in shard.copies:
        if not copy.active:
            continue
        copy.uncommitted += size
        # The flush follows the write that finds the translog too large (recorded: not before).
        if copy.uncommitted > threshold and not (copy.gap or copy.stubborn):
            copy.uncommitted = EMPTY_TRANSLOG
