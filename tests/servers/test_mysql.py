"""The MySQL that tests get is one that the audit trail can be held against."""

from __future__ import annotations

import pymysql
import pytest

from tests.servers import dump

pytestmark = pytest.mark.live("mysql")


@pytest.fixture
def database(mysql_server, name):
    """A database of its own."""
    mysql_server.run(f"CREATE DATABASE {name}")
    yield name
    mysql_server.run(f"DROP DATABASE {name}")


def test_it_logs_rows_with_gtids_and_everything_about_a_column(mysql_server):
    """What the audit trail refuses to do without."""
    ((version, *settings),) = mysql_server.ask(
        "SELECT VERSION(), @@gtid_mode, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata"
    )
    assert int(version.split(".")[0]) >= 8
    assert settings == ["ON", "ROW", "FULL", "FULL"]


def test_a_transaction_can_be_dumped_by_gtid(start_mysql):
    """The rows of the one that follows the set, with their column's name, and nothing else."""
    # Of its own: the set of a server that others have used is more than one range.
    server = start_mysql()
    server.run("CREATE DATABASE shop", "CREATE TABLE shop.t (colour VARCHAR(20))")
    ((before,),) = server.ask("SELECT @@gtid_executed")
    server.run("INSERT INTO shop.t VALUES ('ultramarine')")

    events = dict(dump.mysql_events(server, before))

    assert {dump.GTID, dump.TABLE_MAP, dump.WRITE_ROWS, dump.XID} <= events.keys()
    assert b"ultramarine" in events[dump.WRITE_ROWS]
    assert b"colour" in events[dump.TABLE_MAP]
    assert b"shop" in events[dump.TABLE_MAP]


def test_a_reader_may_follow_and_not_write(start_mysql):
    """The least privileges that the wing asks for are those of a user that exists."""
    server = start_mysql()
    connection = server.connect(user="caretaker")
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOG STATUS")
        assert cursor.fetchone()
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("CREATE DATABASE forbidden")


def test_what_was_committed_survives_kill_9(start_mysql):
    """Data, GTIDs and identity are there again after a restart, on the same port."""
    server = start_mysql()
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
    server.run("INSERT INTO d.t VALUES (1), (2)")
    before = server.ask("SELECT @@server_uuid, @@gtid_executed")

    server.kill()
    with pytest.raises(pymysql.err.OperationalError):
        server.connect(connect_timeout=2)
    server.restart()

    assert server.ask("SELECT @@server_uuid, @@gtid_executed") == before
    assert server.ask("SELECT COUNT(*) FROM d.t") == [(2,)]


def test_options_are_server_variables(start_mysql):
    """Also those that a restart changes."""
    server = start_mysql(binlog_format="STATEMENT", max_allowed_packet="64M")
    assert server.ask("SELECT @@binlog_format, @@max_allowed_packet") == [("STATEMENT", 64 << 20)]
    server.restart(
        binlog_format="ROW",
        gtid_mode=False,
        enforce_gtid_consistency=False,
        binlog_transaction_compression=True,
    )
    assert server.ask("SELECT @@binlog_format, @@gtid_mode, @@binlog_transaction_compression") == [
        ("ROW", "OFF", 1)
    ]


def test_a_server_that_does_not_start_says_why(start_mysql):
    """With the end of its log; a wrong option is not mistaken for a machine without MySQL."""
    from lab.servers.errors import ServerDidNotStartError  # noqa: PLC0415

    with pytest.raises(ServerDidNotStartError, match="no_such_variable"):
        start_mysql(no_such_variable=1)


def test_two_servers_have_two_identities(start_mysql):
    """The template's uuid is nobody's."""
    one, other = start_mysql(), start_mysql(server_id=7)
    assert one.port != other.port
    assert one.ask("SELECT @@server_uuid") != other.ask("SELECT @@server_uuid")
