"""The columns of every system relation, in CrateDB's types; DuckDB's types follow from them.

Names and types of sys.shards, information_schema.tables, .table_partitions, sys.health,
.cluster_health, .allocations and .nodes are those recorded on 6.4.3; the inner columns of the
others were read in its documentation. Columns come in alphabetical order, as `SELECT *` has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

TEXT, BOOL, INT, BIGINT, SMALLINT = "text", "boolean", "integer", "bigint", "smallint"
REAL, DOUBLE, TIME = "real", "double precision", "timestamp with time zone"
#: An object whose keys are not known beforehand (partition values, attributes): kept as JSON.
OPEN = "open"

#: A type: a name above, a dict for an object, a one-element list for an array.
Shape = Any

_DUCK = {
    TEXT: "VARCHAR",
    BOOL: "BOOLEAN",
    INT: "INTEGER",
    BIGINT: "BIGINT",
    SMALLINT: "SMALLINT",
    REAL: "FLOAT",
    DOUBLE: "DOUBLE",
    TIME: "BIGINT",  # milliseconds since the epoch, as CrateDB shows and compares them
    OPEN: "JSON",
}

_TABLE_SETTINGS: Shape = {
    "blocks": {
        "metadata": BOOL,
        "read": BOOL,
        "read_only": BOOL,
        "read_only_allow_delete": BOOL,
        "write": BOOL,
    },
    "codec": TEXT,
    "mapping": {"depth": {"limit": INT}, "total_fields": {"limit": INT}},
    "merge": {"scheduler": {"max_merge_count": INT, "max_thread_count": INT}},
    "refresh_interval": BIGINT,
    "routing": {
        "allocation": {
            "enable": TEXT,
            "exclude": OPEN,
            "include": OPEN,
            "require": OPEN,
            "total_shards_per_node": INT,
        }
    },
    "store": {"type": TEXT},
    "translog": {"durability": TEXT, "flush_threshold_size": BIGINT, "sync_interval": BIGINT},
    "unassigned": {"node_left": {"delayed_timeout": BIGINT}},
    "write": {"wait_for_active_shards": TEXT},
}
_PARTITION_SETTINGS: Shape = {k: v for k, v in _TABLE_SETTINGS.items() if k != "refresh_interval"}
_VERSION: Shape = {"created": TEXT, "upgraded": TEXT}
_RECOVERED: Shape = {"percent": REAL, "recovered": BIGINT, "reused": BIGINT, "used": BIGINT}

CLUSTER_SETTINGS: Shape = {
    "cluster": {
        "graceful_stop": {"force": BOOL, "min_availability": TEXT, "timeout": TEXT},
        "info": {"update": {"interval": TEXT}},
        "max_shards_per_node": INT,
        "routing": {
            "allocation": {
                "allow_rebalance": TEXT,
                "balance": {"index": REAL, "shard": REAL, "threshold": REAL},
                "cluster_concurrent_rebalance": INT,
                "disk": {
                    "threshold_enabled": BOOL,
                    "watermark": {"flood_stage": TEXT, "high": TEXT, "low": TEXT},
                },
                "enable": TEXT,
                "exclude": OPEN,
                "include": OPEN,
                "node_concurrent_recoveries": INT,
                "node_initial_primaries_recoveries": INT,
                "require": OPEN,
                "total_shards_per_node": INT,
            },
            "rebalance": {"enable": TEXT},
        },
    },
    "indices": {
        "recovery": {
            "internal_action_timeout": TEXT,
            "max_bytes_per_sec": TEXT,
            "retry_delay_network": TEXT,
            "retry_delay_state_sync": TEXT,
        }
    },
    "memory": {"operation_limit": INT},
    "overload_protection": {
        "dml": {
            "initial_concurrency": INT,
            "max_concurrency": INT,
            "min_concurrency": INT,
            "queue_size": INT,
        }
    },
    "replication": {"logical": {"reads_poll_duration": TEXT, "recovery": {"chunk_size": TEXT}}},
    "statement_max_length": INT,
    "statement_timeout": TEXT,
    "stats": {
        "enabled": BOOL,
        "jobs_log_expiration": TEXT,
        "jobs_log_filter": TEXT,
        "jobs_log_size": INT,
        "operations_log_expiration": TEXT,
        "operations_log_size": INT,
        "service": {"interval": TEXT, "max_bytes_per_sec": TEXT},
    },
    "udc": {"enabled": BOOL, "initial_delay": TEXT, "interval": TEXT, "url": TEXT},
}

_LEASE: Shape = {"id": TEXT, "retaining_seq_no": BIGINT, "source": TEXT, "timestamp": TIME}

RELATIONS: dict[tuple[str, str], dict[str, Shape]] = {
    ("sys", "shards"): {
        "blob_path": TEXT,
        "closed": BOOL,
        "flush_stats": {"count": BIGINT, "periodic_count": BIGINT, "total_time_ns": BIGINT},
        "id": INT,
        "last_write_before": TIME,
        "merge_stats": {
            "bytes_per_sec_auto_throttle": BIGINT,
            "count": BIGINT,
            "current_count": BIGINT,
            "current_num_docs": BIGINT,
            "current_size_bytes": BIGINT,
            "total_num_docs": BIGINT,
            "total_size_bytes": BIGINT,
            "total_throttled_time_ms": BIGINT,
            "total_time_ms": BIGINT,
        },
        "min_lucene_version": TEXT,
        "node": {"id": TEXT, "name": TEXT},
        "num_docs": BIGINT,
        "orphan_partition": BOOL,
        "partition_ident": TEXT,
        "partition_uuid": TEXT,
        "path": TEXT,
        "primary": BOOL,
        "recovery": {
            "files": {"percent": REAL, "recovered": INT, "reused": INT, "used": INT},
            "size": _RECOVERED,
            "stage": TEXT,
            "total_time": BIGINT,
            "type": TEXT,
        },
        "refresh_stats": {"count": BIGINT, "pending_count": BIGINT, "total_time_ns": BIGINT},
        "relocating_node": TEXT,
        "retention_leases": {"leases": [_LEASE], "primary_term": BIGINT, "version": BIGINT},
        "routing_state": TEXT,
        "schema_name": TEXT,
        "seq_no_stats": {
            "global_checkpoint": BIGINT,
            "local_checkpoint": BIGINT,
            "max_seq_no": BIGINT,
        },
        "size": BIGINT,
        "state": TEXT,
        "table_name": TEXT,
        "translog_stats": {
            "number_of_operations": INT,
            "size": BIGINT,
            "uncommitted_operations": INT,
            "uncommitted_size": BIGINT,
        },
    },
    ("sys", "health"): {
        "health": TEXT,
        "missing_shards": BIGINT,
        "partition_ident": TEXT,
        "severity": SMALLINT,
        "table_name": TEXT,
        "table_schema": TEXT,
        "underreplicated_shards": BIGINT,
    },
    ("sys", "cluster_health"): {
        "description": TEXT,
        "health": TEXT,
        "missing_shards": BIGINT,
        "pending_tasks": BIGINT,
        "severity": SMALLINT,
        "underreplicated_shards": BIGINT,
    },
    ("sys", "allocations"): {
        "current_state": TEXT,
        "decisions": [{"explanations": [TEXT], "node_id": TEXT, "node_name": TEXT}],
        "explanation": TEXT,
        "node_id": TEXT,
        "partition_ident": TEXT,
        "primary": BOOL,
        "shard_id": INT,
        "table_name": TEXT,
        "table_schema": TEXT,
    },
    ("sys", "nodes"): {
        "attributes": OPEN,
        "cluster_state_version": BIGINT,
        "connections": {
            "http": {"open": BIGINT, "total": BIGINT},
            "psql": {"open": BIGINT, "total": BIGINT},
            "transport": {"open": BIGINT, "total": BIGINT},
        },
        "fs": {
            "data": [{"dev": TEXT, "path": TEXT}],
            "disks": [{"available": BIGINT, "dev": TEXT, "size": BIGINT, "used": BIGINT}],
            "total": {
                "available": BIGINT,
                "bytes_read": BIGINT,
                "bytes_written": BIGINT,
                "reads": BIGINT,
                "size": BIGINT,
                "used": BIGINT,
                "writes": BIGINT,
            },
        },
        "heap": {"free": BIGINT, "max": BIGINT, "probe_timestamp": TIME, "used": BIGINT},
        "hostname": TEXT,
        "id": TEXT,
        "is_master": BOOL,
        "load": {"1": DOUBLE, "15": DOUBLE, "5": DOUBLE, "probe_timestamp": TIME},
        "mem": {
            "free": BIGINT,
            "free_percent": SMALLINT,
            "probe_timestamp": TIME,
            "used": BIGINT,
            "used_percent": SMALLINT,
        },
        "name": TEXT,
        "os": {
            "cpu": {"used": SMALLINT},
            "probe_timestamp": TIME,
            "timestamp": TIME,
            "uptime": BIGINT,
        },
        "os_info": {
            "arch": TEXT,
            "available_processors": INT,
            "jvm": {"version": TEXT, "vm_name": TEXT, "vm_vendor": TEXT, "vm_version": TEXT},
            "name": TEXT,
            "version": TEXT,
        },
        "port": {"http": INT, "psql": INT, "transport": INT},
        "process": {
            "cpu": {"percent": SMALLINT},
            "max_open_file_descriptors": BIGINT,
            "open_file_descriptors": BIGINT,
            "probe_timestamp": TIME,
        },
        "rest_url": TEXT,
        "roles": [TEXT],
        "thread_pools": [
            {
                "active": INT,
                "completed": BIGINT,
                "largest": INT,
                "name": TEXT,
                "queue": INT,
                "rejected": BIGINT,
                "threads": INT,
            }
        ],
        "version": {
            "build_hash": TEXT,
            "build_snapshot": BOOL,
            "minimum_index_compatibility_version": TEXT,
            "minimum_wire_compatibility_version": TEXT,
            "number": TEXT,
        },
    },
    ("sys", "cluster"): {
        "id": TEXT,
        "license": {"expiry_date": TIME, "issued_to": TEXT, "max_nodes": INT},
        "master_node": TEXT,
        "name": TEXT,
        "settings": CLUSTER_SETTINGS,
    },
    ("sys", "snapshots"): {
        "concrete_indices": [TEXT],
        "failures": [TEXT],
        "finished": TIME,
        "id": TEXT,
        "include_global_state": BOOL,
        "name": TEXT,
        "reason": TEXT,
        "relations": [TEXT],
        "repository": TEXT,
        "started": TIME,
        "state": TEXT,
        "table_partitions": [{"table_name": TEXT, "table_schema": TEXT, "values": [TEXT]}],
        "tables": [TEXT],
        "total_shards": INT,
        "version": TEXT,
    },
    ("sys", "jobs"): {
        "id": TEXT,
        "node": {"id": TEXT, "name": TEXT},
        "protocol": TEXT,
        "started": TIME,
        "stmt": TEXT,
        "username": TEXT,
    },
    ("sys", "checks"): {"description": TEXT, "id": INT, "passed": BOOL, "severity": INT},
    ("sys", "node_checks"): {
        "acknowledged": BOOL,
        "description": TEXT,
        "id": INT,
        "node_id": TEXT,
        "passed": BOOL,
        "severity": INT,
    },
    ("sys", "users"): {
        "granted_roles": [{"grantor": TEXT, "role": TEXT}],
        "jwt": OPEN,
        "name": TEXT,
        "password": TEXT,
        "session_settings": OPEN,
        "superuser": BOOL,
    },
    ("sys", "privileges"): {
        "class": TEXT,
        "grantee": TEXT,
        "grantor": TEXT,
        "ident": TEXT,
        "state": TEXT,
        "type": TEXT,
    },
    ("information_schema", "tables"): {
        "blobs_path": TEXT,
        "closed": BOOL,
        "clustered_by": TEXT,
        "column_policy": TEXT,
        "number_of_replicas": TEXT,
        "number_of_shards": INT,
        "partitioned_by": [TEXT],
        "reference_generation": TEXT,
        "routing_hash_function": TEXT,
        "self_referencing_column_name": TEXT,
        "settings": _TABLE_SETTINGS,
        "table_catalog": TEXT,
        "table_name": TEXT,
        "table_schema": TEXT,
        "table_type": TEXT,
        "version": _VERSION,
    },
    ("information_schema", "table_partitions"): {
        "closed": BOOL,
        "number_of_replicas": TEXT,
        "number_of_shards": INT,
        "partition_ident": TEXT,
        "routing_hash_function": TEXT,
        "settings": _PARTITION_SETTINGS,
        "table_name": TEXT,
        "table_schema": TEXT,
        "values": OPEN,
        "version": _VERSION,
    },
    ("information_schema", "columns"): {
        "character_maximum_length": INT,
        "column_default": TEXT,
        "column_name": TEXT,
        "data_type": TEXT,
        "generation_expression": TEXT,
        "is_generated": TEXT,
        "is_nullable": BOOL,
        "ordinal_position": INT,
        "table_catalog": TEXT,
        "table_name": TEXT,
        "table_schema": TEXT,
    },
    ("information_schema", "schemata"): {"schema_name": TEXT},
}


def duck_type(shape: Shape) -> str:
    """Return the DuckDB type that holds `shape`."""
    if isinstance(shape, dict):
        inner = ", ".join(f'"{key}" {duck_type(value)}' for key, value in shape.items())
        return f"STRUCT({inner})"
    if isinstance(shape, list):
        return duck_type(shape[0]) + "[]"
    return _DUCK[shape]


def json_structure(columns: dict[str, Shape]) -> str:
    """Return the structure DuckDB's `from_json` wants for a row."""

    def walk(shape: Shape) -> Any:
        if isinstance(shape, dict):
            return {key: walk(value) for key, value in shape.items()}
        if isinstance(shape, list):
            return [walk(shape[0])]
        return _DUCK[shape]

    return json.dumps(walk(columns))


