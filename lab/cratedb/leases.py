"""Retention leases: granted with a copy, kept after it, dropped by a tick or by OPTIMIZE."""

from __future__ import annotations

from lab.cratedb import options
from lab.cratedb.model import EMPTY_TRANSLOG, Lease, Relation, Shard
from lab.cratedb.world import World

PEER = "peer recovery"


def grant(world: World, shard: Shard, node_id: str) -> None:
    """Give a node that starts to hold a copy its lease; it keeps one it still has."""
    lease_id = f"peer_recovery/{node_id}"
    if lease_id in shard.leases:
        return
    oldest = min((lease.retaining_seq_no for lease in shard.leases.values()), default=0)
    shard.leases[lease_id] = Lease(lease_id, PEER, oldest, world.time_ms)
    shard.lease_version += 1


def sync(world: World, relation: Relation) -> None:
    """Drop the leases of copies that are gone, where every copy of the shard is STARTED.

    Leases of another source (logical replication) are never dropped here. A primary whose leases
    changed flushes when its translog is over the threshold, as recorded on a live cluster.
    """
    if relation.leases_stuck:
        return
    threshold = int(options.value_of(relation.settings, "translog.flush_threshold_size"))
    changed = False
    for shard in relation.shards:
        if shard.stuck or not shard.all_started:
            continue
        gone = _stale(shard)
        for lease_id in gone:
            del shard.leases[lease_id]
        shard.lease_version += bool(gone)
        primary = shard.primary
        if (
            gone
            and primary is not None
            and primary.uncommitted > threshold
            and not (primary.gap or primary.stubborn)
        ):
            primary.uncommitted = EMPTY_TRANSLOG
        changed |= _renew(world, shard) or bool(gone)
    if changed:
        world.touch(relation.schema, relation.table)


def _stale(shard: Shard) -> list[str]:
    held = {f"peer_recovery/{copy.node}" for copy in shard.copies}
    return [k for k, lease in shard.leases.items() if lease.source == PEER and k not in held]


def _renew(world: World, shard: Shard) -> bool:
    renewed = False
    for lease in shard.leases.values():
        if lease.source == PEER and lease.retaining_seq_no != shard.docs:
            lease.retaining_seq_no, lease.timestamp = shard.docs, world.time_ms
            renewed = True
    return renewed


def tick(world: World) -> None:
    """Sync every relation that may have something to drop, and come back in a tick."""
    for key in list(world.lease_work):
        relation = world.relation(key)
        if relation is None:
            world.lease_work.discard(key)
            continue
        sync(world, relation)
        if not any(_stale(shard) for shard in relation.shards):
            world.lease_work.discard(key)
    world.after(world.lease_tick_s, lambda: tick(world))
