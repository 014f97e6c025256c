"""The things the lab's cluster consists of: nodes, relations, shards and their copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: Bytes an empty translog has: what a copy shows after a flush or a fresh recovery.
EMPTY_TRANSLOG = 55
_MB = 1024 * 1024

UNASSIGNED, INITIALIZING = "UNASSIGNED", "INITIALIZING"
STARTED, RELOCATING = "STARTED", "RELOCATING"


@dataclass(slots=True)
class Node:
    """A node: `alive` is its process, `member` is what the master believes."""

    id: str
    name: str
    number: int
    port: int = 0
    alive: bool = True
    member: bool = True
    draining: bool = False
    serving: bool = True
    #: Where it runs, as sys.nodes has it; its own name where nobody says otherwise.
    hostname: str = ""
    disk_size: int = 1024 * 1024 * _MB
    disk_used: int = 200 * 1024 * _MB
    version: str | None = None


@dataclass(slots=True)
class Lease:
    """A retention lease on a shard."""

    id: str
    source: str
    retaining_seq_no: int
    timestamp: int

    def shown(self) -> dict[str, Any]:
        """Return it as sys.shards shows it."""
        return {
            "id": self.id,
            "source": self.source,
            "retaining_seq_no": self.retaining_seq_no,
            "timestamp": self.timestamp,
        }


@dataclass(slots=True)
class Copy:
    """One copy of a shard: `node` is None while it is UNASSIGNED."""

    primary: bool
    node: str | None
    state: str
    uncommitted: int = EMPTY_TRANSLOG
    #: True: its local checkpoint is stuck behind a hole; a flush is a no-op, only rebuilding cures.
    gap: bool = False
    #: True: a lease sync does not flush it as it would another primary (the OBJECT(IGNORED) bug).
    stubborn: bool = False
    relocating_to: str | None = None
    #: Lab time before which it is not allocated (a node that left may come back).
    delayed_until: float = 0.0
    #: Lab time at which its recovery or relocation is through.
    ready_at: float = 0.0

    @property
    def active(self) -> bool:
        """Return whether it serves: RELOCATING does until the move is through."""
        return self.state in {STARTED, RELOCATING}


@dataclass(slots=True)
class Shard:
    """One shard with its copies; `lost_on` is the node that has the only data while it is lost."""

    number: int
    copies: list[Copy]
    leases: dict[str, Lease] = field(default_factory=dict)
    lease_version: int = 1
    term: int = 1
    docs: int = 0
    lost_on: str | None = None
    #: Nodes whose copy was removed but not forgotten: a restart of that node revives none of it.
    stuck: bool = False

    @property
    def primary(self) -> Copy | None:
        """Return the primary that is assigned, if one is."""
        for copy in self.copies:
            if copy.primary and copy.node is not None:
                return copy
        return None

    @property
    def replicas(self) -> list[Copy]:
        """Return the copies beside the primary, assigned or not."""
        return [copy for copy in self.copies if not copy.primary]

    def on(self, node: str) -> Copy | None:
        """Return the copy that `node` holds, if any."""
        for copy in self.copies:
            if copy.node == node:
                return copy
        return None

    @property
    def all_started(self) -> bool:
        """Return whether every copy is STARTED; RELOCATING is not (IndexShardRoutingTable)."""
        return all(copy.state == STARTED for copy in self.copies)


@dataclass(slots=True)
class Relation:
    """What has shards and a number_of_replicas: a whole table, or one partition of one."""

    schema: str
    table: str
    ident: str
    replicas: str
    shards: list[Shard]
    values: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    closed: bool = False
    leases_stuck: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Return (schema, table, ident)."""
        return (self.schema, self.table, self.ident)

    @property
    def name(self) -> str:
        """Return `schema.table`, with `.ident` behind it for a partition."""
        plain = f"{self.schema}.{self.table}"
        return f"{plain}.{self.ident}" if self.ident else plain

    def copies(self) -> Iterator[tuple[Shard, Copy]]:
        """Yield every copy with its shard."""
        for shard in self.shards:
            for copy in shard.copies:
                yield shard, copy


@dataclass(slots=True)
class Column:
    """A column of a table, with CrateDB's name of its type."""

    name: str
    type: str


@dataclass(slots=True)
class Table:
    """A table: its columns, and either one relation of its own or one per partition."""

    schema: str
    name: str
    number_of_shards: int
    replicas: str
    columns: list[Column] = field(default_factory=list)
    partitioned_by: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    relations: dict[str, Relation] = field(default_factory=dict)
    closed: bool = False

    @property
    def full_name(self) -> str:
        """Return `schema.table`."""
        return f"{self.schema}.{self.name}"

    def column_type(self, name: str) -> str:
        """Return the type of a column or sub-column (`o['a']`); text where it was not declared."""
        for column in self.columns:
            if column.name == name:
                return column.type
        return "text"
