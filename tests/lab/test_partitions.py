"""Partitions of every type are found again by the values that table_partitions shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cratedb.idents import partition_ident

COLUMNS = {
    "ts": "timestamp",
    "Region": "text",
    "active": "boolean",
    "n": "integer",
    "o['a']": "text",
    "Über x": "text",
    'q"uote': "double precision",
}
VALUES: list[dict[str, Any]] = [
    {"ts": 1704067200000, "Region": "e'u:{}", "active": True, "n": 7, "o['a']": "x",
     "Über x": "ünï☃", 'q"uote': 1.5},
    {"ts": None, "Region": None, "active": None, "n": None, "o['a']": None, "Über x": None,
     'q"uote': None},
    {"ts": -1, "Region": "", "active": False, "n": -3, "o['a']": "'; --", "Über x": 'a"b',
     'q"uote': -0.25},
]  # fmt: skip


def clause(values):
    """Render a PARTITION clause as the facts say: base quoted, the rest verbatim."""
    parts = []
    for name in values:
        base, bracket, rest = name.partition("[")
        quoted = base.replace('"', '""')
        parts.append(f'"{quoted}"{bracket}{rest} = ?')
    return "PARTITION (" + ", ".join(parts) + ")"


def test_the_recorded_idents_come_out():
    assert partition_ident(["1704067200000", "e'u:{}", "x"]) == (
        "0c732dpg6go3cdpi60o30c1g0tiiet9qfdug4u0"
    )
    assert partition_ident(["1704153600000", None, "y"]) == "0c732dpg6gojacpm60o30c1g0017i"
    assert partition_ident(["1", "a", "b"]) == "0c1320j109h0"


def test_a_boolean_is_t_or_f_in_the_ident(lab):
    """StringType.java: not true and false."""
    table = lab.table("doc.b", partitioned_by=[("b", "boolean")], partitions=[{"b": True}])
    assert table.idents == [partition_ident(["t"])]


@given(st.lists(st.one_of(st.none(), st.text(max_size=300)), min_size=1, max_size=4),
       st.lists(st.one_of(st.none(), st.text(max_size=300)), min_size=1, max_size=4))  # fmt: skip
def test_different_values_never_share_an_ident(some, others):
    assert (partition_ident(some) == partition_ident(others)) == (some == others)


@pytest.fixture
def ask(lab, wire):
    lab.table("doc.p", shards=1, partitioned_by=list(COLUMNS.items()), partitions=VALUES)
    return wire(lab.url)


def test_keys_are_shown_unquoted(ask):
    rows = ask('SELECT "values" FROM information_schema.table_partitions').rows
    assert [row[0] for row in rows] == VALUES
    rows = ask("SELECT partitioned_by FROM information_schema.tables WHERE table_name = 'p'").rows
    assert rows == [[list(COLUMNS)]]


@pytest.mark.parametrize("values", VALUES, ids=["plain", "null", "odd"])
def test_a_partition_is_found_by_the_values_shown(values, ask, lab):
    statement = f"ALTER TABLE doc.p {clause(values)} SET (number_of_replicas = ?)"
    reply = ask(statement, [*values.values(), "2"])
    assert reply.status == 200, reply.text
    table = lab.table("doc.p")
    found = [v for v in VALUES if table.partition(v).number_of_replicas == "2"]
    assert found == [values]


def test_the_order_of_the_clause_does_not_matter(ask, lab):
    values = dict(reversed(VALUES[0].items()))
    statement = f"ALTER TABLE doc.p {clause(values)} SET (number_of_replicas = 0)"
    assert ask(statement, list(values.values())).status == 200
    assert lab.table("doc.p").partition(VALUES[0]).number_of_replicas == "0"


def test_an_iso_date_means_the_same_partition(lab, wire):
    lab.table("doc.d", partitioned_by=[("ts", "timestamp")], partitions=[{"ts": 1704067200000}])
    reply = wire(lab.url)(
        "ALTER TABLE doc.d PARTITION (ts = '2024-01-01') SET (number_of_replicas = 0)"
    )
    assert reply.status == 200, reply.text


def test_too_few_columns_and_unknown_values_are_told_apart(ask):
    few = ask('ALTER TABLE doc.p PARTITION ("n" = 7) SET (number_of_replicas = 0)')
    assert (few.status, few.code) == (400, 4000)
    values = VALUES[0] | {"n": 8}
    unknown = ask(f"OPTIMIZE TABLE doc.p {clause(values)}", list(values.values()))
    assert (unknown.status, unknown.code) == (404, 4046)


def test_an_insert_makes_its_partition(lab, wire):
    ask = wire(lab.url)
    ask("CREATE TABLE doc.q (d INT, o OBJECT AS (a TEXT), v INT) PARTITIONED BY (d, o['a']) "
        "CLUSTERED INTO 1 SHARDS")  # fmt: skip
    ask("INSERT INTO doc.q (d, o, v) VALUES (?, ?, ?)", bulk_args=[[1, {"a": "x"}, 1],
                                                                  [1, {"a": "x"}, 2],
                                                                  [2, None, 3]])  # fmt: skip
    rows = ask('SELECT "values" FROM information_schema.table_partitions').rows
    assert rows == [[{"d": 1, "o['a']": "x"}], [{"d": 2, "o['a']": None}]]
    assert ask("SELECT count(*) FROM doc.q").rows == [[3]]
