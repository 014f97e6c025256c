# ruff: noqa: S608 - the tables are our own
"""What a reader of a real server gets: every committed row once, in order, and nothing else.

Many of these are what a stock reader loses without a word: compressed transactions, compressed
rows, partial JSON, statements that were logged as such, XA transactions that were rolled back.
"""

from __future__ import annotations

import time
import uuid

import bson
import pytest

from caretaker.binlog.batcher import Limits
from caretaker.binlog.model import Abandoned, Commit, Heartbeat, Mode, Prepared
from caretaker.errors import RefusedError
from tests.mysql.reading import follow, read

pytestmark = pytest.mark.live("mysql")


@pytest.fixture
def table(server, database):
    """A narrow table."""
    server.run(f"CREATE TABLE {database}.t (id INT PRIMARY KEY, v VARCHAR(600))")
    return f"{database}.t"


def xa_session(server, table, xid, *rows):
    """Prepare an XA transaction; its session is gone when this returns."""
    values = ", ".join(f"({number}, '{text}')" for number, text in rows)
    server.run(
        f"XA START '{xid}'",
        f"INSERT INTO {table} VALUES {values}",
        f"XA END '{xid}'",
        f"XA PREPARE '{xid}'",
    )
    time.sleep(0.3)  # MariaDB lets others settle it once the session is gone


def test_facts_say_how_far_the_source_is(source, system):
    """The place is in the newest of its binlogs, and the flavor found out by asking."""
    facts = source.facts()
    assert facts.flavor.value == system
    assert facts.mode is Mode.GTID
    assert facts.progression.logs[-1].name == facts.progression.position.file


def test_rows_of_a_transaction_come_once_and_in_order(server, source, table):
    """From one checkpoint to the next nothing is lost or doubled."""
    start = source.now()
    server.run(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")

    reading = read(source, start)

    assert reading.values() == ["one", "two"]
    assert [document["seq"] for document in reading.documents] == [1, 2]
    assert read(source, reading.checkpoint).values() == []


def test_from_the_earliest_everything_that_is_left_comes(start_server, open_at):
    """A trail that begins with the oldest binlog has the table's creation in it."""
    server = start_server()
    source = open_at(server.url)
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)")
    server.run("INSERT INTO d.t VALUES (1, 'first')", "FLUSH BINARY LOGS")
    server.run("INSERT INTO d.t VALUES (2, 'second')")

    reading = read(source, source.at("earliest"))

    assert reading.values() == ["first", "second"]
    assert "CREATE DATABASE d" in reading.statements()


def test_a_place_may_be_named_by_gtid_or_by_file(server, source, table):
    """The operator's words lead to the same rows as a saved checkpoint."""
    start = source.now()
    server.run(f"INSERT INTO {table} VALUES (1, 'one')")

    assert read(source, source.at(f"gtid:{start.gtid}")).values() == ["one"]
    assert read(source, source.at(f"file:{start.position}")).values() == ["one"]


def test_an_idle_source_is_heard(source):
    """Heartbeats come although nothing happens, which is how a dead connection is told."""
    reader = follow(source, source.now())
    reader.until(Heartbeat, times=2)
    reader.close()


def test_a_reader_by_file_follows_a_source_without_gtids(start_mysql, open_at):
    """File mode: places instead of sets, over a rotation and a restart of the server."""
    server = start_mysql(gtid_mode=False, enforce_gtid_consistency=False)
    source = open_at(server.url)
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)")
    start = source.now()
    assert start.gtid is None
    server.run("INSERT INTO d.t VALUES (1, 'one')", "FLUSH BINARY LOGS")
    server.run("INSERT INTO d.t VALUES (2, 'two')")
    reading = read(source, start)
    assert reading.values() == ["one", "two"]
    server.restart()
    server.run("INSERT INTO d.t VALUES (3, 'three')")
    assert read(source, reading.checkpoint).values() == ["three"]


