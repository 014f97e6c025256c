"""Where copies live: how they are placed, come back, move, and are lost."""

from __future__ import annotations

from collections import Counter

from lab.cratedb import leases, options
from lab.cratedb.model import (
    EMPTY_TRANSLOG,
    INITIALIZING,
    RELOCATING,
    STARTED,
    UNASSIGNED,
    Copy,
    Node,
    Relation,
    Shard,
)
from lab.cratedb.world import World

#: Share of a recovery's time a fresh replica is still UNASSIGNED: seen right after a restore.
_UNASSIGNED_SHARE = 0.25


def create(world: World, relation: Relation) -> None:
    """Place all copies of a new relation, STARTED and empty."""
    nodes = _homes(world)
    start = sum(len(r.shards) for r in world.tables[relation.key[:2]].relations.values())
    start += len(world.tables)
    for shard in relation.shards:
        first = start + shard.number
        if not nodes:
            shard.copies = [Copy(primary=True, node=None, state=UNASSIGNED)]
            continue
        home = nodes[first % len(nodes)]
        shard.copies = [Copy(primary=True, node=home.id, state=STARTED)]
        leases.grant(world, shard, home.id)
        for step in range(world.wanted_replicas(relation.replicas)):
            if step + 1 < len(nodes) and allowed(world, relation, primary=False):
                node = nodes[(first + step + 1) % len(nodes)].id
                shard.copies.append(Copy(primary=False, node=node, state=STARTED))
                leases.grant(world, shard, node)
            else:
                shard.copies.append(Copy(primary=False, node=None, state=UNASSIGNED))
    settle(world, relation)


def allowed(world: World, relation: Relation, *, primary: bool) -> bool:
    """Return whether copies may be allocated or moved, cluster-wide and on the table."""
    for value in (
        world.settings.get("cluster.routing.allocation.enable"),
        options.value_of(relation.settings, "routing.allocation.enable"),
    ):
        if value != "all" and not (primary and value == "primaries"):
            return False
    return True


def settle(world: World, relation: Relation) -> None:
    """Bring a relation one step nearer to what it should be, and come back when the next is due."""
    if world.relation(relation.key) is not relation:
        return
    wanted = world.wanted_replicas(relation.replicas)
    next_due: list[float] = []
    load = _load(world) if any(c.node is None for _, c in relation.copies()) else Counter[str]()
    for shard in relation.shards:
        _finish(world, shard)
        _resize(world, shard, wanted)
        _assign(world, relation, shard, load)
        next_due += [
            copy.ready_at for copy in shard.copies if copy.state in {INITIALIZING, RELOCATING}
        ]
        next_due += [
            copy.delayed_until
            for copy in shard.copies
            if copy.state == UNASSIGNED and copy.delayed_until > world.time
        ]
    if all(copy.state == STARTED for _, copy in relation.copies()):
        world.unsettled.discard(relation.key)
    else:
        world.unsettled.add(relation.key)
    if next_due:
        _come_back(world, relation, max(min(next_due), world.time))
    world.touch(relation.schema, relation.table)


def _come_back(world: World, relation: Relation, when: float) -> None:
    # One look in the queue per relation is enough: each look finds the next date itself.
    planned = world.next_look.get(relation.key)
    if planned is not None and world.time < planned <= when:
        return
    world.next_look[relation.key] = when

    def look() -> None:
        if world.next_look.get(relation.key) == when:
            del world.next_look[relation.key]
        settle(world, relation)

    world.at(when, look)


def settle_all(world: World, *, everything: bool = False) -> None:
    """Look again at all relations that wait for something, or at every one."""
    keys = [r.key for r in world.relations()] if everything else list(world.unsettled)
    for key in keys:
        relation = world.relation(key)
        if relation is not None:
            settle(world, relation)


def _homes(world: World) -> list[Node]:
    return [node for node in world.members if node.alive and not node.draining]


def _load(world: World) -> Counter[str]:
    count: Counter[str] = Counter()
    # A full count of 50,000 copies per settled table would cost more than it evens out.
    for _, relation in zip(range(200), world.relations(), strict=False):
        count.update(copy.node for _, copy in relation.copies() if copy.node)
    return count


def _finish(world: World, shard: Shard) -> None:
    for copy in shard.copies:
        if copy.ready_at > world.time:
            continue
        if copy.state == INITIALIZING:
            copy.state = STARTED
            copy.uncommitted = EMPTY_TRANSLOG
            copy.gap = False
        elif copy.state == RELOCATING:
            copy.node, copy.relocating_to, copy.state = copy.relocating_to, None, STARTED
            copy.gap = False
            if not copy.stubborn:
                copy.uncommitted = EMPTY_TRANSLOG


