"""Every statement on the shelf is one that CrateDB's grammar accepts, and says what we mean."""

from __future__ import annotations

import re
from typing import Any

import pytest
from antlr4 import CommonTokenStream
from cratedb_sqlparse import sqlparse
from cratedb_sqlparse.generated_parser.SqlBaseLexer import SqlBaseLexer
from cratedb_sqlparse.parser import CaseInsensitiveStream
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caretaker.errors import RefusedError
from caretaker.translog.model import PartitionRef, TableRef
from resources.sql import cratedb as shelf
from resources.sql.cratedb import Statement, flush, grant_dql_on_sys, set_replicas

CONSTANTS = {
    name: value
    for name, value in vars(shelf).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}

#: cratedb-sqlparse 0.0.17 dies of characters whose upper case is two, such as "ß".
LETTERS = st.characters(exclude_categories=["Cc", "Cs"]).filter(lambda c: len(c.upper()) == 1)

#: Whatever a catalog may hold; control characters are refused, which has its own test.
NAMES = st.one_of(
    st.sampled_from(
        ["metrics", "MySchema", "select", "table", "Täb-x$", 'a"b', '"', "a b", "a.b", "a?b",
         "it's", "a:b", "日本", "--", "/*", ";", "$$x$$"]
    ),
    st.text(LETTERS, min_size=1).filter(lambda name: "[" not in name),
)  # fmt: skip
COLUMNS = st.one_of(NAMES, st.sampled_from(["o['a']", "o['a b']['C']", "O\"x['?']"]))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.one_of(LETTERS, st.sampled_from("\n\t\r"))),
    st.sampled_from(["it's", "a?b", "''", '"', "\\", "$$", "--", "NULL", "2024-01-01T00:00:00Z"]),
)
TABLES = st.builds(TableRef, NAMES, NAMES)
PARTITIONS = st.builds(
    PartitionRef,
    TABLES,
    st.just("0c732"),
    st.lists(st.tuples(COLUMNS, VALUES), min_size=1, max_size=3, unique_by=lambda pair: pair[0])
    .map(tuple),
)  # fmt: skip
TARGETS = st.one_of(TABLES, PARTITIONS)
REPLICAS = st.sampled_from(["0", "1", "0-1", "0-all", "1-2", "0-0"])


def parsed(sql: str) -> Any:
    """The one statement that `sql` is."""
    statements = sqlparse(sql, raise_exception=True)
    assert len(statements) == 1
    assert statements[0].exception is None
    return statements[0]


def tokens(sql: str) -> list[Any]:
    """What CrateDB's lexer makes of `sql`: names and values as Python has them."""
    stream = CommonTokenStream(SqlBaseLexer(CaseInsensitiveStream(sql)))
    stream.fill()
    return [_value(token.text) for token in stream.tokens if token.channel == 0 and token.type > 0]


def _value(text: str) -> Any:
    if text[0] == '"':
        return ("name", text[1:-1].replace('""', '"'))
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    words = {"NULL": None, "TRUE": True, "FALSE": False}
    if text in words:
        return words[text]
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", text):
        return float(text) if re.search("[.eE]", text) else int(text)
    return ("word", text)


def signed(found: list[Any]) -> list[Any]:
    """Put minus signs back to their numbers."""
    values: list[Any] = []
    for token in found:
        negative = bool(values) and values[-1] == ("word", "-")
        if negative and isinstance(token, int | float):
            values[-1] = -token
        else:
            values.append(token)
    return values


def expected_names(target: TableRef | PartitionRef) -> list[Any]:
    return [("name", target.schema), ("name", target.name)]


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_question_we_ask_is_one_cratedb_understands(name):
    assert parsed(CONSTANTS[name]).type == "SELECT"


@pytest.mark.parametrize("name", CONSTANTS)
def test_no_question_reads_more_than_the_system_tables(name):
    relations = re.findall(r"FROM (\S+)", CONSTANTS[name])

    assert relations or CONSTANTS[name] == "SELECT 1"
    assert all(relation.startswith(("sys.", "information_schema.")) for relation in relations)


