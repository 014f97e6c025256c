"""Tables, partitions and shards as rows of the catalog; keys that are left out are NULL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lab.cratedb import health, options
from lab.cratedb.model import (
    EMPTY_TRANSLOG,
    INITIALIZING,
    RELOCATING,
    STARTED,
    UNASSIGNED,
    Copy,
    Relation,
    Shard,
    Table,
)
from lab.cratedb.shapes import RELATIONS, flat_columns
from lab.cratedb.world import World

Row = dict[str, Any]
_SHARD_STATE = {STARTED: "STARTED", RELOCATING: "STARTED", INITIALIZING: "RECOVERING"}


# --- relations with rows per table ----------------------------------------------------------


def shards(world: World, table: Table) -> Iterator[Row]:
    """Yield sys.shards: a row per copy, and one more for the target of a move."""
    for relation in table.relations.values():
        orphan = bool(table.partitioned_by) and relation.ident == ""
        for shard in relation.shards:
            leases = {
                "version": shard.lease_version,
                "leases": [lease.shown() for lease in shard.leases.values()],
                "primary_term": shard.term,
            }
            for copy in shard.copies:
                yield _copy_row(world, relation, shard, copy, leases, orphan=orphan)
                if copy.state == RELOCATING:
                    yield _copy_row(world, relation, shard, _arriving(copy), leases, orphan=orphan)


def _arriving(copy: Copy) -> Copy:
    return Copy(primary=copy.primary, node=copy.relocating_to, state=INITIALIZING,
                relocating_to=copy.node)  # fmt: skip


def _copy_row(
    world: World, relation: Relation, shard: Shard, copy: Copy, leases: Row, *, orphan: bool
) -> Row:
    row: Row = {
        "schema_name": relation.schema,
        "table_name": relation.table,
        "id": shard.number,
        "closed": relation.closed,
        "orphan_partition": orphan,
    }
    if copy.node is None:
        # A lost primary shows primary = false, and like every unassigned copy NULL elsewhere.
        return row | {"primary": False, "state": UNASSIGNED, "routing_state": UNASSIGNED}
    node = world.node_by_id(copy.node)
    top = shard.docs - 1
    stuck_at = top // 2 if any(c.gap for c in shard.copies) else top
    operations = 0 if copy.uncommitted == EMPTY_TRANSLOG else shard.docs
    return row | {
        "partition_ident": relation.ident,
        "primary": copy.primary,
        "state": _SHARD_STATE[copy.state],
        "routing_state": copy.state,
        "node": {"id": copy.node, "name": node.name if node else None},
        "relocating_node": copy.relocating_to,
        "translog_stats": {
            "number_of_operations": operations,
            "size": copy.uncommitted,
            "uncommitted_operations": operations,
            "uncommitted_size": copy.uncommitted,
        },
        "seq_no_stats": {
            "max_seq_no": top,
            "local_checkpoint": stuck_at if copy.gap else top,
            "global_checkpoint": stuck_at,
        },
        "retention_leases": leases,
        "size": 208 + shard.docs * 120,
        "num_docs": shard.docs,
        "min_lucene_version": "10.4.0",
        "path": f"/data/{world.cluster_name}/nodes/0/indices/{relation.name}/{shard.number}",
        "flush_stats": {"count": 1, "periodic_count": 0, "total_time_ns": 0},
        "refresh_stats": {"count": 1, "pending_count": 0, "total_time_ns": 0},
        "recovery": {
            "stage": "DONE" if copy.active else "INDEX",
            "type": "EMPTY_STORE" if copy.primary else "PEER",
            "total_time": 100,
            "files": {"percent": 100.0, "recovered": 0, "reused": 0, "used": 0},
            "size": {"percent": 100.0, "recovered": 0, "reused": 0, "used": 0},
        },
    }


def table_health(world: World, table: Table) -> Iterator[Row]:
    """Yield sys.health: a row per table or partition."""
    del world
    for relation in table.relations.values():
        found = health.of_relation(relation)
        yield {
            "table_schema": table.schema,
            "table_name": table.name,
            "partition_ident": relation.ident or None,
            "health": found.word,
            "severity": found.severity,
            "missing_shards": found.missing,
            "underreplicated_shards": found.underreplicated,
        }


_CANNOT_IMPROVE = (
    "cannot rebalance as no target node exists that can both allocate this shard and improve "
    "the cluster balance"
)
_LOST = (
    "cannot allocate because a previous copy of the primary shard existed but can no longer be "
    "found on the nodes in the cluster"
)


def allocations(world: World, table: Table) -> Iterator[Row]:
    """Yield sys.allocations; here a lost primary is still marked as primary."""
    calm = not world.unsettled
    for relation in table.relations.values():
        for shard, copy in relation.copies():
            row: Row = {
                "table_schema": table.schema,
                "table_name": table.name,
                "partition_ident": relation.ident or None,
                "shard_id": shard.number,
                "node_id": copy.node,
                "primary": copy.primary,
                "current_state": copy.state,
            }
            if copy.state == STARTED:
                row["explanation"] = _CANNOT_IMPROVE if calm else "rebalancing is not allowed"
            elif copy.state == UNASSIGNED:
                row["explanation"] = (
                    _LOST if copy.primary else "cannot allocate because allocation is not "
                    "permitted to any of the nodes"
                )  # fmt: skip
            yield row


def tables(world: World, table: Table) -> Iterator[Row]:
    """Yield information_schema.tables for a table of the user's."""
    yield {
        "table_catalog": "crate",
        "table_schema": table.schema,
        "table_name": table.name,
        "table_type": "BASE TABLE",
        "number_of_shards": table.number_of_shards,
        "number_of_replicas": _text(table),
        "closed": table.closed,
        "clustered_by": "_id",
        "column_policy": "strict",
        "partitioned_by": table.partitioned_by or None,
        "reference_generation": "SYSTEM GENERATED",
        "routing_hash_function": "org.elasticsearch.cluster.routing.Murmur3HashFunction",
        "self_referencing_column_name": "_id",
        "settings": options.shown(_own_settings(table)),
        "version": {"created": world.version, "upgraded": None},
    }


