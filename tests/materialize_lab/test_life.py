"""What a replica lives through, on a clock that moves when the test says so."""

from __future__ import annotations

import psycopg
import pytest

from lab.materialize import LabMaterialize
from lab.materialize.sizes import MIB, Size


def history(lab, cluster, replica):
    """Return (seconds since the first, process, status, reason), in the order of their writing."""
    return [
        (float(at), int(process), status, reason)
        for at, process, status, reason in lab.sql(
            "SELECT extract(epoch FROM occurred_at - min(occurred_at) OVER ()), process_id, "
            "status, reason FROM mz_internal.mz_cluster_replica_status_history "
            "WHERE replica_id = %s "
            "ORDER BY occurred_at, process_id::bigint",
            (lab.replica_id(cluster, replica),),
        )
    ]


def hydration(lab, replica_id):
    return dict(
        lab.sql(
            "SELECT object_id, hydrated FROM mz_internal.mz_hydration_statuses "
            "WHERE replica_id = %s AND object_id NOT LIKE 'si%%'",
            (replica_id,),
        )
    )


def status(lab, cluster, replica):
    return lab.sql(
        "SELECT status, reason FROM mz_internal.mz_cluster_replica_statuses WHERE replica_id = %s",
        (lab.replica_id(cluster, replica),),
    )


def test_a_new_replica_is_offline_then_online_then_hydrated(still, connect):
    still.cluster("c")
    index = still.index("c", "i", hydrate_s=5)
    connect(still).execute("CREATE CLUSTER REPLICA c.r (SIZE '25cc')")
    replica = still.replica_id("c", "r")
    assert status(still, "c", "r") == [("offline", None)]
    assert hydration(still, replica) == {index: False}

    still.advance(1.9)
    assert status(still, "c", "r") == [("offline", None)]
    still.advance(0.2)
    assert status(still, "c", "r") == [("online", None)]
    assert not still.is_ready("c", "r")
    still.advance(4.8)
    assert hydration(still, replica) == {index: False}
    still.advance(0.2)
    assert hydration(still, replica) == {index: True}
    assert still.is_ready("c", "r")
    assert [row[1:] for row in history(still, "c", "r")] == [
        (0, "offline", None), (0, "online", None),
    ]  # fmt: skip
    hydrated_in = still.sql(
        "SELECT extract(epoch FROM hydration_time)::float8 FROM "
        "mz_internal.mz_compute_hydration_statuses WHERE object_id = %s",
        (index,),
    )
    assert hydrated_in == [(5.0,)]


def test_what_falls_due_on_the_way_happens_at_its_own_time(still, connect):
    still.cluster("c")
    connect(still).execute("CREATE CLUSTER REPLICA c.r (SIZE '25cc')")
    still.advance(3600)

    assert [row[0] for row in history(still, "c", "r")] == pytest.approx([0.0, 2.0])


def test_the_clock_of_a_query_is_the_labs(still, connect):
    connection = connect(still)
    before = connection.execute("SELECT now(), CURRENT_TIMESTAMP, pg_catalog.now()").fetchone()
    assert before[0] == before[1] == before[2]
    still.advance(86400)
    after = connection.execute("SELECT now()").fetchone()[0]

    assert (after - before[0]).total_seconds() == pytest.approx(86400)


def test_more_workers_hydrate_faster(still, connect):
    still.cluster("c")
    still.materialized_view("c", "v")
    connection = connect(still)
    connection.execute("CREATE CLUSTER REPLICA c.small (SIZE '25cc')")
    connection.execute("CREATE CLUSTER REPLICA c.large (SIZE '200cc')")
    still.advance(2 + 1.3)

    assert (still.is_ready("c", "small"), still.is_ready("c", "large")) == (False, True)


def test_what_hydrates_for_ever_is_never_ready(still):
    still.cluster("c", {"r": "25cc"})
    still.index("c", "stuck", hydrate_s=-1)
    still.advance(86400)

    assert not still.is_ready("c", "r")


def test_a_dropped_replica_leaves_its_hydration_behind(still, connect):
    still.cluster("c", {"r": "25cc"})
    still.index("c", "i")
    gone = still.replica_id("c", "r")
    connect(still).execute("DROP CLUSTER REPLICA c.r")

    assert len(hydration(still, gone)) == 1
    assert still.sql("SELECT 1 FROM mz_internal.mz_cluster_replica_statuses WHERE replica_id = %s",
                     (gone,)) == []  # fmt: skip
    dropped = still.sql("SELECT dropped_at IS NOT NULL, credits_per_hour FROM "
                        "mz_internal.mz_cluster_replica_history WHERE replica_id = %s",
                        (gone,))  # fmt: skip
    assert [(was, float(cost)) for was, cost in dropped] == [(True, 0.25)]

    still.crash()
    still.restart()
    assert hydration(still, gone) == {}


def test_every_replica_has_its_introspection(still):
    still.cluster("c", {"r": "25cc"})

    assert still.sql(
        "SELECT count(*), bool_and(hydrated) FROM mz_internal.mz_hydration_statuses "
        "WHERE object_id LIKE 'si%%' AND replica_id = %s",
        (still.replica_id("c", "r"),),
    ) == [(32, True)]


