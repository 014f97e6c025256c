"""What may stand together between BEGIN and COMMIT, and what may not."""

from __future__ import annotations

import psycopg
import pytest


@pytest.fixture
def connection(lab, connect):
    made = connect(lab)
    made.execute("CREATE TABLE t (n int)")
    made.execute("INSERT INTO t VALUES (1)")
    return made


def refused(connection, *statements):
    """Run all but the last between BEGIN and ROLLBACK; return how the last is refused."""
    connection.execute("BEGIN")
    try:
        for sql in statements[:-1]:
            connection.execute(sql)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statements[-1])
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
    finally:
        connection.execute("ROLLBACK")
    return caught.value.diag.sqlstate, caught.value.diag.message_primary


def test_reads_and_writes_do_not_mix(connection):
    assert refused(connection, "SELECT n FROM t", "INSERT INTO t VALUES (2)") == (
        "25006", "transaction in read-only mode",
    )  # fmt: skip
    assert refused(connection, "INSERT INTO t VALUES (2)", "SELECT n FROM t") == (
        "25000", "transaction in write-only mode",
    )  # fmt: skip


def test_several_inserts_are_one_transaction(connection):
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (2)")
        connection.execute("INSERT INTO t VALUES (%s)", (3,))
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (3,)


@pytest.mark.parametrize(
    "sql", ["DELETE FROM t", "UPDATE t SET n = 2", "INSERT INTO t SELECT n FROM t"]
)
def test_what_reads_to_write_stands_alone(sql, connection):
    code, message = refused(connection, sql)

    assert (code, message) == ("25001", f"{sql} cannot be run inside a transaction block")


def test_a_transaction_that_began_with_the_catalog_cannot_go_on_with_tables(connection):
    code, message = refused(connection, "SELECT name FROM mz_clusters", "SELECT n FROM t")

    assert (code, message.split(".")[0]) == (
        "25000", "Transactions can only reference objects in the same timedomain",
    )  # fmt: skip


def test_the_cluster_is_not_changed_under_a_transaction(connection):
    assert refused(connection, "SELECT n FROM t", "SET cluster = x") == (
        "25001", "SET cluster cannot be called in an active transaction",
    )  # fmt: skip


def test_a_change_after_a_read_is_refused(connection):
    code, _ = refused(connection, "SELECT n FROM t", "CREATE CLUSTER x SIZE '25cc'")

    assert code == "25006"


def test_statements_of_one_message_stand_or_fall_together(connection):
    with pytest.raises(psycopg.Error, match="division by zero"):
        connection.execute("INSERT INTO t VALUES (5); INSERT INTO t VALUES (1 / 0)")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)

    connection.execute("INSERT INTO t VALUES (5); INSERT INTO t VALUES (6)")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (3,)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_one_message_may_hold_a_whole_transaction(connection):
    connection.execute("BEGIN; INSERT INTO t VALUES (7); COMMIT; INSERT INTO t VALUES (8)")

    assert connection.execute("SELECT count(*) FROM t").fetchone() == (3,)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_there_are_no_savepoints(connection):
    with (
        pytest.raises(psycopg.errors.SyntaxError, match='found identifier "savepoint"'),
        connection.transaction(),
        connection.transaction(),
    ):
        pass


def test_keys_are_read_and_not_kept(connection):
    connection.execute("CREATE TABLE keyed (k text PRIMARY KEY, n int UNIQUE)")
    for _ in range(2):
        connection.execute("INSERT INTO keyed VALUES ('a', 1)")

    assert connection.execute("SELECT count(*) FROM keyed").fetchone() == (2,)


def test_a_suspended_cluster_takes_inserts_and_nothing_that_reads(lab, connection):
    lab.cluster("empty")
    connection.execute("SET cluster = empty")
    connection.execute("INSERT INTO t VALUES (9)")
    for sql in ("SELECT n FROM t", "DELETE FROM t", "UPDATE t SET n = 1",
                "INSERT INTO t SELECT n FROM t"):  # fmt: skip
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='CLUSTER "empty" has no'):
            connection.execute(sql)


def test_ddl_through_a_prepared_statement_waits_for_commit_too(lab, connect):
    lab.cluster("c")
    connection = connect(lab, autocommit=False, prepare_threshold=0)
    sql = "CREATE CLUSTER REPLICA c.r (SIZE '25cc')"
    connection.execute(sql, prepare=True)
    assert lab.replicas("c") == {}
    connection.commit()
    assert lab.replicas("c") == {"r": "25cc"}
    connection.execute(sql, prepare=True)
    with pytest.raises(psycopg.Error, match="cannot create multiple replicas named 'r'"):
        connection.commit()
    connection.execute("SELECT 1")
