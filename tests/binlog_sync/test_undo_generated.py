"""`undo` of rows with columns that the server computes: it refuses to be told their values."""

from __future__ import annotations

import pytest

from tests.binlog_sync.shell import Shell


@pytest.fixture
def caretaker(either_bench, tmp_path, capsys):
    """`caretaker binlog` against MySQL and against MariaDB."""
    either_bench.setup()
    return Shell(either_bench, tmp_path, capsys)


@pytest.mark.parametrize("key", ["PRIMARY KEY (id)", "PRIMARY KEY (id, shop)"])
def test_a_deleted_row_and_a_changed_one_come_back_whole(caretaker, either_bench, key):
    bench = either_bench
    table = f"{bench.name}.t"
    bench.sql(
        f"CREATE TABLE {table} (id INT, shop INT, price INT, twice INT AS (price * 2) STORED, "
        f"next_ INT AS (price + 1) VIRTUAL, made DATETIME DEFAULT CURRENT_TIMESTAMP, {key})",
        f"INSERT INTO {table} (id, shop, price) VALUES (1, 7, 10), (2, 7, 20)",
    )
    was = bench.server.ask(f"SELECT * FROM {table} ORDER BY id")
    bench.sql(f"DELETE FROM {table} WHERE id = 1", f"UPDATE {table} SET price = 30 WHERE id = 2")
    assert caretaker.run("--until-current").code == 0
    one, two = (
        ("1", "2")
        if key == "PRIMARY KEY (id)"
        else (
            '{"id": 1, "shop": 7}',
            '{"id": 2, "shop": 7}',
        )
    )

    undone = [caretaker("undo", table, each) for each in (one, two)]

    bench.sql(*(each.out for each in undone))
    assert bench.server.ask(f"SELECT * FROM {table} ORDER BY id") == was


def test_without_the_source_it_says_what_it_does_not_know(caretaker, either_bench):
    bench = either_bench
    table = f"{bench.name}.t"
    bench.sql(f"CREATE TABLE {table} (id INT PRIMARY KEY)", f"INSERT INTO {table} VALUES (1)")
    assert caretaker.run("--until-current").code == 0

    undone = caretaker("undo", table, "1", MYSQL_URL="mysql://u:p@127.0.0.1:1/")

    assert undone.code == 0
    told, statement = undone.out.splitlines()
    assert told.startswith("-- keys are guessed and generated columns unknown: ")
    assert statement == f"DELETE FROM `{bench.name}`.`t` WHERE `id` <=> 1 LIMIT 1;"