def type_name(shape: Shape) -> str:
    """Return the name information_schema.columns gives `shape`."""
    if isinstance(shape, dict) or shape == OPEN:
        return "object"
    if isinstance(shape, list):
        return f"{type_name(shape[0])}_array"
    return str(shape)


def flat_columns(columns: dict[str, Shape]) -> Iterator[tuple[str, str]]:
    """Yield (column_name, data_type) of every column and sub-column, as recorded.

    A column inside an array of objects is an array itself: `leases['id']` is a text_array.
    """

    def walk(name: str, shape: Shape, arrays: int) -> Iterator[tuple[str, str]]:
        yield name, type_name(shape) + "_array" * arrays
        inner = shape[0] if isinstance(shape, list) else shape
        if isinstance(inner, dict):
            deeper = arrays + isinstance(shape, list)
            for key, value in inner.items():
                yield from walk(f"{name}['{key}']", value, deeper)

    for name, shape in columns.items():
        yield from walk(name, shape, 0)


def _shapes_by_column() -> dict[str, list[Shape]]:
    out: dict[str, list[Shape]] = {}
    for columns in RELATIONS.values():
        for name, shape in columns.items():
            out.setdefault(name, []).append(shape)
    return out


#: Every column name of the catalog and the shapes it has where it occurs.
COLUMNS: dict[str, list[Shape]] = _shapes_by_column()


def array_depth(column: str, path: list[str]) -> int | None:
    """Return how many steps of `path` lead to an array of objects, or None where none does.

    >>> array_depth("retention_leases", ["leases", "id"])
    1
    """
    for shape in COLUMNS.get(column, []):
        here = shape
        for depth, key in enumerate(path):
            if isinstance(here, list) and isinstance(here[0], dict):
                return depth
            if not isinstance(here, dict) or key not in here:
                break
            here = here[key]
    return None


def is_object(column: str, path: list[str]) -> bool:
    """Return whether `column[path]` is an object with known keys (DuckDB's STRUCT)."""
    for shape in COLUMNS.get(column, []):
        here = shape
        for key in path:
            if not isinstance(here, dict) or key not in here:
                here = None
                break
            here = here[key]
        if isinstance(here, dict):
            return True
    return False
