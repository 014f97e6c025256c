"""ALTER TABLE: SET, RESET, OPEN and CLOSE, and all that refuses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.cratedb import allocation, options, replicas, targets
from lab.cratedb.answers import Answer, CrateError, invalid, no_master
from lab.cratedb.commands import Command
from lab.cratedb.model import EMPTY_TRANSLOG, Relation, Table
from lab.cratedb.tables import require_budget
from lab.cratedb.world import World

Args = Sequence[Any]
_REPLICAS = "number_of_replicas"


def alter_properties(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER [BLOB] TABLE [ONLY] t [PARTITION (...)] SET/RESET (...): row count -1, always."""
    target = command.targets[0]
    table = targets.table(world, user, "DDL", target)
    only = "only" in command.words
    meant = [] if only else targets.meant(table, target, args)
    new: dict[str, Any] = {}
    if "reset" in command.words:
        for name in command.names:
            if name != _REPLICAS and not options.known(name):
                raise options.unknown(name)
            new[name] = "0-1" if name == _REPLICAS else None
    else:
        for name, value in command.properties:
            given = value(args)
            new[name] = replicas.accept(given) if name == _REPLICAS else options.accept(name, given)
    if world.master is None:
        raise no_master()
    _refuse_blocked(table, meant, new)
    if _REPLICAS in new:
        _check_replicas(world, meant, new[_REPLICAS])
    for relation in meant:
        _apply(world, relation, new)
    if target.partition is None:
        _apply_to_template(world, table, new)
    world.touch(table.schema, table.name)
    return Answer(rowcount=-1)


def _refuse_blocked(table: Table, meant: list[Relation], new: dict[str, Any]) -> None:
    if all(name.startswith("blocks.") for name in new):
        return
    settings = [relation.settings for relation in meant] or [table.settings]
    for name in ("blocks.read_only", "blocks.metadata"):
        if any(options.value_of(s, name) for s in settings):
            raise CrateError(
                4007,
                "OperationOnInaccessibleRelationException",
                f'The relation "{table.full_name}" doesn\'t support or allow ALTER SET operations',
            )


def _check_replicas(world: World, meant: list[Relation], text: str) -> None:
    wanted = world.wanted_replicas(text)
    more = 0
    for relation in meant:
        wait = str(options.value_of(relation.settings, "write.wait_for_active_shards"))
        if wait.isdigit() and int(wait) > wanted + 1:
            raise invalid(
                f"Failed to parse value [{wait}] for setting [write.wait_for_active_shards], "
                f"must be between 0 and number of shard copies [{wanted + 1}]"
            )
        if not relation.closed:
            before = world.wanted_replicas(relation.replicas)
            more += len(relation.shards) * max(0, wanted - before)
    # A range expands without asking for the budget (MetadataUpdateSettingsService.java:152).
    if not replicas.is_range(text):
        require_budget(world, more)


def _apply(world: World, relation: Relation, new: dict[str, Any]) -> None:
    before = relation.replicas
    for name, value in new.items():
        if name == _REPLICAS:
            relation.replicas = value
        elif value is None:
            relation.settings.pop(name, None)
        else:
            relation.settings[name] = value
    if relation.replicas != before:
        world.replicas_changed(relation, before)
        world.lease_work.add(relation.key)
    allocation.settle(world, relation)


def _apply_to_template(world: World, table: Table, new: dict[str, Any]) -> None:
    before = table.replicas
    for name, value in new.items():
        if name == _REPLICAS:
            table.replicas = value
        elif value is None:
            table.settings.pop(name, None)
        else:
            table.settings[name] = value
    if table.partitioned_by and table.replicas != before:
        world.replicas_changed(table, before)


def open_close(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER TABLE t OPEN/CLOSE: the replicas of a closed table are rebuilt."""
    target = command.targets[0]
    table = targets.table(world, user, "DDL", target)
    close = "close" in command.words
    for relation in targets.meant(table, target, args):
        if relation.closed != close:
            relation.closed = close
            for shard, copy in relation.copies():
                if copy.primary:
                    copy.uncommitted = EMPTY_TRANSLOG
                elif not shard.stuck:
                    allocation.unassign(allocation.first_try(world), shard, copy.node)
            allocation.settle(world, relation)
    if target.partition is None:
        table.closed = close
    world.touch(table.schema, table.name)
    return Answer(rowcount=-1)
