"""The MariaDB that tests get is one that the audit trail can be held against."""

from __future__ import annotations

import pymysql
import pytest

from tests.servers import dump

pytestmark = pytest.mark.live("mariadb")


@pytest.fixture
def database(mariadb_server, name):
    """A database of its own."""
    mariadb_server.run(f"CREATE DATABASE {name}")
    yield name
    mariadb_server.run(f"DROP DATABASE {name}")


def test_it_logs_rows_with_everything_about_a_column(mariadb_server):
    """What the audit trail refuses to do without."""
    ((version, *settings),) = mariadb_server.ask(
        "SELECT VERSION(), @@binlog_format, @@binlog_row_image, @@binlog_row_metadata"
    )
    assert "MariaDB" in version
    assert settings == ["ROW", "FULL", "FULL"]


def test_a_transaction_can_be_dumped_by_gtid(mariadb_server, database):
    """The rows of the one that follows the position, and nothing else."""
    mariadb_server.run(f"CREATE TABLE {database}.t (colour VARCHAR(20))")
    ((before,),) = mariadb_server.ask("SELECT @@gtid_binlog_pos")
    mariadb_server.run(f"USE {database}", "INSERT INTO t VALUES ('ultramarine')")

    events = dict(dump.mariadb_events(mariadb_server, before))

    assert {dump.MARIADB_GTID, dump.TABLE_MAP, dump.WRITE_ROWS_V1, dump.XID} <= events.keys()
    assert b"ultramarine" in events[dump.WRITE_ROWS_V1]
    assert b"colour" in events[dump.TABLE_MAP]
    assert database.encode() in events[dump.TABLE_MAP]


def test_what_was_committed_survives_kill_9(start_mariadb):
    """Data and position are there again after a restart, on the same port."""
    server = start_mariadb()
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
    server.run("INSERT INTO d.t VALUES (1), (2)")
    before = server.ask("SELECT @@gtid_binlog_pos")

    server.kill()
    with pytest.raises(pymysql.err.OperationalError):
        server.connect(connect_timeout=2)
    server.restart()

    assert server.ask("SELECT @@gtid_binlog_pos") == before
    assert server.ask("SELECT COUNT(*) FROM d.t") == [(2,)]


def test_options_are_server_variables(start_mariadb):
    """Those that make it compress rows among them."""
    server = start_mariadb(log_bin_compress=True, log_bin_compress_min_len=10, server_id=9)
    assert server.ask("SELECT @@log_bin_compress, @@server_id") == [(1, 9)]


def test_a_reader_may_follow_and_not_write(start_mariadb):
    """The least privileges that the wing asks for are those of a user that exists."""
    server = start_mariadb()
    connection = server.connect(user="caretaker")
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW MASTER STATUS")
        assert cursor.fetchone()
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("CREATE DATABASE forbidden")