def _resize(world: World, shard: Shard, wanted: int) -> None:
    replicas = shard.replicas
    surplus = len(replicas) - wanted
    if surplus > 0:
        order = {UNASSIGNED: 0, INITIALIZING: 1, RELOCATING: 2, STARTED: 3}
        for copy in sorted(replicas, key=lambda c: order[c.state])[:surplus]:
            shard.copies.remove(copy)
    for _ in range(-surplus):
        shard.copies.append(
            Copy(
                primary=False,
                node=None,
                state=UNASSIGNED,
                delayed_until=first_try(world),
            )
        )


def first_try(world: World) -> float:
    """Return until when a copy that has just become UNASSIGNED is seen so."""
    return world.time + world.recovery_s * _UNASSIGNED_SHARE


def unassign(until: float, shard: Shard, node: str | None) -> None:
    """Throw the replica on `node` away; it is tried again from lab time `until` on."""
    for copy in shard.copies:
        if copy.node == node and not copy.primary:
            copy.node, copy.state, copy.relocating_to = None, UNASSIGNED, None
            copy.delayed_until = until


def _assign(world: World, relation: Relation, shard: Shard, load: Counter[str]) -> None:
    primary = shard.primary
    if primary is None:
        _revive(world, shard)
        return
    if not primary.active or not allowed(world, relation, primary=False):
        return
    for copy in shard.copies:
        if copy.state != UNASSIGNED or copy.delayed_until > world.time:
            continue
        taken = {other.node for other in shard.copies} | {c.relocating_to for c in shard.copies}
        free = [node for node in _homes(world) if node.id not in taken]
        if not free:
            return
        home = min(free, key=lambda node: (load[node.id], node.number))
        load[home.id] += 1
        copy.node, copy.state = home.id, INITIALIZING
        copy.ready_at = world.time + world.recovery_s * (1 - _UNASSIGNED_SHARE)
        copy.uncommitted, copy.gap = EMPTY_TRANSLOG, False
        leases.grant(world, shard, home.id)
        world.lease_work.add(relation.key)


def _revive(world: World, shard: Shard) -> None:
    """Bring a lost primary back if the node that has its data is here again."""
    home = world.node_by_id(shard.lost_on)
    if home is None or not (home.alive and home.member):
        return
    copy = next(copy for copy in shard.copies if copy.primary)
    copy.node, copy.state = home.id, INITIALIZING
    copy.ready_at = world.time + world.recovery_s
    shard.lost_on = None
    shard.term += 1


def move(world: World, relation: Relation, shard: Shard, copy: Copy) -> bool:
    """Start moving a copy to a node that has none of this shard; False where it cannot."""
    if copy.state != STARTED or not allowed(world, relation, primary=copy.primary):
        return False
    taken = {other.node for other in shard.copies}
    free = [node for node in _homes(world) if node.id not in taken]
    if not free:
        return False
    copy.state = RELOCATING
    copy.relocating_to = free[shard.number % len(free)].id
    copy.ready_at = world.time + world.relocation_s
    leases.grant(world, shard, copy.relocating_to)
    world.lease_work.add(relation.key)
    return True


def node_left(world: World, node: Node) -> None:
    """Take a node's copies away: replicas wait for it, primaries pass on or are lost."""
    node.member = False
    node.draining = False
    for relation in list(world.relations()):
        delay_ms = options.value_of(relation.settings, "unassigned.node_left.delayed_timeout")
        concerned = False
        for shard in relation.shards:
            concerned |= _drop_copies(shard, node.id, world.time + int(delay_ms) / 1000)
        if concerned:
            world.lease_work.add(relation.key)
        settle(world, relation)


def _drop_copies(shard: Shard, node_id: str, delayed_until: float) -> bool:
    concerned = False
    for copy in shard.copies:
        if copy.relocating_to == node_id:
            copy.state, copy.relocating_to = STARTED, None
            concerned = True
        if copy.node != node_id:
            continue
        concerned = True
        copy.node, copy.state, copy.relocating_to = None, UNASSIGNED, None
        copy.delayed_until = delayed_until
        if copy.primary:
            _promote(shard, copy, node_id)
    return concerned


def _promote(shard: Shard, fallen: Copy, node_id: str) -> None:
    heir = next((c for c in shard.copies if not c.primary and c.active), None)
    if heir is None:
        shard.lost_on = node_id
        return
    heir.primary, fallen.primary = True, False
    shard.term += 1


def node_joined(world: World, node: Node) -> None:
    """Let a node in again; copies that waited for it need wait no longer."""
    node.alive = node.member = node.serving = True
    node.draining = False
    for relation in list(world.relations()):
        for _, copy in relation.copies():
            if copy.state == UNASSIGNED:
                copy.delayed_until = min(copy.delayed_until, world.time)
        settle(world, relation)
