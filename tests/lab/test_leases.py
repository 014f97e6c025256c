"""Retention leases and translogs follow what was seen on a live cluster."""

from __future__ import annotations

import pytest

from lab.cratedb.handles import PRIMARY_TOO, SEQ_NO_GAP

MB = 1024 * 1024
EMPTY = 55
NUDGE = "OPTIMIZE TABLE doc.metrics WITH (max_num_segments = 100000, flush = true)"
ZERO = "ALTER TABLE doc.metrics SET (number_of_replicas = 0)"


def leases(table):
    """Return the number of leases every primary shows."""
    return [len(row["retention_leases"]["leases"]) for row in table.shards if row["primary"]]


def uncommitted(table, *, primary):
    return [
        row["translog_stats"]["uncommitted_size"]
        for row in table.shards
        if row["primary"] is primary and row["routing_state"] == "STARTED"
    ]


def test_every_copy_shows_a_lease_per_copy(still):
    table = still.table("doc.metrics", shards=4, replicas="1")
    assert [len(row["retention_leases"]["leases"]) for row in table.shards] == [2] * 8


def test_removed_replicas_are_gone_at_once_but_their_leases_stay_until_the_tick(still):
    table = still.table("doc.metrics", shards=4, replicas="0-1")
    still.advance(11)
    still.sql(ZERO)
    assert [row["primary"] for row in table.shards] == [True] * 4
    still.advance(18)
    assert leases(table) == [2, 2, 2, 2]
    still.advance(1.1)
    assert leases(table) == [1, 1, 1, 1]


def test_optimize_clears_the_leases_at_once(still):
    table = still.table("doc.metrics", shards=2, replicas="1")
    still.sql(ZERO)
    assert leases(table) == [2, 2]
    still.sql(NUDGE)
    assert leases(table) == [1, 1]


def test_a_lease_stays_while_a_copy_of_its_shard_is_not_started(still):
    table = still.table("doc.metrics", shards=2, replicas="1")
    node = next(row["node"]["name"] for row in table.shards if not row["primary"])
    still.crash(node)
    still.advance(45)
    assert max(leases(table)) == 2
    still.sql(ZERO)
    still.advance(31)
    assert leases(table) == [1, 1]


def test_stuck_leases_never_clear(still):
    table = still.table("doc.metrics", replicas="1", leases_stuck=True)
    still.sql(ZERO)
    still.sql(NUDGE)
    still.advance(3600)
    assert min(leases(table)) == 2
    table.leases_stuck = False
    still.advance(30)
    assert max(leases(table)) == 1


def test_leases_of_a_subscription_never_clear(still):
    table = still.table("doc.metrics", shards=1, replicas="1", logical_lease=True)
    still.sql(ZERO)
    still.advance(60)
    sources = {
        lease["source"] for row in table.shards for lease in row["retention_leases"]["leases"]
    }
    assert sources == {"peer recovery", "logical_replication:sub1"}


def test_a_rebuilt_replica_has_an_empty_translog(still):
    table = still.table("doc.metrics", shards=4, replicas="0-1", sick_mb=1200)
    assert uncommitted(table, primary=False) == [1200 * MB] * 4
    still.sql(ZERO)
    still.sql("ALTER TABLE doc.metrics SET (number_of_replicas = ?)", ["0-1"])
    assert {row["routing_state"] for row in table.shards if not row["primary"]} == {"UNASSIGNED"}
    still.advance(0.5)
    assert {row["routing_state"] for row in table.shards if not row["primary"]} == {"INITIALIZING"}
    still.advance(0.6)
    assert uncommitted(table, primary=False) == [EMPTY] * 4


def test_a_flush_cures_a_lagging_safe_commit(still):
    table = still.table("doc.metrics", replicas="1", sick_mb=1200)
    still.sql(NUDGE)
    assert table.worst_mb * MB == EMPTY


def test_a_flush_does_nothing_for_a_sequence_number_gap(still):
    table = still.table("doc.metrics", shards=2, replicas="1", sick_mb=1200, cause=SEQ_NO_GAP)
    still.sql(NUDGE)
    assert uncommitted(table, primary=False) == [1200 * MB] * 2
    gaps = [r["seq_no_stats"] for r in table.shards if not r["primary"]]
    assert all(g["local_checkpoint"] < g["max_seq_no"] for g in gaps)
    still.sql(ZERO)
    still.sql("ALTER TABLE doc.metrics SET (number_of_replicas = '1')")
    still.advance(2)
    assert uncommitted(table, primary=False) == [EMPTY] * 2


def test_a_reset_alone_leaves_a_large_primary_large_and_a_flush_cures_it(still):
    table = still.table("doc.metrics", shards=2, replicas="1", sick_mb=1200, cause=PRIMARY_TOO)
    still.sql(ZERO)
    still.advance(31)
    still.sql("ALTER TABLE doc.metrics SET (number_of_replicas = '1')")
    still.advance(2)
    assert uncommitted(table, primary=True) == [1200 * MB] * 2
    still.sql(NUDGE)
    assert uncommitted(table, primary=True) == [EMPTY] * 2


def test_cancelling_a_replica_rebuilds_that_one_copy(still):
    table = still.table("doc.metrics", shards=2, replicas="1", sick_mb=1200)
    row = next(r for r in table.shards if r["id"] == 0 and not r["primary"])
    answer = still.sql(
        "ALTER TABLE doc.metrics REROUTE CANCEL SHARD 0 ON ? WITH (allow_primary = false)",
        [row["node"]["name"]],
    )
    assert answer["rowcount"] == 1
    still.advance(2)
    assert sorted(uncommitted(table, primary=False)) == [EMPTY, 1200 * MB]


def test_a_write_to_a_sick_shard_flushes_it(still):
    still.sql(
        "CREATE TABLE doc.sick (id INT, t TEXT) CLUSTERED INTO 1 SHARDS "
        "WITH (\"translog.flush_threshold_size\" = '2gb')"
    )
    still.sql("INSERT INTO doc.sick VALUES (1, ?)", ["x" * 7_000_000])
    still.sql("ALTER TABLE doc.sick SET (\"translog.flush_threshold_size\" = '5mb')")
    table = still.table("doc.sick")
    assert min(uncommitted(table, primary=False)) > 6 * MB
    still.sql("INSERT INTO doc.sick VALUES (2, 'y')")
    assert table.worst_mb * MB == EMPTY


@pytest.mark.parametrize("scope", ["cluster", "table"])
def test_replicas_do_not_come_back_while_allocation_is_restricted(still, scope):
    table = still.table("doc.metrics", shards=2, replicas="1")
    if scope == "cluster":
        still.sql("SET GLOBAL \"cluster.routing.allocation.enable\" = 'primaries'")
    else:
        still.sql("ALTER TABLE doc.metrics SET (\"routing.allocation.enable\" = 'none')")
    still.sql(ZERO)
    still.sql("ALTER TABLE doc.metrics SET (number_of_replicas = '1')")
    still.advance(120)
    assert len(uncommitted(table, primary=False)) == 0
    if scope == "cluster":
        still.sql('RESET GLOBAL "cluster.routing.allocation.enable"')
    else:
        still.sql('ALTER TABLE doc.metrics RESET ("routing.allocation.enable")')
    still.advance(2)
    assert len(uncommitted(table, primary=False)) == 2
