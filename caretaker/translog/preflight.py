"""Whether a cluster is in a state in which a table may be left with one copy for a moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from caretaker.disks import is_above
from caretaker.translog.model import ClusterObservation
from caretaker.translog.policy import ResetPolicy


def refusals(
    cluster: ClusterObservation,
    policy: ResetPolicy,
    own: Collection[tuple[str, str, str]] = (),
) -> list[str]:
    """Return every reason not to take a table's replicas away now; empty means go ahead.

    `own` are the tables that this very run has under way: they are expected to be short of
    replicas and recovering. Unknown refuses: a signal that cannot be read is not a good one.
    """
    return [
        *_health(cluster, frozenset(own)),
        *_members(cluster, policy),
        *_allocation(cluster, frozenset(own)),
        *_visibility(cluster),
        *_room(cluster),
    ]


def _health(cluster: ClusterObservation, own: frozenset[tuple[str, str, str]]) -> Iterator[str]:
    if cluster.master_node is None:
        yield "the cluster has no master (sys.cluster.master_node is NULL)"
    others = [table for table in cluster.unhealthy if table.target_key not in own]
    if others:
        worst = max(others, key=lambda table: table.health == "RED")
        name = ".".join(worst.target_key[:2])
        yield f"{len(others)} table(s) are not GREEN, such as {name} ({worst.health})"
    if cluster.health is None:
        yield "the health of the cluster is unknown"
    elif cluster.health != "GREEN" and not cluster.unhealthy:
        # The user sees no unhealthy table and the cluster has one: it is one he may not see.
        yield f"the cluster is {cluster.health}, because of tables that {cluster.user} cannot see"
    elif cluster.health != "GREEN" and not others and not own:
        yield f"the cluster is {cluster.health}"
    elif _hidden_trouble(cluster):
        yield f"the cluster has unhealthy shards that {cluster.user} cannot see"


def _hidden_trouble(cluster: ClusterObservation) -> bool:
    """Whether `sys.cluster_health`, true for every user, counts more than is visible."""
    if cluster.missing_shards is None or cluster.underreplicated_shards is None:
        return False
    seen_missing = sum(max(0, table.missing_shards) for table in cluster.unhealthy)
    seen_under = sum(max(0, table.underreplicated_shards) for table in cluster.unhealthy)
    return cluster.missing_shards > seen_missing or cluster.underreplicated_shards > seen_under


def _members(cluster: ClusterObservation, policy: ResetPolicy) -> Iterator[str]:
    if policy.expected_nodes is not None and len(cluster.nodes) != policy.expected_nodes:
        yield f"{len(cluster.nodes)} nodes are present, {policy.expected_nodes} are expected"
    versions = sorted({node.version for node in cluster.nodes})
    if len(versions) > 1:
        yield f"nodes run different versions ({', '.join(versions)}): an upgrade is under way"
    if cluster.decommissions:
        yield "a node is being decommissioned"
    if cluster.running_snapshots:
        yield f"{cluster.running_snapshots} snapshot(s) in progress"


def _allocation(cluster: ClusterObservation, own: frozenset[tuple[str, str, str]]) -> Iterator[str]:
    if cluster.allocation_enable != "all":
        yield (
            f"cluster.routing.allocation.enable is {cluster.allocation_enable!r}: "
            "replicas would not come back"
        )
    moving = [shard for shard in cluster.moving if shard.target_key not in own]
    if moving:
        example = moving[0]
        name = ".".join(example.target_key[:2])
        yield f"{len(moving)} shard(s) are recovering or relocating, such as one of {name}"


def _visibility(cluster: ClusterObservation) -> Iterator[str]:
    if cluster.visible_tables == 0 and cluster.superuser is not True:
        yield (
            f"{cluster.user} sees no table: either there is none, or it lacks privileges "
            "(GRANT DQL ON SCHEMA sys, GRANT DDL ON the schemas to look after)"
        )
    elif cluster.visible_primaries != cluster.expected_primaries and not cluster.unhealthy:
        yield (
            f"{cluster.user} sees {cluster.visible_primaries} primaries in sys.shards "
            f"where the catalog has {cluster.expected_primaries}"
        )


def _room(cluster: ClusterObservation) -> Iterator[str]:
    for node in cluster.nodes:
        above = is_above(cluster.low_watermark, node.disk_total_bytes, node.disk_used_bytes)
        if node.is_data and above is True:
            yield f"node {node.name} is above the low disk watermark ({cluster.low_watermark})"
    if cluster.max_shards_per_node is not None:
        budget = cluster.max_shards_per_node * sum(node.is_data for node in cluster.nodes)
        if cluster.open_shards > budget:
            yield (
                f"{cluster.open_shards} shards are open and cluster.max_shards_per_node allows "
                f"{budget}: a restore would be refused"
            )
