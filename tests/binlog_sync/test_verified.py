"""`verify` on both kinds of source, and while rows change under it."""

from __future__ import annotations

import pytest

from caretaker.binlog.model import Checkpoint, Position
from ops.binlog_comparison import before
from resources.mysql.tables import Snapshot
from tests.binlog_sync.shell import Shell

SECRET = "sixteen bytes or more"


@pytest.fixture
def caretaker(either_bench, tmp_path, capsys):
    """`caretaker binlog` against MySQL and against MariaDB."""
    return Shell(either_bench, tmp_path, capsys)


@pytest.fixture
def table(either_bench, caretaker):
    """Three rows, in source and trail."""
    either_bench.setup()
    table = f"{either_bench.name}.t"
    either_bench.sql(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20))",
        f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    assert caretaker.run("--until-current").code == 0
    return table


def verified(caretaker, table):
    ended = caretaker(
        "verify", table, "--source", caretaker.bench.name, "--output", "json", "--wait", "0"
    )
    (found,) = ended.json["tables"]
    return ended.code, found


def test_equal_rows_are_equal_and_a_forged_one_is_found(caretaker, table, either_bench):
    code, found = verified(caretaker, table)
    assert (code, found["equal"], found["differences"]) == (0, 3, [])

    either_bench.server.run("SET sql_log_bin = 0", f"UPDATE {table} SET v = 'forged' WHERE id = 1")

    code, found = verified(caretaker, table)
    assert code == 1
    (difference,) = found["differences"]
    assert difference["columns"][0]["column"] == "v"


def test_a_change_while_the_snapshot_is_taken_is_no_difference(
    caretaker, table, either_bench, monkeypatch
):
    """MySQL does not tell where in its binlog a snapshot is: each row may be before or after."""
    begin = Snapshot._begin

    def begin_amid_changes(snapshot):
        either_bench.sql(
            f"UPDATE {table} SET v = 'before' WHERE id = 1", f"DELETE FROM {table} WHERE id = 3"
        )
        begin(snapshot)
        either_bench.sql(
            f"UPDATE {table} SET v = 'after' WHERE id = 2", f"INSERT INTO {table} VALUES (4, 'd')"
        )
        either_bench.sync()

    monkeypatch.setattr(Snapshot, "_begin", begin_amid_changes)

    code, found = verified(caretaker, table)

    assert code == 0, found
    assert (found["rows"], found["equal"], found["differences"]) == (2, 2, [])


@pytest.fixture
def filtered(either_bench, monkeypatch):
    """Return a function that syncs columns of many kinds through filters, and verifies them."""
    monkeypatch.setenv("CARETAKER_HASH_SECRET", SECRET)
    either_bench.setup()
    table = f"{either_bench.name}.t"
    columns = "id BIGINT UNSIGNED, a VARCHAR(9), b BIGINT, c DECIMAL(9, 2), d TIMESTAMP NULL, e INT"
    either_bench.sql(
        f"CREATE TABLE {table} ({columns}, PRIMARY KEY (id))",
        f"INSERT INTO {table} VALUES (1, 'a', 2, 3.50, '2026-01-01 12:00:00', 4)",
        f"INSERT INTO {table} VALUES (2, NULL, NULL, NULL, NULL, NULL)",
    )

    def sync(**filters):
        patterns = {name: [rf".*\.t\.({columns})"] for name, columns in filters.items()}
        either_bench.sync(secret=SECRET.encode(), **patterns)
        return table

    return sync


def test_what_filters_leave_of_a_value_is_held_against_it(filtered, caretaker, either_bench):
    """Masked, hashed and dropped columns; and a hash tells a forged value."""
    table = filtered(mask="a", hash="id|b|c|d", drop="e")

    code, found = verified(caretaker, table)
    assert (code, found["equal"], found["partial"], found["not_covered"]) == (0, 2, 2, 0), found

    either_bench.server.run("SET sql_log_bin = 0", f"UPDATE {table} SET b = 666 WHERE id = 1")
    code, found = verified(caretaker, table)
    assert code == 1
    assert [each["column"] for each in found["differences"][0]["columns"]] == ["b"]


def test_what_was_masked_once_stays_so_and_is_no_difference(filtered, caretaker, either_bench):
    table = filtered(mask="a")
    filtered()
    either_bench.sql(f"UPDATE {table} SET a = 'new' WHERE id = 2")
    filtered()

    code, found = verified(caretaker, table)

    assert (code, found["equal"]) == (0, 2), found


def test_without_the_secret_hashes_are_not_judged(filtered, caretaker, monkeypatch):
    table = filtered(hash="a")
    monkeypatch.delenv("CARETAKER_HASH_SECRET")

    code, found = verified(caretaker, table)

    assert (code, found["equal"], found["partial"]) == (0, 2, 2), found


def test_on_mariadb_the_domain_orders_what_two_servers_wrote():
    """After a failover the new server's files are numbered anew: places mean nothing."""
    done = before(Checkpoint("0-2-900,1-7-5", Position("mariadb-bin.000003", 500), 0))

    def change(gtid):
        return {"src": {"binlog": {"file": "mariadb-bin.000050", "pos": 4}, "gtid": gtid}}

    assert done(change("0-1-899"))
    assert done(change("0-2-900"))
    assert not done(change("0-2-901"))
    assert not done(change("1-7-6"))
    assert not done(change("2-7-1"))