def _text(table: Table) -> str:
    return table.replicas if table.partitioned_by else table.relations[""].replicas


def _own_settings(table: Table) -> dict[str, Any]:
    return table.settings if table.partitioned_by else table.relations[""].settings


def partitions(world: World, table: Table) -> Iterator[Row]:
    """Yield information_schema.table_partitions; the keys of `values` are not quoted."""
    if not table.partitioned_by:
        return
    for relation in table.relations.values():
        yield {
            "table_schema": table.schema,
            "table_name": table.name,
            "partition_ident": relation.ident,
            "values": relation.values,
            "number_of_shards": len(relation.shards),
            "number_of_replicas": relation.replicas,
            "closed": relation.closed,
            "routing_hash_function": "org.elasticsearch.cluster.routing.Murmur3HashFunction",
            "settings": options.shown(relation.settings, partition=True),
            "version": {"created": world.version, "upgraded": None},
        }


def columns(world: World, table: Table) -> Iterator[Row]:
    """Yield information_schema.columns for a table of the user's."""
    del world
    pairs = [(column.name, column.type) for column in table.columns]
    yield from _column_rows(table.schema, table.name, pairs)


def _column_rows(schema: str, table: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Row]:
    for position, (name, kind) in enumerate(pairs, 1):
        yield {
            "table_catalog": "crate",
            "table_schema": schema,
            "table_name": table,
            "column_name": name,
            "data_type": kind,
            "ordinal_position": position,
            "is_generated": "NEVER",
            "is_nullable": True,
        }


PER_TABLE: dict[tuple[str, str], Callable[[World, Table], Iterator[Row]]] = {
    ("sys", "shards"): shards,
    ("sys", "health"): table_health,
    ("sys", "allocations"): allocations,
    ("information_schema", "tables"): tables,
    ("information_schema", "table_partitions"): partitions,
    ("information_schema", "columns"): columns,
}


# --- rows that never change -----------------------------------------------------------------


def system_tables(world: World) -> Iterator[Row]:
    """Yield information_schema.tables for the catalog itself: no shards, no replicas."""
    del world
    for schema, name in RELATIONS:
        yield {
            "table_catalog": "crate",
            "table_schema": schema,
            "table_name": name,
            "table_type": "BASE TABLE",
            "column_policy": "strict",
            "closed": False,
        }


def system_columns(world: World) -> Iterator[Row]:
    """Yield information_schema.columns for the catalog itself, sub-columns included."""
    del world
    for (schema, name), shape in RELATIONS.items():
        yield from _column_rows(schema, name, flat_columns(shape))


STATIC: dict[tuple[str, str], Callable[[World], Iterator[Row]]] = {
    ("information_schema", "tables"): system_tables,
    ("information_schema", "columns"): system_columns,
}
