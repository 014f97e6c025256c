"""What `--execute` prints, pasted back statement by statement, does what it says."""

from __future__ import annotations

from typing import Any

import pytest
from cratedb_sqlparse import sqlparse

SICK = 1840
DAY = 1735689600000

#: Names that an unquoted, or badly quoted, identifier would break on.
NAMES = [
    ("doc", "plain"),
    ("doc", "UPPER"),
    ("Doc", "select"),
    ("table", "from"),
    ("doc", 'quo"ted'),
    ("doc", "it's"),
    ("doc", "with blank"),
    ("doc", "semi;colon"),
    ("doc", "da--sh"),
    ("Schéma", "täbelle_数据"),
    ("doc", "x" * 200),
]

#: Partition columns with their types, and values of them.
PARTITIONS: dict[str, Any] = {
    "timestamp": ([("day", "timestamp")], [{"day": DAY}, {"day": DAY + 86_400_000}]),
    "text": ([("region", "text")], [{"region": "eu"}, {"region": "it's; -- 'x'"}, {"region": ""}]),
    "null": ([("region", "text")], [{"region": None}, {"region": "null"}]),
    "boolean": ([("active", "boolean")], [{"active": True}, {"active": False}]),
    "integer": ([("n", "integer")], [{"n": -5}, {"n": 0}]),
    "several": (
        [("ts", "timestamp"), ("Region", "text"), ("active", "boolean")],
        [
            {"ts": DAY, "Region": "a,b=c", "active": True},
            {"ts": DAY, "Region": None, "active": None},
        ],
    ),
    "subscript": ([("o['a']", "text")], [{"o['a']": "x"}, {"o['a']": 'y"z'}]),
    "blank": ([("my col", "text")], [{"my col": "a b"}]),
    "reserved": ([("order", "text")], [{"order": "select"}]),
    # No "ß": cratedb-sqlparse, and the lab with it, fails on what is two letters in upper case.
    "unicode": ([("città", "text")], [{"città": "perù 数"}]),
    "newline": ([("region", "text")], [{"region": "a\nb"}]),
}


def paste(lab, ended):
    """Run what was printed, each statement by itself, as a person would."""
    for statement in ended.statements:
        answer = lab.sql(statement)
        assert "error" not in answer, (statement, answer)


def parsed(statements):
    """CrateDB's own grammar takes each, as exactly one statement."""
    assert statements
    for statement in statements:
        found = sqlparse(statement, raise_exception=True)
        assert len(found) == 1, statement


def test_names_of_every_kind(caretaker, lab):
    tables = [lab.table(name, shards=1, replicas="1", sick_mb=SICK) for name in NAMES]

    ended = caretaker("translogs", "--execute")
    parsed(ended.statements)
    assert len(ended.statements) == 3 * len(NAMES)
    paste(lab, ended)

    assert {table.number_of_replicas for table in tables} == {"1"}
    assert all(table.worst_mb < 1 for table in tables)
    assert lab.at_zero() == []


@pytest.mark.parametrize("kind", PARTITIONS)
def test_partitions_of_every_type(caretaker, lab, kind):
    """The partition that is sick, and no other."""
    columns, partitions = PARTITIONS[kind]
    calm = lab.table("doc.calm", replicas="2")
    table = lab.table(
        "doc.p", shards=1, replicas="0-1", partitioned_by=columns, partitions=partitions,
        sick_mb=SICK,
    )  # fmt: skip
    seen = []
    lab.world.on_replicas.append(lambda what, _: seen.append(getattr(what, "name", str(what))))

    ended = caretaker("translogs", "--execute")
    document = caretaker("translogs", "--output", "json").json
    statements = [s for one in document["tables"] for s in one["statements"]]
    parsed(statements)
    assert len(statements) == 3 * len(partitions)
    assert sorted(str(one["partition"]) for one in document["tables"]) == sorted(
        map(str, partitions)
    )
    for statement in statements:
        answer = lab.sql(statement)
        assert "error" not in answer, (statement, answer)

    assert ended.code == 0
    for values in partitions:
        partition = table.partition(values)
        assert partition.number_of_replicas == "0-1"
        assert partition.worst_mb < 1
    assert table.number_of_replicas == "0-1"
    assert calm.number_of_replicas == "2"
    assert lab.at_zero() == []


def test_the_exact_text_of_the_replicas_comes_back(caretaker, lab):
    """Text, not a number: a bare 0-1 would be -1."""
    texts = ["0-1", "0-all", "1-all", "1", "2", "1-2"]
    tables = [
        lab.table(f"doc.t{n}", replicas=text, shards=1, sick_mb=SICK)
        for n, text in enumerate(texts)
    ]

    ended = caretaker("translogs", "--execute")
    parsed(ended.statements)
    paste(lab, ended)

    assert [table.number_of_replicas for table in tables] == texts
    assert all(table.worst_mb < 1 for table in tables)


def test_a_partition_with_replicas_of_its_own_keeps_them(caretaker, lab):
    """The override is put back, the table's own value stays what it was."""
    table = lab.table(
        "doc.p", replicas="1", partitioned_by=[("day", "timestamp")],
        partitions=[{"day": DAY}, {"day": DAY + 1000}], sick_mb=SICK,
    )  # fmt: skip
    table.partition({"day": DAY}).set_replicas("0-all")

    paste(lab, caretaker("translogs", "--execute"))

    assert table.partition({"day": DAY}).number_of_replicas == "0-all"
    assert table.partition({"day": DAY + 1000}).number_of_replicas == "1"
    assert table.number_of_replicas == "1"


def test_what_is_left_alone_is_a_comment_on_one_line(caretaker, lab):
    """So the whole output can be pasted as it stands, whatever a value contains."""
    lab.table(
        "doc.p", partitioned_by=[("r", "text")], sick_mb=700,
        partitions=[{"r": "a\nDROP TABLE doc.p;\n--"}],
    )  # fmt: skip

    ended = caretaker("translogs", "--execute")

    assert ended.statements == []
    assert all(line.startswith("--") for line in ended.out.splitlines())
    assert "left alone" in ended.out
