"""Rows of CrateDB's catalog, turned into observations of tables and partitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from caretaker.identifiers import SqlValue
from caretaker.translog.model import (
    Lease,
    PartitionRef,
    ShardCopy,
    TableObservation,
    TableRef,
    Target,
    target_key,
)

Row: TypeAlias = Sequence[Any]
Key: TypeAlias = tuple[str, str, str]


def observations(
    tables: Iterable[Row], partitions: Iterable[Row], shards: Iterable[Row]
) -> list[TableObservation]:
    """Join the rows of TABLES, PARTITIONS and SHARDS.

    A partitioned table is there as its partitions only: its own row is the template of new ones,
    and changing it would change them all.
    """
    copies = group_copies(shards)
    parents = {(row[0], row[1]): row for row in tables}
    found = [
        table_observation(row, copies.get((row[0], row[1], ""), ()))
        for row in parents.values()
        if not row[5]
    ]
    for row in partitions:
        schema, name, ident = row[:3]
        # A partition that appeared between the two queries is there the next time.
        if (parent := parents.get((schema, name))) is None or not parent[5]:
            continue
        lost = copies.get((schema, name, ""), ())
        found.append(
            partition_observation(
                partition_ref(row, parent[5]), row, copies.get((schema, name, ident), ()), lost
            )
        )
    return found


def group_copies(shards: Iterable[Row]) -> dict[Key, list[ShardCopy]]:
    """Return the copies of each (schema, table, partition ident)."""
    grouped: dict[Key, list[ShardCopy]] = defaultdict(list)
    for row in shards:
        grouped[row[0], row[1], row[2]].append(ShardCopy(*row[3:14]))
    return grouped


def copies_with_leases(shards: Iterable[Row]) -> dict[Key, list[ShardCopy]]:
    """The same from SHARDS_WITH_LEASES."""
    grouped: dict[Key, list[ShardCopy]] = defaultdict(list)
    for row in shards:
        leases = None if row[14] is None else tuple(map(_lease, row[14]))
        grouped[row[0], row[1], row[2]].append(ShardCopy(*(*row[3:14], leases)))
    return grouped


def table_observation(row: Row, copies: Iterable[ShardCopy]) -> TableObservation:
    """From a row of TABLES."""
    _, _, shards, replicas, closed, _, threshold, enable, blocks = row
    return TableObservation(
        target=TableRef(row[0], row[1]),
        number_of_replicas=replicas,
        number_of_shards=shards,
        flush_threshold_bytes=threshold,
        closed=bool(closed),
        allocation_enable=enable,
        blocked=_blocked(blocks),
        copies=tuple(copies),
    )


def partition_observation(
    ref: PartitionRef, row: Row, copies: Sequence[ShardCopy], lost: Iterable[ShardCopy]
) -> TableObservation:
    """From a row of PARTITIONS; `lost` are the unassigned copies of all partitions of its table."""
    shards, replicas, closed, threshold, enable, blocks = row[4:]
    return TableObservation(
        target=ref,
        number_of_replicas=replicas,
        number_of_shards=shards,
        flush_threshold_bytes=threshold,
        closed=bool(closed),
        allocation_enable=enable,
        blocked=_blocked(blocks),
        copies=(*copies, *_its_share(lost, copies, replicas)),
    )


def partition_ref(row: Row, partitioned_by: Sequence[str]) -> PartitionRef:
    """Name a partition by a row of PARTITIONS and its table's `partitioned_by`."""
    values: Mapping[str, SqlValue] = row[3] or {}
    # The keys are spelled as in partitioned_by, unquoted and with subscripts (seen live on 6.4.3).
    pairs = tuple((column, values.get(column)) for column in partitioned_by)
    return PartitionRef(TableRef(row[0], row[1]), row[2], pairs)


def missing_ident(target: Target) -> Key:
    """Where `group_copies` puts the unassigned copies that may be the target's."""
    schema, name, _ = target_key(target)
    return schema, name, ""


def _its_share(
    lost: Iterable[ShardCopy], copies: Sequence[ShardCopy], replicas: str | None
) -> list[ShardCopy]:
    """Return those of the table's unassigned copies that can belong to this partition.

    `sys.shards` shows NULL as the ident of an unassigned copy, so it may be anybody's. It is taken
    for ours while our own setting leaves a place for it: a shard without its primary, or with
    fewer replicas than it should have. So a lost primary is never overlooked, a partition whose
    replicas are still on their way is never called complete, and with replicas at 0 the trouble of
    a neighbour is not taken for the loss of our primary. (`sys.allocations` knows the ident, but
    asks the master to explain every shard of the cluster for it.)
    """
    if not lost:
        return []
    wanted = 1 + _most_replicas(replicas)
    places: dict[int, int] = defaultdict(lambda: wanted)
    without_primary = defaultdict(lambda: True)
    for copy in copies:
        places[copy.shard_id] -= 1
        if copy.primary:
            without_primary[copy.shard_id] = False
    share = []
    for copy in lost:
        if places[copy.shard_id] > 0 or without_primary[copy.shard_id]:
            places[copy.shard_id] -= 1
            without_primary[copy.shard_id] = False
            share.append(copy)
    return share


def _most_replicas(replicas: str | None) -> int:
    """The most replicas that a setting can want; 1 where it has no number ('0-all', unknown).

    Only to attribute rows: what is restored is always the text itself.
    """
    most = (replicas or "").rpartition("-")[2]
    return int(most) if most.isdecimal() else 1


def _blocked(blocks: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(sorted(name for name, on in (blocks or {}).items() if on))


def _lease(lease: Mapping[str, Any]) -> Lease:
    return Lease(lease["id"], lease["source"])
