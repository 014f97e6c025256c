"""The world as rows of the catalog; keys that are left out are NULL."""

from __future__ import annotations

import platform
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
    Node,
    Relation,
    Shard,
    Table,
)
from lab.cratedb.shapes import RELATIONS, flat_columns
from lab.cratedb.world import SYSTEM_SCHEMAS, World

Row = dict[str, Any]
_GB = 1024**3
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


def _copy_row(  # noqa: PLR0913 - a row has many sides
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


# --- small relations, made anew for each question -------------------------------------------


def nodes(world: World) -> Iterator[Row]:
    """Yield sys.nodes: those the master believes in."""
    now = world.time_ms
    for node in world.members:
        yield {
            "id": node.id,
            "name": node.name,
            "hostname": node.name,
            "roles": ["data", "master_eligible"],
            "is_master": node.id == world.master,
            "rest_url": f"127.0.0.1:{node.port}",
            "port": {"http": node.port, "transport": node.port + 100, "psql": node.port + 1232},
            "attributes": {},
            "cluster_state_version": world.state_version,
            "connections": {
                kind: {"open": 0, "total": 0} for kind in ("http", "psql", "transport")
            },
            "fs": _fs(node),
            "heap": {"max": _GB, "used": _GB // 4, "free": 3 * _GB // 4, "probe_timestamp": now},
            "load": {"1": 0.1, "5": 0.1, "15": 0.1, "probe_timestamp": now},
            "mem": {"free": 4 * _GB, "used": 4 * _GB, "free_percent": 50, "used_percent": 50,
                    "probe_timestamp": now},
            "os": {"cpu": {"used": 5}, "timestamp": now, "probe_timestamp": now,
                   "uptime": 86_400_000},
            "os_info": {
                "arch": platform.machine(), "available_processors": 2, "name": "Linux",
                "version": "6", "jvm": {"version": "25", "vm_name": "OpenJDK 64-Bit Server VM",
                                        "vm_vendor": "Eclipse Adoptium", "vm_version": "25"},
            },
            "process": {"cpu": {"percent": 1}, "open_file_descriptors": 300,
                        "max_open_file_descriptors": 65536, "probe_timestamp": now},
            "thread_pools": [
                {"name": name, "active": 0, "completed": 0, "largest": 2, "queue": 0,
                 "rejected": 0, "threads": 2}
                for name in ("generic", "search", "write")
            ],
            "version": {"number": node.version or world.version, "build_snapshot": False,
                        "build_hash": BUILD_HASH, "minimum_index_compatibility_version": "5.0.0",
                        "minimum_wire_compatibility_version": "5.10.0"},
        }  # fmt: skip


BUILD_HASH = "d3b321359b2ad9697232b74d7d12ba2a6c756daf"


def _fs(node: Node) -> Row:
    free = node.disk_size - node.disk_used
    return {
        "total": {"size": node.disk_size, "used": node.disk_used, "available": free,
                  "reads": 0, "writes": 0, "bytes_read": 0, "bytes_written": 0},
        "disks": [{"dev": "/dev/vda", "size": node.disk_size, "used": node.disk_used,
                   "available": free}],
        "data": [{"dev": "/dev/vda", "path": f"/data/{node.name}"}],
    }  # fmt: skip


def cluster(world: World) -> Iterator[Row]:
    """Yield sys.cluster: its settings are the values in force."""
    yield {
        "id": world.cluster_id,
        "name": world.cluster_name,
        "master_node": world.master,
        "license": None,
        "settings": world.settings.shown(),
    }


def cluster_health(world: World) -> Iterator[Row]:
    """Yield sys.cluster_health; right after losing its master a cluster still says GREEN."""
    found = health.of_cluster(world)
    yield {
        "health": found.word,
        "severity": found.severity,
        "description": found.description,
        "missing_shards": found.missing,
        "underreplicated_shards": found.underreplicated,
        "pending_tasks": world.pending_tasks,
    }


def snapshots(world: World) -> Iterator[Row]:
    """Yield sys.snapshots."""
    for snapshot in world.snapshots:
        yield {
            "id": snapshot.id,
            "name": snapshot.name,
            "repository": snapshot.repository,
            "state": snapshot.state,
            "started": snapshot.started,
            "finished": snapshot.finished,
            "relations": snapshot.relations,
            "tables": snapshot.relations,
            "concrete_indices": snapshot.relations,
            "failures": [],
            "table_partitions": [],
            "include_global_state": True,
            "total_shards": 0,
            "version": world.version,
        }


def jobs(world: World) -> Iterator[Row]:
    """Yield sys.jobs: the statements under way, this one among them."""
    for job in list(world.jobs.values()):
        yield {
            "id": job.id,
            "username": job.user,
            "stmt": job.stmt,
            "started": job.started,
            "protocol": "http",
            "node": {"id": job.node.id, "name": job.node.name},
        }


def checks(world: World) -> Iterator[Row]:
    """Yield sys.checks, as recorded on a healthy cluster."""
    del world
    yield {"id": 2, "severity": 2, "passed": True, "description": (
        "The total number of partitions of one or more partitioned tables should not be greater "
        "than 1000. A large amount of shards can significantly reduce performance. "
        "https://cr8.is/d-cluster-check-2")}  # fmt: skip
    yield {"id": 3, "severity": 1, "passed": True, "description": (
        "The following tables need to be recreated for compatibility with future major versions "
        "of CrateDB: [] https://cr8.is/d-cluster-check-3")}  # fmt: skip


def node_checks(world: World) -> Iterator[Row]:
    """Yield sys.node_checks: the disk watermarks."""
    texts = {5: "high", 6: "low", 7: "flood stage"}
    for node in world.members:
        for number, text in texts.items():
            yield {
                "id": number,
                "node_id": node.id,
                "severity": 3,
                "acknowledged": False,
                "passed": node.disk_used < node.disk_size * 0.85,
                "description": f"The {text} disk watermark is exceeded on the node.",
            }


def users(world: World) -> Iterator[Row]:
    """Yield sys.users."""
    for user in world.rights.users.values():
        yield {
            "name": user.name,
            "superuser": user.superuser,
            "password": "********" if user.password is not None else None,
            "granted_roles": [],
            "session_settings": {},
        }


def privileges(world: World) -> Iterator[Row]:
    """Yield sys.privileges."""
    for user in world.rights.users.values():
        for (right, where, ident), state in user.grants.items():
            yield {
                "grantee": user.name,
                "grantor": "crate",
                "class": where,
                "type": right,
                "ident": ident or None,
                "state": state,
            }


def schemata(world: World) -> Iterator[Row]:
    """Yield information_schema.schemata."""
    names = {"blob", "doc", *SYSTEM_SCHEMAS, *(schema for schema, _ in world.tables)}
    for name in sorted(names):
        yield {"schema_name": name}


SMALL: dict[tuple[str, str], Callable[[World], Iterator[Row]]] = {
    ("sys", "nodes"): nodes,
    ("sys", "cluster"): cluster,
    ("sys", "cluster_health"): cluster_health,
    ("sys", "snapshots"): snapshots,
    ("sys", "jobs"): jobs,
    ("sys", "checks"): checks,
    ("sys", "node_checks"): node_checks,
    ("sys", "users"): users,
    ("sys", "privileges"): privileges,
    ("information_schema", "schemata"): schemata,
}
