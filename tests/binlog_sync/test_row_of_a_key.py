"""`history`, `undo` and `verify` where rows move, tables are emptied, and sources share names."""

from __future__ import annotations

import pytest

from tests.binlog_sync.shell import Shell


@pytest.fixture
def caretaker(either_bench, tmp_path, capsys):
    """`caretaker binlog` against MySQL and against MariaDB."""
    either_bench.setup()
    return Shell(either_bench, tmp_path, capsys)


def told(caretaker, table, key, *arguments):
    return caretaker("history", table, key, *arguments, "--output", "json").json


def test_a_row_is_where_its_key_was_moved_to_and_ends_with_its_table(caretaker, either_bench):
    bench, table = either_bench, f"{either_bench.name}.t"
    bench.sql(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT)",
        f"INSERT INTO {table} VALUES (1, 1), (5, 5)",
        f"UPDATE {table} SET id = 2 WHERE id = 1",
    )
    bench.sync()
    left, came, stays = (told(caretaker, table, key) for key in ("1", "2", "5"))
    assert (left["exists"], left["row"]) == (False, None)
    assert (came["exists"], came["row"], came["whole"]) == (True, {"id": 2}, False)
    assert [each["op"] for each in came["changes"]] == ["u"]
    assert stays["exists"] is True

    undone = caretaker("undo", table, "2").out
    assert undone == f"UPDATE `{bench.name}`.`t` SET `id` = 1 WHERE `id` <=> 2 LIMIT 1;\n"

    bench.sql(f"TRUNCATE TABLE {table}", f"INSERT INTO {table} VALUES (9, 9)")
    bench.sync()
    gone, new = (told(caretaker, table, key) for key in ("5", "9"))
    assert (gone["exists"], gone["row"]) == (False, None)
    assert [each["op"] for each in gone["changes"]] == ["i", "ddl"]
    assert new["row"] == {"id": 9, "v": 9}
    assert "TRUNCATE" in caretaker("undo", table, "5").out.splitlines()[0]
    verified = caretaker("verify", table, "--source", bench.name, "--output", "json")
    (found,) = verified.json["tables"]
    assert (verified.code, found["equal"], found["missing"]) == (0, 1, 0)

    with bench.mongo() as client:
        (emptied,) = (
            client[bench.name]
            .row_changes.find({"op": "ddl", "meta.tbl": "t"})
            .sort("seq", -1)
            .limit(1)
        )
    assert emptied["meta"] == {"db": bench.name, "tbl": "t", "pk": None}
    assert emptied["ddl"]["sql"].startswith("TRUNCATE")

    bench.sql(f"RENAME TABLE {table} TO {bench.name}.old")
    bench.sync()
    assert told(caretaker, table, "9")["exists"] is False


def test_of_a_composite_key_each_part_may_move(caretaker, either_bench):
    bench, table = either_bench, f"{either_bench.name}.t"
    bench.sql(
        f"CREATE TABLE {table} (a INT, b INT, v INT, PRIMARY KEY (a, b))",
        f"INSERT INTO {table} VALUES (1, 1, 1), (1, 2, 2)",
        f"UPDATE {table} SET b = 3, v = 7 WHERE a = 1 AND b = 1",
    )
    bench.sync()

    assert told(caretaker, table, '{"a": 1, "b": 1}')["exists"] is False
    assert told(caretaker, table, '{"a": 1, "b": 3}')["row"] == {"b": 3, "v": 7}
    assert told(caretaker, table, '{"a": 1, "b": 2}')["row"] == {"a": 1, "b": 2, "v": 2}


def test_two_sources_with_a_table_of_one_name_are_not_mixed(caretaker, either_bench):
    """Both trails are in one database."""
    bench, table = either_bench, f"{either_bench.name}.t"
    bench.sql(f"CREATE TABLE {table} (id INT PRIMARY KEY)", f"INSERT INTO {table} VALUES (1)")
    bench.sync()
    bench.sql(f"DELETE FROM {table} WHERE id = 1")
    bench.sync(source="other", start="current")
    bench.sql(f"INSERT INTO {table} VALUES (1)", f"INSERT INTO {table} VALUES (2)")
    bench.sync(source="other")

    for verb in ("history", "undo"):
        refused = caretaker(verb, table, "1")
        assert refused.code == 1
        assert "other" in refused.err
        assert "--source" in refused.err
    assert len(told(caretaker, table, "1", "--source", bench.name)["changes"]) == 1
    assert told(caretaker, table, "1", "--source", "other")["changes"][0]["seq"] == 1
    assert told(caretaker, table, "2")["exists"] is True


def test_definitions_of_what_is_left_out_are_left_out(either_bench):
    """With the literals in them."""
    bench, other = either_bench, f"{either_bench.name}_other"
    bench.setup()
    try:
        bench.sql(
            f"CREATE DATABASE {other}",
            f"CREATE VIEW {other}.v AS SELECT 'card 4711' AS c",
            f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)",
            f"CREATE TABLE {bench.name}.secret (id INT DEFAULT 4711)",
        )
    finally:
        bench.sql(f"DROP DATABASE {other}")

    bench.sync(exclude=[rf"{bench.name}\.secret"])

    told = [each["ddl"]["sql"] for each in bench.documents() if each["op"] == "ddl"]
    assert [sql for sql in told if "4711" in sql or other in sql] == []
    assert any(f"{bench.name}.t (" in sql for sql in told)
