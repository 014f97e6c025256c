"""Every statement CrateDB ever gets from us.

A constant has a purpose and its columns, in order; a builder makes a `Statement` whose values are
parameters. Nothing else in the project writes SQL for CrateDB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from caretaker.errors import RefusedError
from caretaker.identifiers import SqlValue, quote_column_path, quote_identifier, quote_literal
from caretaker.translog.model import PartitionRef, TableRef, Target

#: A quoted name, a quoted text, or a placeholder: a `?` inside the first two is only a character.
_TOKEN = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|\?""")

#: Subscripts of a partition column as the catalog spells them: ['a']['b'].
_SUBSCRIPTS = re.compile(r"(?:\['[^'\[\]]*'\])*")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with placeholders, and the values for them.

    Attributes:
        target: What it changes, for messages; no part of what is sent.
        counts_acknowledgement: It is answered with row count 1 where every node has applied it, and
            with 0 where one has not in time (CrateDB's source); of others the count says nothing.
    """

    sql: str
    args: tuple[SqlValue, ...] = ()
    target: Target | None = field(default=None, compare=False)
    counts_acknowledgement: bool = field(default=False, compare=False)

    @property
    def rendered(self) -> str:
        """The same statement with literals, for a person to paste.

        >>> print(set_replicas(TableRef("doc", "m"), "0-1").rendered)
        ALTER TABLE "doc"."m" SET ("number_of_replicas" = '0-1')
        """
        values = iter(self.args)

        def literal(token: re.Match[str]) -> str:
            return token[1] or quote_literal(next(values))

        return _TOKEN.sub(literal, self.sql)


# ---------------------------------------------------------------------------- who is there

#: Which cluster a host belongs to: id, name.
CLUSTER_IDENTITY = "SELECT id, name FROM sys.cluster"

#: What each node runs: name, version.
NODE_VERSIONS = "SELECT name, version['number'] FROM sys.nodes ORDER BY name"

#: The cluster's own row: id, name, master_node (NULL without a master), allocation enable, low
#: disk watermark, max_shards_per_node, current_user.
CLUSTER = """
SELECT
    id,
    name,
    master_node,
    settings['cluster']['routing']['allocation']['enable'],
    settings['cluster']['routing']['allocation']['disk']['watermark']['low'],
    settings['cluster']['max_shards_per_node'],
    CURRENT_USER
FROM sys.cluster
"""

#: Health of everything, true whatever the user may see; since 6.0 (4041 before): health,
#: missing_shards, underreplicated_shards.
CLUSTER_HEALTH = "SELECT health, missing_shards, underreplicated_shards FROM sys.cluster_health"

#: Members: id, name, version, disk total, disk used, roles.
NODES = """
SELECT id, name, version['number'], fs['total']['size'], fs['total']['used'], roles
FROM sys.nodes
ORDER BY name
"""

#: The same for servers that have no `roles` yet (crate/crate#18617, end of 2025): NULL instead.
NODES_WITHOUT_ROLES = """
SELECT id, name, version['number'], fs['total']['size'], fs['total']['used'], NULL
FROM sys.nodes
ORDER BY name
"""

#: Whether the user sees everything by right: superuser.
SUPERUSER = "SELECT superuser FROM sys.users WHERE name = ?"

# ---------------------------------------------------------------------------- is it at rest

#: What is not GREEN among the tables the user may see: schema, table, partition ident ('' for a
#: whole table), health, missing_shards, underreplicated_shards (-1 is unknown).
UNHEALTHY = """
SELECT
    table_schema,
    table_name,
    COALESCE(partition_ident, ''),
    health,
    missing_shards,
    underreplicated_shards
FROM sys.health
WHERE health <> 'GREEN'
"""

#: Copies that recover, relocate or wait for a node: schema, table, partition ident, routing_state.
#: The ident of an unassigned copy is NULL, of a partition's too.
MOVING = """
SELECT schema_name, table_name, COALESCE(partition_ident, ''), routing_state
FROM sys.shards
WHERE routing_state <> 'STARTED' OR relocating_node IS NOT NULL
"""

#: Assigned copies, and primaries of open relations: two counts. Closed ones are left out of the
#: second, as in VISIBLE_RELATIONS, or a single closed table would look like a blind spot.
SHARD_COUNTS = """
SELECT
    count(*) FILTER (WHERE routing_state <> 'UNASSIGNED'),
    count(*) FILTER (WHERE "primary" AND COALESCE(closed, FALSE) = FALSE)
FROM sys.shards
"""

#: What the catalog says should be there, a row for tables and one for partitions: relations,
#: primaries of the open ones (NULL for none).
VISIBLE_RELATIONS = """
SELECT
    count(*),
    sum(number_of_shards) FILTER (WHERE partitioned_by IS NULL AND COALESCE(closed, FALSE) = FALSE)
FROM information_schema.tables
WHERE number_of_shards IS NOT NULL
UNION ALL
SELECT
    0,
    sum(number_of_shards) FILTER (WHERE COALESCE(closed, FALSE) = FALSE)
FROM information_schema.table_partitions
"""

#: Snapshots being written: a count.
RUNNING_SNAPSHOTS = "SELECT count(*) FROM sys.snapshots WHERE state = 'IN_PROGRESS'"

#: Statements that run now and move or read whole shards: decommissions, snapshots. Anchored at
#: the front, or this very statement would find itself.
RUNNING_JOBS = """
SELECT
    count(*) FILTER (WHERE upper(ltrim(stmt)) LIKE 'ALTER CLUSTER DECOMMISSION%'),
    count(*) FILTER (WHERE upper(ltrim(stmt)) LIKE 'CREATE SNAPSHOT%')
FROM sys.jobs
"""

# ---------------------------------------------------------------------------- tables and shards

_TABLE_COLUMNS = """
SELECT
    table_schema,
    table_name,
    number_of_shards,
    number_of_replicas,
    closed,
    partitioned_by,
    settings['translog']['flush_threshold_size'],
    settings['routing']['allocation']['enable'],
    settings['blocks']"""
_FROM_TABLES = """
FROM information_schema.tables"""

_PARTITION_COLUMNS = """
SELECT
    table_schema,
    table_name,
    partition_ident,
    "values",
    number_of_shards,
    number_of_replicas,
    closed,
    settings['translog']['flush_threshold_size'],
    settings['routing']['allocation']['enable'],
    settings['blocks']"""
_FROM_PARTITIONS = """
FROM information_schema.table_partitions"""

#: Which cluster answers: hosts, names and load balancers may lead to another one at any time.
_ANSWERED_BY = """,
    (SELECT id FROM sys.cluster)"""

#: Every user table, partitioned ones too: schema, table, shards, replicas (text), closed,
#: partitioned_by, flush threshold (bytes), allocation enable, blocks (object). Views and foreign
#: tables have no number_of_shards.
TABLES = f"""{_TABLE_COLUMNS}{_FROM_TABLES}
WHERE table_schema NOT IN ('sys', 'information_schema', 'pg_catalog', 'blob')
    AND number_of_shards IS NOT NULL
"""

#: Every partition: schema, table, ident, values (object; keys as in partitioned_by), and then
#: shards ... blocks as in TABLES.
PARTITIONS = f"""{_PARTITION_COLUMNS}{_FROM_PARTITIONS}
WHERE table_schema NOT IN ('sys', 'information_schema', 'pg_catalog', 'blob')
"""

#: Every shard copy of user tables: schema, table, partition ident, id, primary, routing_state,
#: node id, node name, relocating_node, uncommitted bytes, translog bytes, max_seq_no,
#: local_checkpoint, global_checkpoint. Leases are left out: they are most of the bytes, and only
#: the one table that is being reset needs them.
SHARDS = """
SELECT
    schema_name,
    table_name,
    COALESCE(partition_ident, ''),
    id,
    "primary",
    routing_state,
    node['id'],
    node['name'],
    relocating_node,
    translog_stats['uncommitted_size'],
    translog_stats['size'],
    seq_no_stats['max_seq_no'],
    seq_no_stats['local_checkpoint'],
    seq_no_stats['global_checkpoint']
FROM sys.shards
WHERE schema_name NOT IN ('sys', 'information_schema', 'pg_catalog', 'blob')
"""

_THIS_TABLE = """
WHERE table_schema = ? AND table_name = ? AND number_of_shards IS NOT NULL
"""
_THIS_PARTITION = """
WHERE table_schema = ? AND table_name = ? AND partition_ident = ?
"""

#: One table, as in TABLES, and the id of the cluster that answers.
TABLE = f"{_TABLE_COLUMNS}{_ANSWERED_BY}{_FROM_TABLES}{_THIS_TABLE}"

#: One partition, as in PARTITIONS, and the id of the cluster that answers.
PARTITION = f"{_PARTITION_COLUMNS}{_ANSWERED_BY}{_FROM_PARTITIONS}{_THIS_PARTITION}"

#: The same for who may not read sys any more, and still has a table to restore.
TABLE_WITHOUT_SYS = f"{_TABLE_COLUMNS}{_FROM_TABLES}{_THIS_TABLE}"
PARTITION_WITHOUT_SYS = f"{_PARTITION_COLUMNS}{_FROM_PARTITIONS}{_THIS_PARTITION}"

#: Every copy of one table or partition with its leases: ident, id ... global_checkpoint as in
#: SHARDS, leases (array of objects id, source, retaining_seq_no, timestamp). Unassigned copies of
#: all partitions come along: their ident is NULL. Whether that means "clear" only the core decides.
SHARDS_WITH_LEASES = """
SELECT
    schema_name,
    table_name,
    COALESCE(partition_ident, ''),
    id,
    "primary",
    routing_state,
    node['id'],
    node['name'],
    relocating_node,
    translog_stats['uncommitted_size'],
    translog_stats['size'],
    seq_no_stats['max_seq_no'],
    seq_no_stats['local_checkpoint'],
    seq_no_stats['global_checkpoint'],
    retention_leases['leases']
FROM sys.shards
WHERE schema_name = ? AND table_name = ? AND COALESCE(partition_ident, '') IN ('', ?)
"""

# ---------------------------------------------------------------------------- restarts of nodes

#: The cluster's own row, as a restart needs it: id, name, master_node, graceful_stop timeout, force
#: and min_availability, allocation enable, low disk watermark, current_user.
RESTART_CLUSTER = """
SELECT
    id,
    name,
    master_node,
    settings['cluster']['graceful_stop']['timeout'],
    settings['cluster']['graceful_stop']['force'],
    settings['cluster']['graceful_stop']['min_availability'],
    settings['cluster']['routing']['allocation']['enable'],
    settings['cluster']['routing']['allocation']['disk']['watermark']['low'],
    CURRENT_USER
FROM sys.cluster
"""

#: Where each node answers: of a cluster and its copy from the same volumes only this differs.
NODE_ADDRESSES = "SELECT id, rest_url FROM sys.nodes"

#: Members: id, name, hostname, disk total, disk used, roles.
RESTART_NODES = """
SELECT id, name, hostname, fs['total']['size'], fs['total']['used'], roles
FROM sys.nodes
ORDER BY name
"""

#: The same for servers that have no `roles` yet.
RESTART_NODES_WITHOUT_ROLES = """
SELECT id, name, hostname, fs['total']['size'], fs['total']['used'], NULL
FROM sys.nodes
ORDER BY name
"""

#: Copies by node (NULL: nowhere): node id, copies, primaries, relocating, initializing. Both ends
#: of a move have a row each.
COPIES_BY_NODE = """
SELECT
    node['id'],
    count(*),
    count(*) FILTER (WHERE "primary"),
    count(*) FILTER (WHERE routing_state = 'RELOCATING'),
    count(*) FILTER (WHERE routing_state = 'INITIALIZING')
FROM sys.shards
GROUP BY node['id']
"""

#: Shards of which exactly one copy is active: schema, table, partition ident, id, node id. A copy
#: that moves is active until it has arrived; an unassigned one shows no partition.
SOLE_COPIES = """
SELECT
    schema_name,
    table_name,
    COALESCE(partition_ident, ''),
    id,
    max(node['id']) FILTER (WHERE routing_state IN ('STARTED', 'RELOCATING'))
FROM sys.shards
GROUP BY schema_name, table_name, COALESCE(partition_ident, ''), id
HAVING count(*) FILTER (WHERE routing_state IN ('STARTED', 'RELOCATING')) = 1
"""

#: Where tables let their shards be: schema, table, '' or partition ident, rules (object: enable,
#: require, include, exclude, total_shards_per_node).
TABLE_PLACEMENT = """
SELECT table_schema, table_name, '', settings['routing']['allocation']
FROM information_schema.tables
WHERE number_of_shards IS NOT NULL
"""

#: The same for partitions.
PARTITION_PLACEMENT = """
SELECT table_schema, table_name, partition_ident, settings['routing']['allocation']
FROM information_schema.table_partitions
"""

#: Where the cluster lets any shard be: the same rules as a table's, for all of them.
CLUSTER_PLACEMENT = "SELECT settings['cluster']['routing']['allocation'] FROM sys.cluster"

#: What filters look at: id, name, hostname, attributes (object).
NODE_PLACES = "SELECT id, name, hostname, attributes FROM sys.nodes"

#: Copies by table and node: schema, table, partition ident, node id, copies.
COPIES_BY_TABLE = """
SELECT schema_name, table_name, COALESCE(partition_ident, ''), node['id'], count(*)
FROM sys.shards
GROUP BY schema_name, table_name, COALESCE(partition_ident, ''), node['id']
"""

#: Statements that run, by node: node id, decommissions, those of them that are the given one,
#: snapshots being written, others. Who asks for jobs is no job: a connection may lead to the very
#: node that drains, and this statement would keep it busy for ever.
JOBS_BY_NODE = """
SELECT
    node['id'],
    count(*) FILTER (WHERE upper(ltrim(stmt)) LIKE 'ALTER CLUSTER DECOMMISSION%'),
    count(*) FILTER (WHERE stmt = ?),
    count(*) FILTER (WHERE upper(ltrim(stmt)) LIKE 'CREATE SNAPSHOT%'),
    count(*) FILTER (
        WHERE upper(ltrim(stmt)) NOT LIKE 'ALTER CLUSTER DECOMMISSION%'
        AND stmt NOT LIKE '%sys.jobs%'
    )
FROM sys.jobs
GROUP BY node['id']
"""

#: Whether a node takes new requests at all.
ARE_YOU_THERE = "SELECT 1"

# ---------------------------------------------------------------------------- what we change


def set_replicas(target: Target, replicas: str) -> Statement:
    """Give `target` exactly this `number_of_replicas`: text, as the catalog shows it.

    Always a parameter: a bare 0-1 is -1 and a bare 2-1 silently 1 (seen live on 6.4.3).
    """
    clause, values = _altered(target)
    sql = f'ALTER TABLE {clause} SET ("number_of_replicas" = ?)'
    return Statement(sql, (*values, replicas), target)


def flush(target: Target) -> Statement:
    """Flush every copy of `target` and sync its leases, without merging: 0.2 s (6.4.3).

    `max_num_segments` far above what any shard has makes OPTIMIZE leave the segments alone.
    """
    clause, values = _altered(target)
    sql = f"OPTIMIZE TABLE {clause} WITH (max_num_segments = 100000, flush = true)"
    return Statement(sql, values, target)


def set_global(key: str, value: SqlValue, *, persistent: bool = False) -> Statement:
    """Set a cluster setting, until the whole cluster restarts or for good."""
    level = "PERSISTENT" if persistent else "TRANSIENT"
    text = f"SET GLOBAL {level} {quote_identifier(key)} = ?"
    return Statement(text, (value,), counts_acknowledgement=True)


def reset_global(keys: Iterable[str]) -> Statement:
    """Clear cluster settings, on both levels: a persistent value goes, too (seen live)."""
    text = "RESET GLOBAL " + ", ".join(quote_identifier(key) for key in keys)
    return Statement(text, counts_acknowledgement=True)


def decommission(node: str) -> Statement:
    """Drain a node and let its process end; answers when it is drained, or has given up.

    A literal, not a parameter: `sys.jobs` must tell whose node it is about.
    """
    return Statement(f"ALTER CLUSTER DECOMMISSION {quote_literal(node)}")


def grant_dql_on_sys(user: str) -> Statement:
    """Let `user` read the system tables; for a person to run, never sent by us."""
    return Statement(f"GRANT DQL ON SCHEMA sys TO {quote_identifier(user)}")


def _altered(target: Target) -> tuple[str, tuple[SqlValue, ...]]:
    table = f"{quote_identifier(target.schema)}.{quote_identifier(target.name)}"
    if isinstance(target, TableRef):
        return table, ()
    return f"{table} PARTITION ({_columns(target)})", tuple(value for _, value in target.values)


def _columns(partition: PartitionRef) -> str:
    # Without its clause the statement would still be valid, and change every other partition and
    # the template of new ones too.
    if not partition.values:
        raise RefusedError(f"partition {partition.ident!r} has no values", target=partition)
    for column, _ in partition.values:
        subscripts = column[len(column.partition("[")[0]) :]
        # They go into the text as they are, so they must be nothing but subscripts.
        if not _SUBSCRIPTS.fullmatch(subscripts):
            raise RefusedError(f"cannot write partition column {column!r}", target=partition)
    return ", ".join(f"{quote_column_path(column)} = ?" for column, _ in partition.values)
