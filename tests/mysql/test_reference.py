"""mysql-replication as a second opinion: it agrees where it is right; a lie of ours is found."""

from __future__ import annotations

import bson
import pytest

from caretaker.binlog.model import EventType, Flavor
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.tablemap import TableMaps
from resources.mysql.reference import LEFT_OUT, ReferenceDecoder
from tests.binlog.captures import a_context, capture
from tests.binlog.type_cases import of_flavor, statements

pytestmark = pytest.mark.live("mysql")


@pytest.fixture
def captured(server, system, source, name):
    """Inserts, updates and deletes of every type."""
    flavor = Flavor(system)
    every = [statement for case in of_flavor(flavor) for statement in statements(case)]
    yield capture(server, flavor, name, every), source
    server.run(f"DROP DATABASE {name}")


def test_both_decoders_agree_on_every_type_that_it_is_right_on(captured):
    """Row by row, both images, unchanged columns too; most values are really compared."""
    told, source = captured
    charsets = source.charsets()
    reference = ReferenceDecoder(charsets)
    encoder = RowsEncoder(charsets=charsets)
    tables = TableMaps(told.flavor, source.known_types())
    found: list[str] = []
    covered = rows = 0
    for kind, body in told.events:
        if kind == EventType.TABLE_MAP:
            tables.add(body)
            continue
        table = tables.get(int.from_bytes(body[:6], "little"))
        encoded = encoder.documents(kind, body, table, a_context())
        rows += 1
        covered += reference.covers(kind, table)
        found += map(str, reference.differences(kind, body, table, encoded.documents))
    assert found == []
    assert covered > 0.8 * rows
    assert len(LEFT_OUT) == 10


def test_a_value_that_we_got_wrong_is_named(server, system, name):
    """With table, column and both values."""
    told = capture(
        server,
        Flavor(system),
        name,
        [
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4)",
            "INSERT INTO t VALUES (1, 'right')",
        ],
    )
    server.run(f"DROP DATABASE {name}")
    tables = TableMaps(told.flavor)
    ((_, body), (kind, rows)) = told.events
    table = tables.add(body)
    (document,) = RowsEncoder().documents(kind, rows, table, a_context()).documents
    reference = ReferenceDecoder()
    assert list(reference.differences(kind, rows, table, [document])) == []
    wrong = bson.decode(document)
    wrong["chg"]["v"]["t"] = "wrong"

    (difference,) = reference.differences(kind, rows, table, [bson.encode(wrong)])

    assert str(difference).startswith(f"{name}.t, row 0 of the event, v.t: we read 'wrong'")
    assert "'right'" in str(difference)
    left_out = reference.differences(kind, rows, table, [bson.encode(wrong)], left_out={"v"})
    assert list(left_out) == []
    del wrong["chg"]["v"]
    assert list(reference.differences(kind, rows, table, [bson.encode(wrong)]))


def test_a_change_that_we_missed_is_named(server, system, name):
    """An update that leaves out a column which changed."""
    told = capture(
        server,
        Flavor(system),
        name,
        [
            "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
            "INSERT INTO t VALUES (1, 1)",
            "UPDATE t SET v = 2",
        ],
    )
    server.run(f"DROP DATABASE {name}")
    tables = TableMaps(told.flavor)
    table = tables.add(told.events[-2][1])
    kind, rows = told.events[-1]
    (document,) = RowsEncoder().documents(kind, rows, table, a_context()).documents
    missed = bson.decode(document)
    missed["chg"] = {}
    found = list(ReferenceDecoder().differences(kind, rows, table, [bson.encode(missed)]))
    assert {each.column for each in found} == {"v"}


def test_after_a_cut_the_last_rows_of_an_event_are_those_with_documents(server, system, name):
    """What was in the trail already is read by the other decoder all the same."""
    told = capture(
        server,
        Flavor(system),
        name,
        ["CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)"],
    )
    server.run(f"DROP DATABASE {name}")
    tables = TableMaps(told.flavor)
    ((_, body), (kind, rows)) = told.events
    table = tables.add(body)
    *_, last = RowsEncoder().documents(kind, rows, table, a_context()).documents
    assert list(ReferenceDecoder().differences(kind, rows, table, [last])) == []
    wrong = bson.decode(last)
    wrong["chg"]["id"]["t"] = 2

    (difference,) = ReferenceDecoder().differences(kind, rows, table, [bson.encode(wrong)])

    assert difference.row == 2
    assert (difference.ours, difference.theirs) == (2, 3)
