"""The cluster itself as rows of the catalog: nodes, settings, health, jobs, users.

These are few and made anew for every question; what there is per table is in `rows`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

from lab.cratedb import health
from lab.cratedb.model import Node
from lab.cratedb.rows import Row
from lab.cratedb.world import SYSTEM_SCHEMAS, World

_GB = 1024**3


def nodes(world: World) -> Iterator[Row]:
    """Yield sys.nodes: those the master believes in."""
    now = world.time_ms
    for node in world.members:
        yield {
            "id": node.id,
            "name": node.name,
            "hostname": node.hostname or node.name,
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
