"""What is known about a table, its copies and its cluster, and what we promised about it.

Sizes are bytes as in `sys.shards.translog_stats`, times are aware UTC datetimes, replicas are the
exact text of `number_of_replicas` ('1', '0-1', '0-all'), which is never parsed to be restored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from caretaker.identifiers import SqlValue

MIB = 1024 * 1024

#: `translog.flush_threshold_size` where neither partition nor table sets one
#: (IndexSettings.java:92).
DEFAULT_FLUSH_THRESHOLD_BYTES = 512 * MIB


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """A table, by the names its catalog shows."""

    schema: str
    name: str

    @property
    def table(self) -> TableRef:
        """The table itself: what a partition answers, too."""
        return self

    @property
    def ident(self) -> str:
        """Its `partition_ident`: '' as `sys.shards` shows it for an unpartitioned table."""
        return ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class PartitionRef:
    """One partition of a table.

    Attributes:
        ident: `partition_ident`, which names its shards in `sys.shards`.
        values: A (column, value) pair for each column of `partitioned_by`, in that order; columns
            as CrateDB shows them, unquoted and with subscripts: "ts", "o['a']".
    """

    table: TableRef
    ident: str
    values: tuple[tuple[str, SqlValue], ...]

    @property
    def schema(self) -> str:
        """The table's schema."""
        return self.table.schema

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    def __str__(self) -> str:
        inside = ", ".join(f"{column}={value!r}" for column, value in self.values)
        return f"{self.table} ({inside})"


Target: TypeAlias = TableRef | PartitionRef


def partition_text(target: Target) -> str:
    """The partition as people read it, "ts=1704067200000", or '' for a whole table."""
    if isinstance(target, TableRef):
        return ""
    return ", ".join(f"{column}={value!r}" for column, value in target.values)


@dataclass(frozen=True, slots=True)
class Lease:
    """A retention lease that a shard copy shows.

    Attributes:
        id: `peer_recovery/<node id>` for a copy, anything for another source.
        source: 'peer recovery', or who else holds history back, such as logical replication.
    """

    id: str
    source: str


@dataclass(frozen=True, slots=True)
class ShardCopy:
    """One row of `sys.shards`: a primary or a replica. None where CrateDB shows NULL.

    A lost primary shows `primary=False`, UNASSIGNED and everything else None (seen live).
    """

    shard_id: int
    primary: bool
    routing_state: str
    node_id: str | None = None
    node_name: str | None = None
    relocating_node: str | None = None
    uncommitted_bytes: int | None = None
    translog_bytes: int | None = None
    max_seq_no: int | None = None
    local_checkpoint: int | None = None
    global_checkpoint: int | None = None
    leases: tuple[Lease, ...] | None = None

    @property
    def started(self) -> bool:
        """Whether it serves; RELOCATING and INITIALIZING copies do not count."""
        return self.routing_state == "STARTED"


