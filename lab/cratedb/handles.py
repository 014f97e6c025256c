"""What a test holds in its hand: one table (or partition), read and made sick at will."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.cratedb import allocation, partitions, rows, tables
from lab.cratedb.model import EMPTY_TRANSLOG, UNASSIGNED, Lease, Relation, Table

if TYPE_CHECKING:
    from lab.cratedb.world import World

MB = 1024 * 1024
SAFE_COMMIT_LAG, SEQ_NO_GAP, PRIMARY_TOO = "safe_commit_lag", "seq_no_gap", "primary_too"


class Handle:
    """A table or one partition of it, as it is now."""

    def __init__(self, world: World, key: tuple[str, str], ident: str | None = None) -> None:
        """Name the table; `ident` narrows it to one partition."""
        self._world = world
        self._key = key
        self._ident = ident

    @property
    def _table(self) -> Table:
        return self._world.tables[self._key]

    @property
    def _relations(self) -> list[Relation]:
        table = self._table
        if self._ident is not None:
            return [table.relations[self._ident]]
        return list(table.relations.values())

    @property
    def name(self) -> str:
        """Return `schema.table`, and `.ident` for a partition: as `at_zero` has it."""
        plain = ".".join(self._key)
        return f"{plain}.{self._ident}" if self._ident else plain

    @property
    def exists(self) -> bool:
        """Return whether the table has not been dropped."""
        return self._key in self._world.tables

    @property
    def number_of_replicas(self) -> str:
        """Return the text that information_schema shows now."""
        with self._world.lock:
            self._world.advance()
            table = self._table
            if self._ident is None and table.partitioned_by:
                return table.replicas
            return self._relations[0].replicas

    def partition(self, values: Mapping[str, Any]) -> Handle:
        """Return the partition with these values; keys as in table_partitions.values."""
        table = self._table
        cast = {name: partitions.cast(values.get(name), table.column_type(name))
                for name in table.partitioned_by}  # fmt: skip
        ident = partitions.ident_of(table, cast)
        if ident not in table.relations:
            message = f"{table.full_name} has no partition {dict(values)}"
            raise KeyError(message)
        return Handle(self._world, self._key, ident)

    @property
    def idents(self) -> list[str]:
        """Return the idents of all partitions."""
        return list(self._table.relations)

    @property
    def leases_stuck(self) -> bool:
        """Return whether leases never fall, whatever ticks or is optimized."""
        return all(relation.leases_stuck for relation in self._relations)

    @leases_stuck.setter
    def leases_stuck(self, value: bool) -> None:
        with self._world.lock:
            for relation in self._relations:
                relation.leases_stuck = value
                self._world.lease_work.add(relation.key)

    @property
    def shards(self) -> list[dict[str, Any]]:
        """Return the rows of sys.shards, by id and primary last, as they are now."""
        with self._world.lock:
            self._world.advance()
            wanted = {relation.ident for relation in self._relations}
            found = [
                row for row in rows.shards(self._world, self._table)
                if row.get("partition_ident", "") in wanted or "partition_ident" not in row
            ]  # fmt: skip
        return sorted(found, key=lambda row: (row["id"], row["primary"]))

    @property
    def worst_mb(self) -> float:
        """Return the largest uncommitted translog of any copy."""
        return max(
            (copy.uncommitted for r in self._relations for _, copy in r.copies()), default=0
        ) / MB  # fmt: skip

    def make_sick(
        self, mb: float, *, cause: str = SAFE_COMMIT_LAG, primary_mb: float | None = None
    ) -> None:
        """Give every replica an uncommitted translog of `mb` MiB, for one of three causes.

        `safe_commit_lag` a flush cures; `seq_no_gap` only rebuilding the copy does;
        `primary_too` the primary is as large, and a reset alone leaves it so.
        """
        with self._world.lock:
            for relation in self._relations:
                for _, copy in relation.copies():
                    if copy.node is None:
                        continue
                    if copy.primary:
                        size = primary_mb if primary_mb is not None else (
                            mb if cause == PRIMARY_TOO else 0
                        )  # fmt: skip
                        copy.stubborn = cause == PRIMARY_TOO
                    else:
                        size = mb
                        copy.gap = cause == SEQ_NO_GAP
                    copy.uncommitted = max(EMPTY_TRANSLOG, int(size * MB))
            self._world.touch(*self._key)

    def add_logical_lease(self, name: str = "sub1") -> None:
        """Give every primary the lease of a subscription; it never goes."""
        with self._world.lock:
            for relation in self._relations:
                for shard in relation.shards:
                    source = f"logical_replication:{name}"
                    shard.leases[source] = Lease(source, source, shard.docs, self._world.time_ms)
                    shard.lease_version += 1
            self._world.touch(*self._key)

    def lose_primary(self, shard: int = 0) -> None:
        """Lose the primary of one shard and all its copies: UNASSIGNED, primary = false, NULLs."""
        with self._world.lock:
            for relation in self._relations:
                lost = relation.shards[shard]
                for copy in lost.copies:
                    copy.node, copy.state, copy.relocating_to = None, UNASSIGNED, None
                lost.lost_on = None
                allocation.settle(self._world, relation)

    def find_primary(self, shard: int = 0) -> None:
        """Bring a primary back that was lost with `lose_primary`."""
        with self._world.lock:
            for relation in self._relations:
                relation.shards[shard].lost_on = self._world.members[0].id
                allocation.settle(self._world, relation)

    def add_partition(self, values: Mapping[str, Any]) -> Handle:
        """Add a partition, as an insert of such a row would."""
        with self._world.lock:
            table = self._table
            cast = {name: partitions.cast(values.get(name), table.column_type(name))
                    for name in table.partitioned_by}  # fmt: skip
            ident = partitions.ident_of(table, cast)
            tables.add_relation(self._world, table, ident, cast)
            self._world.touch(*self._key)
        return Handle(self._world, self._key, ident)

    def set_replicas(self, text: str) -> None:
        """Change number_of_replicas behind everybody's back."""
        with self._world.lock:
            for relation in self._relations:
                before, relation.replicas = relation.replicas, text
                self._world.replicas_changed(relation, before)
                allocation.settle(self._world, relation)
            if self._ident is None:
                self._table.replicas = text

    def drop(self) -> None:
        """Drop the table, or delete the one partition."""
        with self._world.lock:
            if self._ident is None:
                tables.remove_table(self._world, self._table)
                return
            self._table.relations.pop(self._ident)
            self._world.touch(*self._key)