@settings(deadline=None)  # the first parse builds the parser's tables
@given(TARGETS, REPLICAS)
@example(TableRef("doc", "m"), "0-1")
def test_what_is_sent_is_valid_and_carries_its_values_beside_it(target, replicas):
    for statement in (set_replicas(target, replicas), flush(target)):
        parsed(statement.sql)
        placeholders = [token for token in tokens(statement.sql) if token == ("word", "?")]
        assert len(placeholders) == len(statement.args)
        assert tokens(statement.sql)[2] == ("name", target.schema)
        assert tokens(statement.sql)[4] == ("name", target.name)


@settings(deadline=None)
@given(TARGETS, REPLICAS)
@example(PartitionRef(TableRef("d", "m"), "x", (("ts?", "a?b"), ("o['?']", "?"))), "0-1")
def test_what_a_person_pastes_says_the_same_values(target, replicas):
    statement = set_replicas(target, replicas)

    parsed(statement.rendered)
    sent, pasted = signed(tokens(statement.sql)), signed(tokens(statement.rendered))
    values = iter(statement.args)
    assert pasted == [next(values) if token == ("word", "?") else token for token in sent]
    assert not list(values)
    assert pasted[-2] == replicas


@settings(deadline=None)
@given(PARTITIONS)
def test_a_partition_is_never_changed_by_way_of_its_table(partition):
    for statement in (set_replicas(partition, "0"), flush(partition)):
        assert ("word", "PARTITION") in tokens(statement.sql)
        assert list(statement.args)[: len(partition.values)] == [v for _, v in partition.values]


def test_a_partition_without_values_is_refused_rather_than_widened_to_its_table():
    with pytest.raises(RefusedError, match="no values"):
        set_replicas(PartitionRef(TableRef("doc", "m"), "04132", ()), "0")


@pytest.mark.parametrize("column", ["o['a'] = 1) SET (x", "o['a']; DROP", "o['it's']", "o["])
def test_a_column_that_is_more_than_a_name_and_subscripts_is_refused(column):
    partition = PartitionRef(TableRef("doc", "m"), "04132", ((column, 1),))

    with pytest.raises(RefusedError, match="partition column"):
        set_replicas(partition, "0")


@pytest.mark.parametrize("name", ["", "a\x00b", "a\nb", "a\x7fb"])
def test_names_that_no_catalog_holds_are_refused(name):
    with pytest.raises(RefusedError):
        set_replicas(TableRef("doc", name), "0")


def test_the_statements_look_as_the_runbook_has_them():
    partition = PartitionRef(
        TableRef("doc", "metrics"),
        "0c732",
        (("ts", 1704067200000), ("Region", "e'u:{}"), ("o['a']", None), ("b", True)),
    )

    assert set_replicas(partition, "0-1").sql == (
        'ALTER TABLE "doc"."metrics" PARTITION ("ts" = ?, "Region" = ?, "o"[\'a\'] = ?, "b" = ?) '
        'SET ("number_of_replicas" = ?)'
    )
    assert flush(partition).rendered == (
        'OPTIMIZE TABLE "doc"."metrics" PARTITION ("ts" = 1704067200000, "Region" = \'e\'\'u:{}\', '
        '"o"[\'a\'] = NULL, "b" = TRUE) WITH (max_num_segments = 100000, flush = true)'
    )


@settings(deadline=None)
@given(NAMES)
def test_the_grant_to_run_is_valid_for_any_user(user):
    assert parsed(grant_dql_on_sys(user).rendered).type == "GRANT"


def test_a_question_mark_in_a_name_is_no_placeholder():
    assert Statement("SELECT \"a?\" FROM t WHERE b = ? AND c = '?'", (1,)).rendered == (
        "SELECT \"a?\" FROM t WHERE b = 1 AND c = '?'"
    )
