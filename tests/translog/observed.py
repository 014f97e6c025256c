"""Observations, tickets and clusters for the pure tests: healthy unless told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from caretaker.translog.model import (
    MIB,
    ClusterObservation,
    Lease,
    Node,
    Owner,
    ResetTicket,
    ShardCopy,
    TableObservation,
    TableRef,
    Target,
)

NOW = datetime(2026, 1, 15, 2, 0, tzinfo=UTC)
METRICS = TableRef("doc", "metrics")
OWNER = Owner("run-1", "host-a", 4711, "boot-1/1")


def mib(count: float) -> int:
    """Bytes, rounded down."""
    return int(count * MIB)


def primary(shard_id: int = 0, node: str = "n1", **changes: Any) -> ShardCopy:
    """A started primary that holds its own lease and nobody else's."""
    fields: dict[str, Any] = {
        "shard_id": shard_id,
        "primary": True,
        "routing_state": "STARTED",
        "node_id": node,
        "uncommitted_bytes": 55,
        "leases": (own_lease(node),),
    }
    return ShardCopy(**fields | changes)


def replica(shard_id: int = 0, size: int = 55, node: str = "n2", **changes: Any) -> ShardCopy:
    """A started replica with `size` uncommitted bytes, all of which it could commit."""
    fields: dict[str, Any] = {
        "shard_id": shard_id,
        "primary": False,
        "routing_state": "STARTED",
        "node_id": node,
        "uncommitted_bytes": size,
        "max_seq_no": 99,
        "local_checkpoint": 99,
        "global_checkpoint": 99,
    }
    return ShardCopy(**fields | changes)


def lost(shard_id: int = 0) -> ShardCopy:
    """A lost primary as CrateDB shows it: not primary, unassigned, everything else NULL."""
    return ShardCopy(shard_id, primary=False, routing_state="UNASSIGNED")


def own_lease(node: str) -> Lease:
    return Lease(f"peer_recovery/{node}", "peer recovery")


def table(*copies: ShardCopy, target: Target = METRICS, **changes: Any) -> TableObservation:
    """A table with these copies, '0-1' replicas and a shard for each primary."""
    fields: dict[str, Any] = {
        "target": target,
        "number_of_replicas": "0-1",
        "number_of_shards": max(1, sum(copy.primary for copy in copies)),
        "copies": copies,
    }
    return TableObservation(**fields | changes)


def sick(name: str, size: int, **changes: Any) -> TableObservation:
    """A table whose one replica holds `size` uncommitted bytes."""
    target = TableRef(*name.split("."))
    return table(primary(), replica(size=size), target=target, **changes)


def ticket(**changes: Any) -> ResetTicket:
    """A ticket of which nothing has been sent yet."""
    fields: dict[str, Any] = {
        "id": 1,
        "cluster_id": "c1",
        "target": METRICS,
        "original_replicas": "0-1",
        "owner": OWNER,
        "created_at": NOW,
        "threshold_bytes": mib(563.2),
    }
    return ResetTicket(**fields | changes)


def cluster(**changes: Any) -> ClusterObservation:
    """Three nodes, GREEN, at rest, and a superuser who sees it all."""
    fields: dict[str, Any] = {
        "id": "c1",
        "name": "prod",
        "master_node": "n1",
        "health": "GREEN",
        "missing_shards": 0,
        "underreplicated_shards": 0,
        "nodes": tuple(
            Node(f"n{n}", f"data-{n}", "6.4.3", disk_total_bytes=1000, disk_used_bytes=200)
            for n in (1, 2, 3)
        ),
        "allocation_enable": "all",
        "open_shards": 24,
        "max_shards_per_node": 1000,
        "low_watermark": "85%",
        "user": "crate",
        "superuser": True,
        "visible_tables": 3,
        "visible_primaries": 12,
        "expected_primaries": 12,
    }
    return ClusterObservation(**fields | changes)
