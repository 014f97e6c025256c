"""OPTIMIZE, REFRESH and REROUTE: what keeps a table's copies in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.cratedb import allocation, leases, options, targets
from lab.cratedb.answers import Answer, invalid
from lab.cratedb.commands import Command
from lab.cratedb.model import EMPTY_TRANSLOG, STARTED, Node
from lab.cratedb.world import World

Args = Sequence[Any]


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
        for relation in targets.meant(targets.table(world, user, "DDL", target), target, args)
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
        targets.meant(targets.table(world, user, "DQL", target), target, args)
    return Answer(rowcount=len(command.targets))


def cancel_shard(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER TABLE t REROUTE CANCEL SHARD n ON node: that copy is thrown away and rebuilt."""
    target = command.targets[0]
    relation = targets.meant(targets.table(world, user, "DDL", target), target, args)[0]
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
    allocation.unassign(allocation.first_try(world), shard, node.id)
    allocation.settle(world, relation)
    return Answer()


def _long(node: Node) -> str:
    transport = node.port + 100
    return (
        f"{{{node.name}}}{{{node.id}}}{{{node.id[::-1]}}}{{127.0.0.1}}{{127.0.0.1:{transport}}}{{dm}}"
        f"{{http_address=127.0.0.1:{node.port}}}"
    )