@pytest.mark.parametrize("kind", ["postgres", "mysql", "sql-server"])
def test_a_single_replica_source_hydrates_on_the_oldest_only(kind, still, connect):
    still.cluster("c", {"old": "25cc"})
    source = still.source("c", "s", kind)
    connect(still).execute("CREATE CLUSTER REPLICA c.new (SIZE '25cc')")
    new = still.replica_id("c", "new")
    still.advance(60)
    assert hydration(still, new) == {}
    assert still.is_ready("c", "new")

    connect(still).execute("DROP CLUSTER REPLICA c.old")
    assert hydration(still, new) == {source: False}
    still.advance(60)
    assert hydration(still, new) == {source: True}


def test_a_source_without_any_replica_has_a_row_without_one(still):
    still.cluster("c")
    source = still.source("c", "s")

    rows = still.sql("SELECT replica_id, hydrated FROM mz_internal.mz_hydration_statuses "
                     "WHERE object_id = %s", (source,))  # fmt: skip
    assert rows == [(None, None)]


def test_where_sources_need_one_replica_a_second_is_refused(still, connect):
    still.cluster("c", {"r": "25cc"})
    still.source("c", "s", "postgres")
    still.set_system(multi_replica_sources="off")

    with pytest.raises(
        psycopg.Error, match="cannot create more than one replica of a cluster"
    ) as caught:
        connect(still).execute("CREATE CLUSTER REPLICA c.x (SIZE '25cc')")
    assert caught.value.diag.message_detail == "Currently have 1 replica; command would result in 2"


def test_out_of_memory_is_seen_with_its_reason_and_ends(still):
    still.cluster("c", {"r": "25cc"})
    still.index("c", "i", hydrate_s=1)
    still.advance(10)
    still.oom("c", after_s=5, times=2)
    still.advance(5.1)
    assert status(still, "c", "r") == [("offline", "oom-killed")]
    assert not still.is_ready("c", "r")
    still.advance(60)

    assert [row[2:] for row in history(still, "c", "r")][2:] == [
        ("offline", "oom-killed"), ("online", None), ("offline", "oom-killed"), ("online", None),
    ]  # fmt: skip
    assert still.is_ready("c", "r")


def test_a_crash_loop_goes_on_until_healed(still, connect):
    still.cluster("c")
    still.oom("c", size="25cc", after_s=1, reason=None)
    connection = connect(still)
    connection.execute("CREATE CLUSTER REPLICA c.small (SIZE '25cc')")
    connection.execute("CREATE CLUSTER REPLICA c.large (SIZE '50cc')")
    still.advance(31)
    crashes = [row for row in history(still, "c", "small") if row[2] == "offline"]
    assert len(crashes) == 11
    assert {row[3] for row in crashes} == {None}
    assert [row[2] for row in history(still, "c", "large")] == ["offline", "online"]

    still.heal()
    still.advance(10)
    assert still.is_ready("c", "small")


def test_one_process_of_eight_is_killed_and_all_go_down():
    eight = Size("8x", 8, 4, 1024 * MIB, 2048 * MIB, processes=8)
    with LabMaterialize(speed=0, sizes=[eight, Size("25cc", 0.25, 1, 3881 * MIB)]) as lab:
        lab.cluster("c", {"r": "8x"})
        assert len(status(lab, "c", "r")) == 8
        lab.advance(1)
        lab.crash_replica("c", "r", process=3)

        rows = [row[1:] for row in history(lab, "c", "r")][-8:]
        assert rows == [(n, "offline", "oom-killed" if n == 3 else None) for n in range(8)]
        lab.advance(5)
        assert {row[0] for row in status(lab, "c", "r")} == {"online"}


def test_load_shows_in_metrics_minute_by_minute(still):
    still.cluster("c", {"r": "25cc"})
    replica = still.replica_id("c", "r")
    bare = still.sql("SELECT memory_percent FROM mz_internal.mz_cluster_replica_utilization "
                     "WHERE replica_id = %s", (replica,))  # fmt: skip
    assert bare == [(None,)]

    still.load("c", cpu=50, memory=80, heap=20)
    still.advance(180)

    now = still.sql("SELECT cpu_percent, memory_percent, heap_percent, disk_percent FROM "
                    "mz_internal.mz_cluster_replica_utilization WHERE replica_id = %s",
                    (replica,))  # fmt: skip
    assert now == [(50.0, 80.0, 20.0, None)]
    used = still.sql("SELECT memory_bytes FROM mz_internal.mz_cluster_replica_metrics "
                     "WHERE replica_id = %s", (replica,))  # fmt: skip
    assert int(used[0][0]) == pytest.approx(3881 * MIB * 0.8, abs=1)
    rows = still.sql("SELECT count(*) FROM mz_internal.mz_cluster_replica_utilization_history "
                     "WHERE replica_id = %s AND memory_percent = 80", (replica,))  # fmt: skip
    assert rows == [(4,)]