def test_rows_of_an_xa_transaction_come_when_it_is_committed(server, source, table, name):
    """Prepared rows wait; a row of somebody else's passes them."""
    start = source.now()
    xa_session(server, table, name, (1, "prepared"))
    server.run(f"INSERT INTO {table} VALUES (2, 'other')")
    waiting = read(source, start)
    assert waiting.values() == ["other"]
    assert Prepared in map(type, waiting.items)

    server.run(f"XA COMMIT '{name}'")

    resumed = read(source, waiting.checkpoint)
    assert resumed.values() == ["prepared"]
    assert read(source, resumed.checkpoint).values() == []


def test_rows_of_an_xa_transaction_that_is_rolled_back_never_come(server, source, table, name):
    """They never were."""
    start = source.now()
    xa_session(server, table, name, (1, "never"))
    server.run(f"XA ROLLBACK '{name}'", f"INSERT INTO {table} VALUES (2, 'after')")

    assert read(source, start).values() == ["after"]


def test_what_a_savepoint_undid_never_comes(server, source, table):
    """The row before it and the one behind it do."""
    start = source.now()
    server.run(
        "BEGIN",
        f"INSERT INTO {table} VALUES (1, 'kept')",
        "SAVEPOINT s",
        f"INSERT INTO {table} VALUES (2, 'undone')",
        "ROLLBACK TO s",
        f"INSERT INTO {table} VALUES (3, 'kept, too')",
        "COMMIT",
    )
    assert read(source, start).values() == ["kept", "kept, too"]


def test_rows_of_load_data_come(server, source, table, tmp_path):
    """They are logged as rows."""
    start = source.now()
    data = tmp_path / "rows.tsv"
    data.write_text("1\tloaded\n2\tloaded, too\n")
    data.parent.chmod(0o755)
    with server.connect(local_infile=True) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL local_infile = ON")
        cursor.execute(f"LOAD DATA LOCAL INFILE '{data}' INTO TABLE {table}")
    assert read(source, start).values() == ["loaded", "loaded, too"]


def test_rows_of_create_table_as_select_come_behind_the_table(server, source, table, database):
    """Table and rows share a transaction: both are there, the statement once."""
    server.run(f"INSERT INTO {table} VALUES (1, 'copied')")
    start = source.now()
    server.run(f"CREATE TABLE {database}.copy AS SELECT * FROM {table}")

    reading = read(source, start)

    assert reading.values() == ["copied"]
    assert [document["op"] for document in reading.documents] == ["ddl", "i"]


def test_a_column_that_is_added_has_its_name_from_then_on(server, source, table):
    """Rows before an ALTER and behind it have the columns of their time."""
    start = source.now()
    server.run(
        f"INSERT INTO {table} VALUES (1, 'old')",
        f"ALTER TABLE {table} ADD COLUMN w INT UNSIGNED FIRST, DROP COLUMN v",
        f"INSERT INTO {table} VALUES (4294967295, 2)",
    )
    changes = [each["chg"] for each in read(source, start).documents if each["op"] == "i"]
    assert changes == [
        {"id": {"t": 1}, "v": {"t": "old"}},
        {"w": {"t": 4294967295}, "id": {"t": 2}},
    ]


def test_dml_in_statement_format_stops_the_reader(start_server, open_at):
    """It cannot be audited, and is not passed over: the message says what to change.

    On a server of its own: whoever reads a shared one from the earliest would meet it, too.
    """
    server = start_server()
    source = open_at(server.url)
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)")
    start = source.now()
    server.run("SET SESSION binlog_format = STATEMENT", "INSERT INTO d.t VALUES (1, 'x')")
    with pytest.raises(RefusedError, match="statement-based DML") as error:
        read(source, start)
    assert "SET GLOBAL binlog_format = ROW" in error.value.hint


@pytest.mark.parametrize("system", ["mysql"])
def test_compressed_transactions_are_read(server, source, table):
    """MySQL wraps a whole transaction into one event."""
    start = source.now()
    server.run(
        "SET SESSION binlog_transaction_compression = ON",
        f"INSERT INTO {table} VALUES (1, REPEAT('a', 500)), (2, REPEAT('b', 500))",
    )
    assert read(source, start).values() == ["a" * 500, "b" * 500]


