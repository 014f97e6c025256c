"""What statements do to tables: create, drop, alter, close, optimize, reroute, insert."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from lab.cratedb import allocation, leases, options, partitions, replicas
from lab.cratedb.answers import Answer, CrateError, invalid, no_master
from lab.cratedb.commands import Command, Target
from lab.cratedb.model import (
    EMPTY_TRANSLOG,
    STARTED,
    UNASSIGNED,
    Column,
    Node,
    Relation,
    Shard,
    Table,
)
from lab.cratedb.world import SYSTEM_SCHEMAS, World

Args = Sequence[Any]
#: A name with a quote, a blank or a dot cannot be created (4002).
_BAD_NAME = re.compile(r'[\s"*\\<>|,/?#.]|^_')
_REPLICAS = "number_of_replicas"


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
        if name == _REPLICAS:
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
        _require_budget(world, table.number_of_shards * (1 + world.wanted_replicas(text)))
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
    table = _table(world, user, "DDL", target)
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


def _table(world: World, user: str, right: str, target: Target) -> Table:
    """Return the table, for somebody who has `right` on it."""
    if (target.schema, target.table) in world.tables:
        world.rights.require(user, right, target.schema, target.table)
    elif not world.rights.knows_schema(user, target.schema):
        world.rights.require(user, right, target.schema, target.table)
    return world.table(target.schema, target.table)


def _meant(table: Table, target: Target, args: Args) -> list[Relation]:
    if target.partition is not None:
        return [partitions.of_clause(table, target, args)]
    return list(table.relations.values())


# --- ALTER TABLE ... SET / RESET ------------------------------------------------------------


def alter_properties(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER [BLOB] TABLE [ONLY] t [PARTITION (...)] SET/RESET (...): row count -1, always."""
    target = command.targets[0]
    table = _table(world, user, "DDL", target)
    only = "only" in command.words
    meant = [] if only else _meant(table, target, args)
    new: dict[str, Any] = {}
    if "reset" in command.words:
        for name in command.names:
            if name != _REPLICAS and not options.known(name):
                raise options.unknown(name)
            new[name] = "0-1" if name == _REPLICAS else None
    else:
        for name, value in command.properties:
            given = value(args)
            new[name] = (
                replicas.accept(given) if name == _REPLICAS else options.accept(name, given)
            )
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
                f"The relation \"{table.full_name}\" doesn't support or allow "
                "ALTER SET operations",
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
        _require_budget(world, more)


def _require_budget(world: World, more: int) -> None:
    limit = int(world.settings.get("cluster.max_shards_per_node")) * len(world.members)
    now = world.open_shards() if more else 0
    if more and now + more > limit:
        raise invalid(
            f"Validation Failed: 1: this action would add [{more}] total shards, but this "
            f"cluster currently has [{now}]/[{limit}] maximum shards open;"
        )


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
    table = _table(world, user, "DDL", target)
    close = "close" in command.words
    for relation in _meant(table, target, args):
        if relation.closed != close:
            relation.closed = close
            for shard, copy in relation.copies():
                if copy.primary:
                    copy.uncommitted = EMPTY_TRANSLOG
                elif not shard.stuck:
                    _unassign(world, copy_delay(world), shard, copy.node)
            allocation.settle(world, relation)
    if target.partition is None:
        table.closed = close
    world.touch(table.schema, table.name)
    return Answer(rowcount=-1)


def copy_delay(world: World) -> float:
    """Return until when a cancelled copy stays UNASSIGNED."""
    return world.time + world.recovery_s * 0.2


def _unassign(world: World, until: float, shard: Shard, node: str | None) -> None:
    del world
    for copy in shard.copies:
        if copy.node == node and not copy.primary:
            copy.node, copy.state, copy.relocating_to = None, UNASSIGNED, None
            copy.delayed_until = until


# --- OPTIMIZE, REFRESH, REROUTE -------------------------------------------------------------


def optimize(world: World, user: str, command: Command, args: Args) -> Answer:
    """OPTIMIZE: flushes every copy that a flush can help, and syncs the leases at once."""
    given = {name: value(args) for name, value in command.properties}
    for name in given:
        if name not in {"max_num_segments", "flush", "only_expunge_deletes", "upgrade_segments"}:
            raise invalid(f'Invalid property "{name}" passed to [OPTIMIZE] statement')
    flush = options.parse_bool("flush", given.get("flush", True))
    relations = [
        relation
        for target in command.targets
        for relation in _meant(_table(world, user, "DDL", target), target, args)
    ]
    for relation in relations:
        if flush:
            for _, copy in relation.copies():
                # With a hole in its sequence numbers a copy has nothing it could commit.
                if copy.active and not copy.gap:
                    copy.uncommitted = EMPTY_TRANSLOG
        leases.sync(world, relation)
        world.touch(relation.schema, relation.table)
    return Answer(rowcount=len(relations) if len(command.targets) > 1 else 1)


def refresh(world: World, user: str, command: Command, args: Args) -> Answer:
    """REFRESH: nothing to see in the lab but its errors."""
    for target in command.targets:
        _meant(_table(world, user, "DQL", target), target, args)
    return Answer(rowcount=len(command.targets))


def cancel_shard(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER TABLE t REROUTE CANCEL SHARD n ON node: that copy is thrown away and rebuilt."""
    target = command.targets[0]
    relation = _meant(_table(world, user, "DDL", target), target, args)[0]
    number, name = (value(args) for value in command.values)
    node = world.node(str(name))
    if node is None:
        raise invalid(f"Could not find node '{name}'")
    shard = next((s for s in relation.shards if s.number == int(number)), None)
    copy = shard.on(node.id) if shard else None
    if shard is None or copy is None:
        raise invalid(
            f"[cancel_allocation] can't cancel {number}, failed to find it on node {_long(node)}"
        )
    force = dict(command.properties).get("allow_primary")
    if copy.primary and not (force is not None and force(args)):
        raise invalid(
            f"[cancel_allocation] can't cancel {number} on node {_long(node)}, "
            "shard is primary and started"
        )
    if copy.primary:
        heir = next((c for c in shard.copies if not c.primary and c.state == STARTED), None)
        if heir is not None:
            heir.primary, copy.primary = True, False
    _unassign(world, copy_delay(world), shard, node.id)
    allocation.settle(world, relation)
    return Answer()


def _long(node: Node) -> str:
    transport = node.port + 100
    return (
        f"{{{node.name}}}{{{node.id}}}{{{node.id[::-1]}}}{{127.0.0.1}}{{127.0.0.1:{transport}}}{{dm}}"
        f"{{http_address=127.0.0.1:{node.port}}}"
    )


# --- INSERT ---------------------------------------------------------------------------------


def insert(world: World, user: str, command: Command, args: Args) -> Answer:
    """INSERT: rows are counted, not kept; partitions come into being, translogs grow."""
    target = command.targets[0]
    table = _table(world, user, "DML", target)
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


CHANGES: dict[str, Callable[[World, str, Command, Args], Answer]] = {
    "CreateTable": create_table,
    "DropTable": drop_table,
    "AlterTableProperties": alter_properties,
    "AlterBlobTableProperties": alter_properties,
    "AlterTableOpenClose": open_close,
    "RerouteCancelShard": cancel_shard,
    "Optimize": optimize,
    "RefreshTable": refresh,
    "Insert": insert,
}
