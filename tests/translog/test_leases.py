"""When the primaries have forgotten the copies that were taken away, and when a primary is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.translog.leases import LeaseVerdict, read_leases
from caretaker.translog.model import Lease, ShardCopy
from tests.translog.observed import lost, own_lease, primary, replica, table

CLEAR, WAITING, LOST = LeaseVerdict.CLEAR, LeaseVerdict.WAITING, LeaseVerdict.PRIMARY_LOST


def drained(*copies: ShardCopy, shards: int | None = None):
    return table(
        *copies, number_of_replicas="0", number_of_shards=len(copies) if shards is None else shards
    )


def verdict(*copies: ShardCopy, shards: int | None = None) -> LeaseVerdict:
    return read_leases(drained(*copies, shards=shards)).verdict


def both(node: str, other: str) -> tuple[Lease, ...]:
    return (own_lease(node), own_lease(other))


def seed_says_clear(copies) -> bool:
    """The procedure by hand: the largest number of leases equals the number of primaries."""
    return max(len(copy.leases) for copy in copies) == len(copies)


def test_four_primaries_with_their_own_lease_each_are_clear():
    """Where the seed's comparison never would be: the maximum is 1 and the primaries are 4."""
    copies = [primary(n, f"n{n}") for n in range(4)]
    reading = read_leases(drained(*copies))
    assert (reading.verdict, reading.leases, reading.wanted) == (CLEAR, 4, 4)
    assert not seed_says_clear(copies)


def test_two_primaries_that_remember_their_copies_are_not_clear():
    """Where the seed's comparison is at once: the maximum is 2 and so are the primaries."""
    copies = [primary(0, "n1", leases=both("n1", "n2")), primary(1, "n2", leases=both("n2", "n1"))]
    reading = read_leases(drained(*copies))
    assert (reading.verdict, reading.leases, reading.wanted) == (WAITING, 4, 2)
    assert reading.detail == "4 leases, 2 wanted"
    assert seed_says_clear(copies)


def test_one_primary_that_remembers_keeps_all_waiting():
    rest = [primary(n) for n in (1, 2, 3)]
    assert verdict(primary(0, "n1", leases=both("n1", "n2")), *rest) is WAITING


@pytest.mark.parametrize("leases", [(own_lease("n2"),), (), None])
def test_a_lease_that_is_not_its_own_is_not_the_one_it_should_hold(leases):
    """One lease each, as counts would have it, and still somebody else's."""
    assert verdict(primary(0, "n1", leases=leases)) is WAITING


def test_a_subscription_neither_counts_nor_clears():
    foreign = Lease("logical_replication:sub1", "logical_replication:sub1")
    reading = read_leases(drained(primary(leases=(own_lease("n1"), foreign))))
    assert (reading.verdict, reading.leases) == (CLEAR, 1)


def test_a_subscription_does_not_stand_in_for_the_own_lease():
    foreign = Lease("peer_recovery/n1", "logical_replication:sub1")
    assert verdict(primary(leases=(foreign,))) is WAITING


def test_an_unassigned_row_is_a_lost_primary():
    """With replicas at 0 there is no other copy it could be."""
    reading = read_leases(drained(primary(0), lost(1), shards=2))
    assert (reading.verdict, reading.detail) == (LOST, "1 of 2 primaries unassigned")


def test_a_row_that_is_missing_is_a_lost_primary():
    reading = read_leases(drained(primary(0), primary(1), shards=3))
    assert (reading.verdict, reading.detail) == (LOST, "1 of 3 primaries not visible")


def test_no_rows_at_all_are_not_a_clear_table():
    assert verdict(shards=4) is LOST


@pytest.mark.parametrize("now", [None, table(primary(), number_of_shards=None)])
def test_a_table_that_is_not_in_the_catalog_is_not_clear(now):
    assert read_leases(now).verdict is LOST


def test_a_replica_that_is_still_there_is_waited_for():
    assert verdict(primary(0), replica(0), shards=1) is WAITING


@pytest.mark.parametrize(
    "changes",
    [
        {"routing_state": "INITIALIZING"},
        {"routing_state": "RELOCATING"},
        {"routing_state": "RELOCATING", "relocating_node": "n2"},
        {"relocating_node": "n2"},
    ],
)
def test_a_primary_on_the_move_is_waited_for(changes):
    assert verdict(primary(0), primary(1, **changes)) is WAITING


leases = st.lists(
    st.builds(
        Lease,
        st.sampled_from([f"peer_recovery/n{n}" for n in range(3)]),
        st.sampled_from(["peer recovery", "logical_replication:s"]),
    ),
    max_size=3,
).map(tuple)
rows = st.builds(
    ShardCopy,
    shard_id=st.integers(0, 2),
    primary=st.sampled_from([True, True, True, False]),
    routing_state=st.sampled_from(["STARTED"] * 5 + ["INITIALIZING", "RELOCATING", "UNASSIGNED"]),
    node_id=st.sampled_from(["n0", "n1", "n2"]),
    relocating_node=st.sampled_from([None, None, None, "n1"]),
    leases=leases,
)


@given(st.lists(rows, max_size=4), st.integers(1, 4))
def test_clear_means_every_shard_is_served_and_remembers_only_itself(drawn, shards):
    """Whatever else sys.shards may show: what the specification demands, spelled out."""
    demanded = len(drawn) == shards and all(
        row.primary
        and row.routing_state == "STARTED"
        and row.relocating_node is None
        and {lease.id for lease in row.leases if lease.source == "peer recovery"}
        == {f"peer_recovery/{row.node_id}"}
        for row in drawn
    )
    assert (verdict(*drawn, shards=shards) is CLEAR) == demanded


@given(st.integers(1, 6))
def test_any_number_of_shards_clears(count):
    copies = [primary(n, f"n{n % 3}") for n in range(count)]
    assert verdict(*copies) is CLEAR
    assert verdict(*copies[1:], replace(copies[0], leases=both("n0", "x"))) is WAITING