def test_compressed_rows_are_read(start_mariadb, open_at):
    """MariaDB compresses each rows event, and long statements."""
    server = start_mariadb(log_bin_compress=True, log_bin_compress_min_len=10)
    source = open_at(server.url)
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)")
    start = source.now()
    server.run("INSERT INTO d.t VALUES (1, REPEAT('a', 500))", "UPDATE d.t SET v = REPEAT('b', 9)")
    server.run("DELETE FROM d.t")
    documents = read(source, start).documents
    assert [each["op"] for each in documents] == ["i", "u", "d"]
    assert documents[1]["chg"]["v"] == {"f": "a" * 500, "t": "b" * 9}


@pytest.mark.parametrize("system", ["mysql"])
def test_a_partial_update_of_json_is_whole_in_the_trail(server, source, database):
    """MySQL may log only what changed inside a document."""
    table = f"{database}.j"
    server.run(f"CREATE TABLE {table} (id INT PRIMARY KEY, j JSON)")
    server.run(f'INSERT INTO {table} VALUES (1, \'{{"a": 1, "b": "{"x" * 200}"}}\')')
    start = source.now()
    server.run(
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
        f"UPDATE {table} SET j = JSON_SET(j, '$.a', 2)",
    )
    (document,) = read(source, start).documents
    assert document["chg"]["j"]["f"]["a"] == 1
    assert document["chg"]["j"]["t"] == {"a": 2, "b": "x" * 200}


@pytest.mark.parametrize("system", ["mysql"])
def test_a_tagged_gtid_is_followed_and_resumed_from(server, source, table):
    """MySQL 8.3: a set with tags goes to the server in its own encoding, and names the rows."""
    start = source.now()
    server.run("SET gtid_next = 'AUTOMATIC:mytag'", f"INSERT INTO {table} VALUES (1, 'tagged')")
    reading = read(source, start)
    assert reading.values() == ["tagged"]
    assert ":mytag:" in reading.documents[0]["src"]["gtid"]
    assert ":mytag:" in str(reading.checkpoint.gtid)
    server.run(f"INSERT INTO {table} VALUES (2, 'after')")
    assert read(source, reading.checkpoint).values() == ["after"]


def test_a_reader_goes_on_over_a_rotation(server, source, table):
    """The next file is the same stream."""
    reader = follow(source, source.now())
    server.run(f"INSERT INTO {table} VALUES (1, 'one')", "FLUSH BINARY LOGS")
    server.run(f"INSERT INTO {table} VALUES (2, 'two')")
    reading = reader.until(Commit, times=2)
    reader.close()
    assert reading.values() == ["one", "two"]
    one, two = (each["src"]["binlog"]["file"] for each in reading.documents)
    assert one < two


def test_a_row_of_more_than_16_mb_comes_whole(server, source, database):
    """Packets of 16 MB go on in the next one."""
    server.run(f"CREATE TABLE {database}.big (id INT PRIMARY KEY, v LONGTEXT)")
    start = source.now()
    server.run(
        f"INSERT INTO {database}.big VALUES (1, REPEAT('x', 17000000))",
        f"INSERT INTO {database}.big VALUES (2, 'small')",
    )
    reader = follow(source, start)
    sizes = _Sizes()
    reader.encoder = sizes
    reader.until(Commit, times=2)
    reader.close()
    assert sizes.seen[0] > 17_000_000
    assert len(sizes.seen) == 2


class _Sizes:
    """Only measures: what becomes of a document above 16 MB is somebody else's test."""

    def __init__(self):
        self.seen: list[int] = []

    def documents(self, _kind, body, _table, _context, *, skip):
        from caretaker.binlog.rows import EncodedRows  # noqa: PLC0415

        assert skip == 0
        self.seen.append(len(body))
        return EncodedRows()


def test_a_big_transaction_is_cut_and_gone_on_with_in_its_middle(server, source, table):
    """A checkpoint inside a transaction skips exactly the rows that are in the trail."""
    start = source.now()
    rows = ", ".join(f"({number}, 'row {number}')" for number in range(1000))
    server.run(f"INSERT INTO {table} VALUES {rows}")
    first, *rest = read(source, start, limits=Limits(documents=300)).batches
    assert first.checkpoint.inflight is not None
    assert first.checkpoint.inflight.rows == 300
    assert len(rest) == 3

    resumed = read(source, first.checkpoint)

    assert resumed.values() == [f"row {number}" for number in range(300, 1000)]
    assert resumed.documents[0]["seq"] == 301