def test_a_graceful_resize_goes_back_when_its_time_is_over(lab, connect):
    lab.managed_cluster("c")
    lab.set_system(boot_s=1000)
    connection = connect(lab)
    with pytest.raises(psycopg.Error, match="provided timeout lapsed") as caught:
        connection.execute(
            "ALTER CLUSTER c SET (SIZE '50cc') "
            "WITH (WAIT UNTIL READY (TIMEOUT '200ms', ON TIMEOUT ROLLBACK))"
        )
    assert caught.value.diag.sqlstate == "57014"
    assert lab.replicas("c") == {"r1": "25cc"}

    connection.execute("ALTER CLUSTER c SET (SIZE '50cc') "
                       "WITH (WAIT UNTIL READY (TIMEOUT '200ms', ON TIMEOUT COMMIT))")  # fmt: skip
    assert lab.replicas("c") == {"r1": "50cc"}


def test_while_one_resize_waits_another_change_is_refused(lab, connect, eventually):
    lab.managed_cluster("c")
    lab.set_system(boot_s=1000)
    waiting = connect(lab)
    waiting.pgconn.send_query(
        b"ALTER CLUSTER c SET (SIZE '50cc') WITH (WAIT UNTIL READY (TIMEOUT '10m'))"
    )
    eventually(lambda: "r1-pending" in lab.replicas("c"))

    pending = (
        connect(lab).execute("SELECT id FROM mz_internal.mz_pending_cluster_replicas").fetchall()
    )
    assert pending == [(lab.replica_id("c", "r1-pending"),)]
    with pytest.raises(psycopg.Error, match="pending") as caught:
        connect(lab).execute("ALTER CLUSTER c SET (REPLICATION FACTOR 2)")
    assert caught.value.diag.sqlstate == "55006"
    waiting.cancel_safe()
    eventually(lambda: "r1-pending" not in lab.replicas("c"))


def test_credits_are_a_limit_too(still, connect):
    still.cluster("c")
    still.set_system(max_credit_consumption_rate=1)

    with pytest.raises(psycopg.Error, match="max_credit_consumption_rate") as caught:
        connect(still).execute("CREATE CLUSTER REPLICA c.x (SIZE '100cc')")
    assert caught.value.diag.message_primary == (
        "creating cluster replica would violate max_credit_consumption_rate limit "
        "(desired: 1.25, limit: 1, current: 0.25)"
    )
    assert caught.value.diag.message_hint == (
        "Drop an existing cluster replica or contact support to request a limit increase."
    )


def test_sizes_that_are_listed_may_still_not_be_allowed(still, connect):
    still.cluster("c")
    still.set_system(allowed_sizes="25cc,50cc")

    with pytest.raises(psycopg.Error, match="unknown cluster replica size 100cc") as caught:
        connect(still).execute("CREATE CLUSTER REPLICA c.x (SIZE '100cc')")
    assert caught.value.diag.message_hint == "Valid cluster replica sizes are: 25cc, 50cc"
    assert "100cc" in {
        row[0] for row in connect(still).execute("SELECT size FROM mz_cluster_replica_sizes")
    }


def test_a_schedule_is_shown_and_its_factor_is_not_ours(still, connect):
    connection = connect(still)
    connection.execute(
        "CREATE CLUSTER s (SIZE = '25cc', "
        "SCHEDULE = ON REFRESH (HYDRATION TIME ESTIMATE = '1 hour'))"
    )

    row = connection.execute(
        "SELECT s.type, s.refresh_hydration_time_estimate::text, c.replication_factor::bigint "
        "FROM mz_internal.mz_cluster_schedules s JOIN mz_clusters c ON c.id = s.cluster_id "
        "WHERE c.name = 's'"
    )
    assert row.fetchone() == ("on-refresh", "01:00:00", 0)
    with pytest.raises(psycopg.Error, match="together with any SCHEDULE other than MANUAL"):
        connection.execute("ALTER CLUSTER s SET (REPLICATION FACTOR 1)")


def test_what_was_done_is_in_the_audit(still, connect):
    connection = connect(still)
    connection.execute("CREATE CLUSTER c REPLICAS (r (SIZE '25cc'))")
    connection.execute("DROP CLUSTER c")

    rows = connection.execute(
        "SELECT event_type, object_type, details ->> 'name', details ->> 'replica_name', \"user\" "
        "FROM mz_catalog.mz_audit_events ORDER BY id"
    ).fetchall()
    assert rows == [
        ("create", "cluster", "c", None, "materialize"),
        ("create", "cluster-replica", None, "r", "materialize"),
        ("drop", "cluster-replica", None, "r", "materialize"),
        ("drop", "cluster", "c", None, "materialize"),
    ]


def test_a_relation_that_a_version_lacks_is_lacking(still, connect):
    still.drop_relation("mz_internal.mz_hydration_statuses")
    connection = connect(still)
    with pytest.raises(psycopg.Error, match="does not exist"):
        connection.execute("SELECT * FROM mz_internal.mz_hydration_statuses")
    still.restore_relation("mz_internal.mz_hydration_statuses")

    assert connection.execute(
        "SELECT count(*) > 0 FROM mz_internal.mz_hydration_statuses"
    ).fetchone() == (True,)
