# ruff: noqa: S608 - the tables are our own
"""What `verify` and `history` read: rows of one moment, with the values that the trail has."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from caretaker.binlog.gtid import GtidSet
from caretaker.binlog.model import Flavor
from caretaker.errors import RefusedError
from resources.mysql.values import comparable
from tests.binlog.type_cases import of_flavor
from tests.mysql.reading import read

pytestmark = pytest.mark.live("mysql")


def test_a_selected_row_is_what_the_trail_has_for_every_type(server, source, database, system):
    """The trail's last word on each row, and the row itself, are the same value."""
    cases = of_flavor(Flavor(system))
    start = source.now()
    for case in cases:
        rows = ", ".join(
            f"({number}, {expression})" for number, (expression, _) in enumerate(case.values)
        )
        server.run(
            "SET sql_mode = '', time_zone = '+00:00'",
            f"CREATE TABLE {database}.{case.name} (id INT PRIMARY KEY, v {case.definition})",
            f"INSERT INTO {database}.{case.name} VALUES {rows}",
        )
    trail: dict[str, list[Any]] = {}
    for each in read(source, start).documents:
        if each["op"] == "i":
            trail.setdefault(each["meta"]["tbl"], []).append(each["chg"]["v"]["t"])
    different = []
    with source.snapshot() as snapshot:
        for case in cases:
            table = source.table(f"{database}.{case.name}")
            found = [row["v"] for row in snapshot.rows(table, chunk=2)]
            json = table.column("v").type == "json"
            for ours, theirs in zip(found, trail[case.name], strict=True):
                decoded = bson.decode(bson.encode({"v": ours}))["v"]
                same = comparable(decoded) == comparable(theirs) if json else decoded == theirs
                if not same:
                    different.append((case.name, decoded, theirs))
    assert different == []


def test_a_table_is_described_with_its_key_in_order(server, source, database):
    """A key of two columns, the other way round than the columns."""
    server.run(
        f"CREATE TABLE {database}.t (a INT, b VARCHAR(9), c INT AS (a + 1), PRIMARY KEY (b, a))"
    )
    table = source.table(f"{database}.t")
    assert table.key == ("b", "a")
    assert [column.name for column in table.columns] == ["a", "b", "c"]
    assert [column.generated for column in table.columns] == [False, False, True]
    assert table.pk({"a": 1, "b": "x", "c": 2}) == {"b": "x", "a": 1}


@pytest.mark.parametrize("name", ["nowhere.t", "t", "", "a.", ".b"])
def test_a_table_that_is_not_there_is_refused_by_name(source, name):
    """As are names that are none."""
    with pytest.raises(RefusedError, match=name or "no DB.TABLE"):
        source.table(name)


@pytest.mark.parametrize(
    ("definition", "values"),
    [
        ("VARCHAR(9) COLLATE utf8mb4_bin", ["'a'", "'A'", "'b'", "'\u00e9'", "''"]),
        ("ENUM('z', 'y', 'x', 'w')", ["'w'", "'z'", "'x'", "'y'"]),
        (
            "BIGINT UNSIGNED",
            ["18446744073709551615", "18446744073709551614", "0", "9007199254740993"],
        ),
        ("DECIMAL(30,10)", ["1.1", "-5", "12345678901234567890.0000000001", "0"]),
        ("VARBINARY(4)", ["x'ff'", "x'00'", "x''", "x'0001'"]),
        ("DATETIME(6)", ["'2024-01-01'", "'2024-01-01 00:00:00.000001'", "'1999-12-31'"]),
    ],
)
def test_a_snapshot_is_read_in_pieces_by_whatever_the_key_is(
    server, source, database, definition, values
):
    """Every row once, with pieces of one row."""
    rows = ", ".join(f"({first}, {second})" for first in values for second in (2, 1))
    server.run(
        f"CREATE TABLE {database}.t (k {definition}, n INT, PRIMARY KEY (k, n))",
        f"INSERT INTO {database}.t VALUES {rows}",
    )
    with source.snapshot() as snapshot:
        found = list(snapshot.rows(source.table(f"{database}.t"), chunk=1))
    assert len(found) == 2 * len(values)
    assert len({(str(row["k"]), row["n"]) for row in found}) == 2 * len(values)


def test_a_snapshot_is_of_one_moment(server, source, database):
    """What is written while it is read is behind `high`, and not in it."""
    server.run(f"CREATE TABLE {database}.t (id INT PRIMARY KEY)")
    server.run(f"INSERT INTO {database}.t VALUES (1), (2), (3)")
    with source.snapshot() as snapshot:
        table = source.table(f"{database}.t")
        first, after = snapshot.chunk(table, None, 1)
        server.run(f"DELETE FROM {database}.t", f"INSERT INTO {database}.t VALUES (9)")
        rest, _ = snapshot.chunk(table, after, 10)
    assert [row["id"] for row in first + rest] == [1, 2, 3]
    assert read(source, snapshot.high).documents[0]["op"] == "d"
    if source.flavor() is Flavor.MYSQL:
        low, high = (GtidSet.parse(each.gtid) for each in (snapshot.low, snapshot.high))
        assert low.issubset(high)
    else:
        assert snapshot.low == snapshot.high


def test_a_table_without_a_key_cannot_be_told_row_by_row(server, source, database):
    """Said, not guessed."""
    server.run(f"CREATE TABLE {database}.t (v INT)")
    with source.snapshot() as snapshot, pytest.raises(RefusedError, match="no primary key"):
        list(snapshot.rows(source.table(f"{database}.t")))


@pytest.mark.parametrize("system", ["mysql"])
def test_sets_are_compared_as_the_server_compares_them(server):
    """GTID_SUBSET and GTID_SUBTRACT of the server, and ours."""
    one, two = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
    texts = [
        "",
        f"{one}:1-5",
        f"{one}:1-3:5-9",
        f"{one}:2",
        f"{two}:1-5,{one}:1-9",
        f"{one}:1-5:tag:1-3",
        f"{one}:tag:2",
    ]
    for left in texts:
        for right in texts:
            ((subset, rest),) = server.ask(
                f"SELECT GTID_SUBSET('{left}', '{right}'), GTID_SUBTRACT('{left}', '{right}')"
            )
            ours, theirs = GtidSet.parse(left), GtidSet.parse(right)
            assert ours.issubset(theirs) == bool(subset)
            assert ours.subtract(theirs) == GtidSet.parse(rest)


def test_text_in_sets_that_python_lacks_is_read_by_the_servers_own_tables(server, source):
    """Asked once: what the source converts, and what the trail has, is the same."""
    charsets = source.charsets()
    for name in ("armscii8", "dec8", "geostd8", "keybcs2", "swe7", "eucjpms"):
        ((number, text),) = server.ask(
            "SELECT id, CONVERT(CONVERT('\u0531\u10d0\u00c5A\u65e5' USING "
            f"{name}) USING utf8mb4) FROM information_schema.collations"
            f" WHERE character_set_name = '{name}' AND is_default = 'Yes'"
        )
        ((raw,),) = server.ask(f"SELECT CAST(CONVERT('{text}' USING {name}) AS BINARY)")
        assert charsets.utf8(raw, int(number)).decode() == text