def test_what_the_server_never_finished_is_not_in_the_trail(start_server, open_at):
    """A server killed with kill -9 comes back, and the reader with it: each committed row once."""
    server = start_server(sync_binlog=1, innodb_flush_log_at_trx_commit=1)
    source = open_at(server.url)
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)")
    reader = follow(source, source.now())
    server.run("INSERT INTO d.t VALUES (1, 'before')")
    before = reader.until(Commit)
    session = server.connect(autocommit=False)
    session.cursor().execute("INSERT INTO d.t VALUES (2, 'never')")

    server.kill()
    server.restart()

    session._force_close()
    reader.close()
    server.run("INSERT INTO d.t VALUES (3, 'after')")
    after = read(source, before.checkpoint)
    assert before.values() + after.values() == ["before", "after"]
    assert Abandoned not in map(type, after.items)


def test_a_session_that_logs_only_some_columns_stops_the_reader(server, source, table):
    """Its rows would be half of the truth; the message says what to change."""
    start = source.now()
    server.run(
        f"INSERT INTO {table} VALUES (1, 'whole')",
        "SET SESSION binlog_row_image = MINIMAL",
        f"UPDATE {table} SET v = 'half' WHERE id = 1",
    )
    with pytest.raises(RefusedError, match="logged the row without") as error:
        read(source, start)
    assert "binlog_row_image" in f"{error.value} {error.value.hint}"


def test_a_source_that_stops_to_log_names_stops_the_reader(start_server, open_at, system):
    """Names and signs would be guesses."""
    server = start_server()
    source = open_at(server.url)
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT UNSIGNED PRIMARY KEY)")
    start = source.now()
    less = "MINIMAL" if system == "mysql" else "NO_LOG"
    server.run(f"SET GLOBAL binlog_row_metadata = '{less}'")
    server.run("INSERT INTO d.t VALUES (4294967295)")
    with pytest.raises(RefusedError, match="lacks") as error:
        read(source, start)
    assert "binlog_row_metadata" in error.value.hint


def test_rows_that_a_foreign_key_deletes_are_in_the_trail_where_the_source_logs_them(
    server, source, database, system
):
    """MySQL since 9.6. MariaDB does not: `check` reports the tables."""
    server.run(
        f"CREATE TABLE {database}.parent (id INT PRIMARY KEY)",
        f"CREATE TABLE {database}.child (id INT PRIMARY KEY, p INT,"
        f" FOREIGN KEY (p) REFERENCES {database}.parent (id) ON DELETE CASCADE)",
        f"INSERT INTO {database}.parent VALUES (1)",
        f"INSERT INTO {database}.child VALUES (10, 1), (11, 1)",
    )
    start = source.now()
    server.run(f"DELETE FROM {database}.parent")
    deleted = [each["meta"]["tbl"] for each in read(source, start).documents]
    if system == "mysql":
        assert sorted(deleted) == ["child", "child", "parent"]
    else:
        assert deleted == ["parent"]
        assert any(f"{database}.child" in problem.found for problem in source.check())


def test_a_uuid_of_mariadb_is_one_in_tables_that_are_made_while_the_reader_runs(
    mariadb_server, open_at, name
):
    """Only information_schema tells it from BINARY(16): it is asked again behind a DDL."""
    source = open_at(mariadb_server.url)
    reader = follow(source, source.now())
    text = "0123abcd-4567-89ef-8123-0123456789ab"
    mariadb_server.run(
        f"CREATE DATABASE {name}",
        f"CREATE TABLE {name}.t (id INT PRIMARY KEY)",
        f"INSERT INTO {name}.t VALUES (1)",
    )
    reader.until(Commit, times=3)
    mariadb_server.run(
        f"ALTER TABLE {name}.t ADD COLUMN v UUID", f"INSERT INTO {name}.t VALUES (2, '{text}')"
    )
    reading = reader.until(Commit, times=2)
    reader.close()
    mariadb_server.run(f"DROP DATABASE {name}")
    assert reading.documents[-1]["chg"]["v"]["t"] == bson.Binary(uuid.UUID(text).bytes, 4)
