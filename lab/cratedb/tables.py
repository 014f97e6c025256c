"""CREATE TABLE and DROP TABLE, and the budget of shards a cluster has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lab.cratedb import allocation, options, replicas, targets
from lab.cratedb.answers import Answer, CrateError, invalid
from lab.cratedb.commands import Command
from lab.cratedb.model import Column, Relation, Shard, Table
from lab.cratedb.world import SYSTEM_SCHEMAS, World

Args = Sequence[Any]
#: A name with a quote, a blank or a dot cannot be created (4002).
_BAD_NAME = re.compile(r'[\s"*\\<>|,/?#.]|^_')


def create_table(world: World, user: str, command: Command, args: Args) -> Answer:
    """CREATE TABLE."""
    target = command.targets[0]
    if not world.rights.may(user, "DDL", target.schema):
        world.rights.require(user, "DDL", target.schema, target.table)
    for name in (target.schema, target.table):
        if _BAD_NAME.search(name):
            raise CrateError(
                4002,
                "InvalidRelationName",
                f'Relation name "{target.schema}.{target.table}" is invalid.',
            )
    if target.schema in SYSTEM_SCHEMAS:
        raise CrateError(
            4007,
            "OperationOnInaccessibleRelationException",
            f'Cannot create relation in read-only schema: "{target.schema}"',
        )
    if (target.schema, target.table) in world.tables:
        if "exists" in command.words:
            return Answer(rowcount=0)
        raise CrateError(
            4093,
            "RelationAlreadyExists",
            f"Relation '{target.schema}.{target.table}' already exists.",
        )
    text, settings = "0-1", {}
    for name, value in command.properties:
        if name == "number_of_replicas":
            text = replicas.accept(value(args))
        else:
            settings[name] = options.accept(name, value(args))
    shards = command.extra["shards"]
    table = Table(
        target.schema,
        target.table,
        int(shards[0]) if shards else max(4, 2 * len(world.members)),
        text,
        [Column(name, kind) for name, kind in command.columns],
        list(command.extra["partitioned_by"]),
        settings,
    )
    if not table.partitioned_by:
        require_budget(world, table.number_of_shards * (1 + world.wanted_replicas(text)))
    add_table(world, table)
    return Answer()


def add_table(world: World, table: Table) -> None:
    """Put a table into the world; one without partitions gets its shards at once."""
    world.tables[table.schema, table.name] = table
    if not table.partitioned_by:
        add_relation(world, table, "", {})
    world.touch(table.schema, table.name)


def add_relation(world: World, table: Table, ident: str, values: dict[str, Any]) -> Relation:
    """Give a table the shards of a partition (or its own), with the table's settings of now."""
    relation = Relation(
        table.schema,
        table.name,
        ident,
        table.replicas,
        [Shard(number, []) for number in range(table.number_of_shards)],
        values,
        dict(table.settings),
    )
    table.relations[ident] = relation
    allocation.create(world, relation)
    return relation


def drop_table(world: World, user: str, command: Command, args: Args) -> Answer:
    """DROP TABLE [IF EXISTS]."""
    del args
    target = command.targets[0]
    if "exists" in command.words and (target.schema, target.table) not in world.tables:
        return Answer(rowcount=0)
    table = targets.table(world, user, "DDL", target)
    remove_table(world, table)
    return Answer()


def remove_table(world: World, table: Table) -> None:
    """Take a table and all its shards out of the world."""
    del world.tables[table.schema, table.name]
    for ident in table.relations:
        key = (table.schema, table.name, ident)
        world.unsettled.discard(key)
        world.lease_work.discard(key)
    world.touch(table.schema, table.name)


def require_budget(world: World, more: int) -> None:
    """Raise 400/4000 where `more` shards would be too many for cluster.max_shards_per_node."""
    limit = int(world.settings.get("cluster.max_shards_per_node")) * len(world.members)
    now = world.open_shards() if more else 0
    if more and now + more > limit:
        raise invalid(
            f"Validation Failed: 1: this action would add [{more}] total shards, but this "
            f"cluster currently has [{now}]/[{limit}] maximum shards open;"
        )
