"""Whether the primaries of a drained table still remember the copies that were taken away."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from caretaker.translog.model import ShardCopy, TableObservation

#: `source` of the leases that follow shard copies; any other source has its own life
#: (ReplicationTracker.java:521: logical replication never lets go) and does not count.
PEER_RECOVERY = "peer recovery"


class LeaseVerdict(StrEnum):
    """What a look at the leases says."""

    CLEAR = "clear"
    WAITING = "waiting"
    PRIMARY_LOST = "primary_lost"


@dataclass(frozen=True, slots=True)
class LeaseReading:
    """A verdict, and the numbers behind it.

    Attributes:
        leases: Peer-recovery leases that primaries hold now.
        wanted: How many they should hold: one each.
        detail: What keeps it from being clear, in words; '' when clear.
    """

    verdict: LeaseVerdict
    leases: int
    wanted: int
    detail: str = ""


def read_leases(now: TableObservation | None) -> LeaseReading:
    """Judge a table whose replicas are 0.

    Clear means all of: exactly `number_of_shards` primaries, all STARTED and none relocating;
    no other rows; the peer-recovery leases of each primary are exactly its own. Comparing counts,
    as the procedure by hand did, never succeeds for four shards and succeeds at once for two.

    A lost primary shows `"primary" = false`, UNASSIGNED and NULLs (seen live on 6.4.3): with
    replicas at 0 any unassigned row is a primary that is gone, not a replica on its way.
    """
    if now is None or now.number_of_shards is None:
        return LeaseReading(LeaseVerdict.PRIMARY_LOST, 0, 0, "the table is not in the catalog")
    wanted = now.number_of_shards
    primaries = [copy for copy in now.copies if copy.primary]
    leases = sum(len(_peer_leases(primary)) for primary in primaries)

    def reading(verdict: LeaseVerdict, detail: str = "") -> LeaseReading:
        return LeaseReading(verdict, leases, wanted, detail)

    unassigned = sum(copy.routing_state == "UNASSIGNED" for copy in now.copies)
    if unassigned:
        return reading(LeaseVerdict.PRIMARY_LOST, f"{unassigned} of {wanted} primaries unassigned")
    if len(primaries) < wanted:
        missing = wanted - len(primaries)
        return reading(LeaseVerdict.PRIMARY_LOST, f"{missing} of {wanted} primaries not visible")
    if len(now.copies) > wanted:
        return reading(
            LeaseVerdict.WAITING, f"{len(now.copies) - wanted} more copies than primaries"
        )
    if not all(primary.started and primary.relocating_node is None for primary in primaries):
        return reading(LeaseVerdict.WAITING, "a primary is starting or relocating")
    if not all(_holds_only_its_own(primary) for primary in primaries):
        return reading(LeaseVerdict.WAITING, f"{leases} leases, {wanted} wanted")
    return reading(LeaseVerdict.CLEAR)


def _peer_leases(copy: ShardCopy) -> set[str]:
    return {lease.id for lease in copy.leases or () if lease.source == PEER_RECOVERY}


def _holds_only_its_own(primary: ShardCopy) -> bool:
    return _peer_leases(primary) == {f"peer_recovery/{primary.node_id}"}
