"""`undo` brings a row back as it was, whatever its columns and the session that runs it."""

from __future__ import annotations

import pytest

from tests.binlog_sync.shell import Shell


@pytest.fixture
def caretaker(either_bench, tmp_path, capsys):
    """`caretaker binlog` against MySQL and against MariaDB."""
    either_bench.setup()
    return Shell(either_bench, tmp_path, capsys)


@pytest.fixture
def undone(caretaker, either_bench):
    """Return a function that deletes a table's rows, and takes that back in an odd session."""
    bench, table = either_bench, f"{either_bench.name}.t"

    def undo(columns, *rows, change, shown="HEX(CAST({} AS CHAR))"):
        bench.sql(
            f"CREATE TABLE {table} (id INT PRIMARY KEY, {columns})",
            "SET time_zone = '+00:00'",
            *(f"INSERT INTO {table} VALUES ({n}, {row})" for n, row in enumerate(rows, 1)),
        )
        names = bench.server.ask(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = "
            f"'{bench.name}' AND table_name = 't' ORDER BY ordinal_position"
        )
        look = ", ".join(shown.format(name) for (name,) in names)
        was = bench.server.ask(f"SELECT {look} FROM {table} ORDER BY id")
        assert len(was) == len(rows)
        bench.sql(*(change.format(n=n, table=table) for n in range(1, len(rows) + 1)))
        bench.sync()
        for n in range(1, len(rows) + 1):
            out = caretaker("undo", table, str(n)).out
            bench.sql("SET time_zone = '+05:30'", *out.splitlines())
        assert bench.server.ask(f"SELECT {look} FROM {table} ORDER BY id") == was

    return undo


DELETE = "DELETE FROM {table} WHERE id = {n}"


def test_times_are_the_same_moments(undone):
    undone(
        "a TIMESTAMP(6) NULL, b TIMESTAMP NULL, c DATETIME(6), d TIME(3)",
        "'2026-01-01 12:00:00.123456', '2026-01-01 12:00:00', '2026-01-01 12:00:00.5', '-9:08:07'",
        "NULL, NULL, NULL, NULL",
        change=DELETE,
    )


def test_text_that_looks_like_a_moment_is_text(undone):
    undone("a VARCHAR(40)", "'2026-01-01T12:00:00.123456Z'", change=DELETE)


def test_documents_are_the_same_documents(undone):
    undone(
        "j JSON",
        '\'["a", "b"]\'',
        "'\"true\"'",
        "'[]'",
        "'null'",
        "NULL",
        '\'{"d": 1.0, "e": 12345678901234567890, "f": {"g": [true, null, -1, 1e100]}}\'',
        "'\"a\\\\\\\\\\\\\"\\'\\'\\\\\\\\n ß\"'",
        "'7'",
        change=DELETE,
    )


def test_sets_bits_and_bytes_are_the_same(undone):
    undone(
        "s SET('a', 'b'), e ENUM('x', 'y'), n BIT(5), y BINARY(3), z DECIMAL(40, 2)",
        "'a,b', 'y', b'10101', x'00ff0a', 12345678901234567890123456789.25",
        "'', 'x', 0, x'000000', -0.5",
        change=DELETE,
    )


def test_vectors_and_uuids_are_the_same(undone, either_bench):
    if "mariadb" in either_bench.server.ask("SELECT LOWER(VERSION())")[0][0]:
        uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
        undone("u UUID, i INET6", f"'{uuid}', '::ffff:1.2.3.4'", change=DELETE)
    else:
        undone("v VECTOR(2)", "STRING_TO_VECTOR('[1, 2]')", change=DELETE, shown="HEX({})")


def test_a_row_without_a_key_is_found_by_its_document(bench, tmp_path, capsys):
    bench.setup()
    table = f"{bench.name}.t"
    bench.sql(
        f"CREATE TABLE {table} (j JSON, a TIMESTAMP(6) NULL)",
        f"INSERT INTO {table} VALUES ('[1]', '2026-01-01 12:00:00.123456'), ('null', NULL)",
    )
    bench.sync()
    caretaker = Shell(bench, tmp_path, capsys)
    gtid = bench.rows("t")[0]["src"]["gtid"]

    bench.sql("SET time_zone = '+05:30'", *caretaker("undo", "--gtid", gtid).out.splitlines())

    assert bench.server.ask(f"SELECT * FROM {table}") in ([], ())
