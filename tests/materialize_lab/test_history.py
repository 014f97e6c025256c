"""Who asked what, where and how it ended: the statement history, on and off."""

from __future__ import annotations

import contextlib
import threading

import psycopg
import pytest

from lab.materialize import LabMaterialize

HISTORY = "mz_internal.mz_statement_execution_history"


def seen(lab, application):
    wanted = "application_name = %s AND execution_strategy IS NOT NULL ORDER BY began_at"
    shown = "cluster_name, finished_status, execution_strategy, finished_at IS NULL"
    sql = f"SELECT {shown} FROM {HISTORY} WHERE {wanted}"  # noqa: S608 - ours
    return lab.sql(sql, (application,))


def test_a_query_is_written_down_with_where_it_ran_and_how_it_ended(lab, connect):
    lab.cluster("c", {"r": "25cc"})
    connection = connect(lab, application_name="dashboard")
    connection.execute("SET cluster = c")
    connection.execute("CREATE TABLE t (n int)")
    connection.execute("SELECT n FROM t")
    connection.execute("SELECT %s::int", (1,))
    connection.execute("SELECT name FROM mz_clusters")
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1 / n FROM (VALUES (0)) v (n)")

    assert seen(lab, "dashboard") == [
        ("c", "success", "standard", False),
        ("c", "success", "constant", False),
        ("mz_catalog_server", "success", "standard", False),
        ("c", "error", "constant", False),
    ]
    rows = lab.sql(f"SELECT rows_returned FROM {HISTORY} WHERE application_name = 'dashboard' "  # noqa: S608
                   "AND cluster_name = 'mz_catalog_server'")  # fmt: skip
    assert rows == [(7,)]


def test_the_failed_query_of_a_suspended_cluster_is_what_wakes_it(lab, connect):
    lab.cluster("c")
    connection = connect(lab, application_name="dashboard")
    connection.execute("SET cluster = c")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("SELECT %s::int", (1,))

    assert seen(lab, "dashboard") == [("c", "error", "constant", False)]


def test_a_running_query_has_no_end_and_a_cancelled_one_is_cancelled(lab, connect, eventually):
    connection = connect(lab, application_name="dashboard")

    def ask() -> None:
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            connection.execute("SELECT count(*) FROM generate_series(1, 2000000000) x")

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: seen(lab, "dashboard"))
    assert seen(lab, "dashboard") == [("quickstart", None, "constant", True)]

    def cancelled() -> bool:
        # It is in the history a moment before it runs, and a cancel may come in between.
        connection.cancel_safe()
        thread.join(0.2)
        return not thread.is_alive()

    eventually(cancelled)

    assert seen(lab, "dashboard") == [("quickstart", "canceled", "constant", False)]


def test_with_logging_off_nothing_is_written(connect):
    with LabMaterialize(statement_logging=False) as lab:
        connection = connect(lab, application_name="dashboard")
        connection.execute("SELECT 1")
        assert seen(lab, "dashboard") == []
        lab.statement_logging = True
        connection.execute("SELECT 1")
        assert len(seen(lab, "dashboard")) == 1


@pytest.mark.parametrize(
    ("roles", "full", "redacted"),
    [((), False, False), (("mz_monitor_redacted",), False, True), (("mz_monitor",), True, True)],
)
def test_only_monitors_may_look(roles, full, redacted, lab, connect):
    lab.create_user("reader", *roles)
    connection = connect(lab.url_for("reader"))
    for relation, allowed in ((HISTORY, full), (f"{HISTORY}_redacted", redacted)):
        sql = f"SELECT count(*) FROM {relation}"  # noqa: S608
        if allowed:
            assert connection.execute(sql).fetchone() is not None
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql)
    assert connection.execute("SELECT count(*) FROM mz_internal.mz_subscriptions").fetchone() == (
        0,
    )


def test_activity_of_others_can_be_arranged(still, connect):
    still.cluster("c", {"r": "25cc"})
    still.statement_ran("c", seconds_ago=3600)
    still.statement_ran("c", running=True, application="report")
    subscription = still.subscribe("c")
    rows = connect(still).execute(
        f"SELECT application_name, extract(epoch FROM now() - began_at)::int, finished_at IS NULL "  # noqa: S608
        f"FROM {HISTORY} WHERE cluster_name = 'c' ORDER BY began_at"
    )
    assert rows.fetchall() == [("dashboard", 3600, False), ("report", 0, True)]
    live = connect(still).execute("SELECT id, cluster_id FROM mz_internal.mz_subscriptions")
    assert live.fetchall() == [(subscription, still.cluster_id("c"))]
    still.unsubscribe(subscription)
    assert still.sql("SELECT 1 FROM mz_internal.mz_subscriptions") == []


def test_a_replicas_own_logs_are_read_from_that_replica(lab, connect):
    lab.cluster("c", {"a": "25cc", "b": "25cc"})
    connection = connect(lab)
    connection.execute("SET cluster = c")
    sql = "SELECT count(*) FROM mz_introspection.mz_active_peeks"
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="must target a replica"):
        connection.execute(sql)
    connection.execute("SET cluster_replica = nosuch")
    with pytest.raises(psycopg.errors.UndefinedObject, match=r"'c\.nosuch' does not exist"):
        connection.execute(sql)
    connection.execute("SET cluster_replica = a")
    assert connection.execute(sql).fetchone() == (0,)