@dataclass(frozen=True, slots=True)
class TableObservation:
    """A table or partition as the catalog showed it at one moment.

    Attributes:
        number_of_replicas: The exact text, or None where the user may not see it.
        number_of_shards: Primaries it should have; None for views and foreign tables.
        flush_threshold_bytes: Its own setting, the table's, or None where neither is known.
        allocation_enable: `routing.allocation.enable` of the table, 'all' unless somebody set it.
        blocked: Names of the `blocks.*` settings that are on.
        copies: Every row of `sys.shards` for it.
    """

    target: Target
    number_of_replicas: str | None
    number_of_shards: int | None
    flush_threshold_bytes: int | None = None
    closed: bool = False
    allocation_enable: str | None = "all"
    blocked: tuple[str, ...] = ()
    copies: tuple[ShardCopy, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A member of the cluster; disk figures are bytes, None where unknown."""

    id: str
    name: str
    version: str
    is_data: bool = True
    disk_total_bytes: int | None = None
    disk_used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class UnhealthyTable:
    """A row of `sys.health` that is not GREEN."""

    target_key: tuple[str, str, str]
    health: str
    missing_shards: int
    underreplicated_shards: int


@dataclass(frozen=True, slots=True)
class MovingShard:
    """A copy that is being recovered or relocated."""

    target_key: tuple[str, str, str]
    routing_state: str


@dataclass(frozen=True, slots=True)
class ClusterObservation:
    """The cluster as preflight needs it; None is unknown, and unknown refuses.

    Attributes:
        id: `sys.cluster.id`, the key of the lock.
        health: `sys.cluster_health.health`, true whatever the user may see; None before 6.0,
            where `sys.health` is all there is.
        missing_shards, underreplicated_shards: From the same row.
        unhealthy: Rows of `sys.health` that are not GREEN, only those the user may see.
        open_shards: Assigned copies, against `max_shards_per_node` a data node.
        low_watermark: As set: '85%' or an absolute size of free space such as '50gb'.
        running_snapshots, decommissions: How many `sys.snapshots` are in progress, how many
            ALTER CLUSTER DECOMMISSION statements run (`sys.jobs`).
        superuser: Whether the user sees everything by right; None where it cannot be told.
        visible_tables: Relations with shards that the user may see.
        visible_primaries, expected_primaries: Primary rows in `sys.shards`, and the sum of
            `number_of_shards` of visible open relations.
    """

    id: str
    name: str
    master_node: str | None
    health: str | None
    missing_shards: int | None
    underreplicated_shards: int | None
    nodes: tuple[Node, ...]
    allocation_enable: str | None
    unhealthy: tuple[UnhealthyTable, ...] = ()
    moving: tuple[MovingShard, ...] = ()
    open_shards: int = 0
    max_shards_per_node: int | None = None
    low_watermark: str | None = None
    running_snapshots: int = 0
    decommissions: int = 0
    user: str = ""
    superuser: bool | None = None
    visible_tables: int = 0
    visible_primaries: int = 0
    expected_primaries: int = 0


def target_key(target: Target) -> tuple[str, str, str]:
    """(schema, table, partition ident): how catalogs and tickets name a target."""
    return (target.table.schema, target.table.name, target.ident)


class ResetState(StrEnum):
    """Where a reset stands; FAILED can be reached from every other state."""

    DETECTED = "DETECTED"
    SETTING_REPLICAS_ZERO = "SETTING_REPLICAS_ZERO"
    MONITORING_LEASES = "MONITORING_LEASES"
    RESTORING_REPLICAS = "RESTORING_REPLICAS"
    VERIFYING = "VERIFYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Remedy(StrEnum):
    """What cures a table: taking its replicas away and back, or first a flush of every copy."""

    REPLICAS = "replicas"
    FLUSH_FIRST = "flush_first"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose process holds a ticket or a lock.

    Attributes:
        run_id: The Dagster run.
        host, pid: The process to look for when the run seems dead.
        boot_id: Tells a pid of this boot from one of the last.
    """

    run_id: str
    host: str
    pid: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class ResetTicket:
    """The promise to give a table back what it had; durable before the first change.

    Attributes:
        id: Its row in the state store; 0 before it is stored.
        cluster_id: `sys.cluster.id`.
        original_replicas: The exact text to restore, always the last word.
        threshold_bytes: The worst translog a cured replica may hold.
        owner, epoch: Who may send statements for it; a takeover raises the epoch.
        zero_sent: A SET to 0 may have been sent, whatever became of it. Written before it is sent.
        zero_acknowledged: CrateDB answered it. Sent and not acknowledged means it may land later.
        zero_confirmed: A read-back showed '0'.
        leases_verdict: How the wait ended, '' while it has not.
        zeroed_at, restored_at: When replicas were seen gone and seen back, by read-back.
        attempts: Restores that failed so far.
        next_try_at: When the sensor may try the next one; None at once.
        lease_wait_s: Seconds waited for leases.
    """

    cluster_id: str
    target: Target
    original_replicas: str
    owner: Owner
    created_at: datetime
    threshold_bytes: int
    id: int = 0
    epoch: int = 1
    state: ResetState = ResetState.DETECTED
    cause: str = "unknown"
    worst_bytes: int = 0
    zero_sent: bool = False
    zero_acknowledged: bool = False
    zero_confirmed: bool = False
    leases_verdict: str = ""
    reason: str = ""
    zeroed_at: datetime | None = None
    restored_at: datetime | None = None
    heartbeat_at: datetime | None = None
    attempts: int = 0
    next_try_at: datetime | None = None
    lease_wait_s: float = 0.0
