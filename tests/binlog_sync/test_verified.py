"""`verify` on both kinds of source, and while rows change under it."""

from __future__ import annotations

import pytest

from resources.mysql.tables import Snapshot
from tests.binlog_sync.shell import Shell


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
