"""From the target of a statement to the table and relations it means, for who may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.cratedb import partitions
from lab.cratedb.commands import Target
from lab.cratedb.model import Relation, Table
from lab.cratedb.world import World

Args = Sequence[Any]


def table(world: World, user: str, right: str, target: Target) -> Table:
    """Return the table, for somebody who has `right` on it."""
    if (target.schema, target.table) in world.tables or not world.rights.knows_schema(
        user, target.schema
    ):
        world.rights.require(user, right, target.schema, target.table)
    return world.table(target.schema, target.table)


def meant(table: Table, target: Target, args: Args) -> list[Relation]:
    """Return the one partition the target names, or all the table has."""
    if target.partition is not None:
        return [partitions.of_clause(table, target, args)]
    return list(table.relations.values())
