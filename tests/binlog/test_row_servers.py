# ruff: noqa: S608 - the tables are our own
"""What servers say today: the recorded stories again, rows of 20 MB, random changes of JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog import parts
from caretaker.binlog.frames import Packets
from caretaker.binlog.model import Flavor
from caretaker.binlog.rows import OnPartialImage, RowsEncoder
from tests.binlog import row_stories, wire
from tests.binlog.captures import Captured, a_context, capture, recorded
from tests.binlog.random_tables import KEYS, json_heard, json_told
from tests.binlog.sizes import looks

DATABASE = "caretaker_rows"
BOTH = pytest.mark.parametrize("flavor", [Flavor.MYSQL, Flavor.MARIADB])
MEGABYTE = 1 << 20
LONG_TEXT = f"REPEAT('é', {5 * MEGABYTE})"
LONG_BLOB = f"REPEAT(x'ff', {10 * MEGABYTE})"


@pytest.fixture
def captured_from(request):
    """Run statements in a database of their own."""

    def run(flavor: Flavor, statements: Any) -> Captured:
        server = request.getfixturevalue(f"{flavor}_server")
        server.run(f"DROP DATABASE IF EXISTS {DATABASE}")
        try:
            return capture(server, flavor, DATABASE, statements)
        finally:
            server.run(f"DROP DATABASE {DATABASE}")

    return run


STORIES = [
    (flavor, name) for flavor in Flavor for name in row_stories.stories(flavor) if name != "types"
]


@pytest.mark.parametrize(("flavor", "name"), STORIES)
def test_a_server_of_today_says_what_was_recorded(flavor, name, captured_from):
    """Every recording of rows, made again: what the tests without a server say is still true."""
    stories = row_stories.stories(flavor)
    today = captured_from(flavor, stories[name])
    if name == "minimal_metadata":
        assert today.tables()[0].missing == recorded(f"{flavor}-{name}")[0].tables()[0].missing
        return
    mark = OnPartialImage.MARK
    then = recorded(f"{flavor}-{name}")[0].documents(RowsEncoder(on_partial_image=mark))
    now = today.documents(RowsEncoder(on_partial_image=mark))
    assert [changed(d) for d in now] == [changed(d) for d in then]


def changed(document: dict[str, Any]) -> tuple[Any, ...]:
    meta = document["meta"]
    return document["op"], meta["tbl"], meta["pk"], document["chg"], document["seq"]


@BOTH
def test_a_row_of_twenty_megabytes_and_its_change(flavor, captured_from):
    """Two packets on the wire, a document that MongoDB would not take, and its pieces."""
    captured = captured_from(
        flavor,
        (
            "CREATE TABLE large (id INT PRIMARY KEY, a LONGTEXT CHARACTER SET utf8mb4, b LONGBLOB)",
            f"INSERT INTO large VALUES (1, {LONG_TEXT}, {LONG_BLOB})",
            "UPDATE large SET a = 'short'",
        ),
    )
    packets = (wire.event(kind, body) for kind, body in captured.events)
    joined = Packets().feed(b"".join(map(wire.packet, packets, _numbers_of(captured))))
    again = Captured(flavor, [(payload[5], payload[20:-4]) for payload in joined])
    inserted, updated = again.raw_documents()
    assert len(inserted) > 20 * MEGABYTE
    whole = bson.decode(inserted)["chg"]
    assert whole["a"] == {"t": "é" * 5 * MEGABYTE}
    assert whole["b"] == {"t": b"\xff" * 10 * MEGABYTE}
    # Only what changed is in the update, though both images have both values.
    assert bson.decode(updated)["chg"] == {"a": {"f": "é" * 5 * MEGABYTE, "t": "short"}}
    split = parts.split(inserted)
    assert len(split.head) < parts.LARGEST_DOCUMENT
    assert all(len(piece) < parts.LARGEST_DOCUMENT for piece in split.pieces)
    assert bson.decode(parts.join(split.head, split.pieces)) == bson.decode(inserted)
    assert parts.split(updated).pieces == ()


def _numbers_of(captured: Captured):
    """The first packet number of each event: one of 20 MB takes two."""
    number = 1
    for _, body in captured.events:
        yield number
        number += 1 + (len(body) + 24) // 0xFFFFFF


@BOTH
def test_an_event_of_many_rows_numbers_them_on(flavor, captured_from):
    """One INSERT of 3000 rows is many events; ids and numbers go on through all of them."""
    rows = ", ".join(f"({number}, REPEAT('x', {number % 50}))" for number in range(3000))
    captured = captured_from(
        flavor,
        (
            "CREATE TABLE many (id INT PRIMARY KEY, v VARCHAR(99))",
            f"INSERT INTO many VALUES {rows}",
        ),
    )
    assert len(captured.events) > 5
    documents = captured.documents(context=a_context(seq=7))
    assert [d["meta"]["pk"] for d in documents] == list(range(3000))
    assert [d["seq"] for d in documents] == list(range(7, 3007))
    assert [int.from_bytes(d["_id"][-4:], "big") for d in documents] == list(range(3000))


# --- PARTIAL_JSON ---------------------------------------------------------------------------------

_SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text('aé"\\', max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
_NAMES = ["a", "b c", 'q"t', "é", "", "x.y", "[0]", "\\", "\t"]
_FILLING = "x" * 400
_OPERATIONS = ["JSON_SET", "JSON_REPLACE", "JSON_INSERT", "JSON_REMOVE", "JSON_ARRAY_INSERT"]


def leg(name: str | int) -> str:
    return f"[{name}]" if isinstance(name, int) else f".{json.dumps(name, ensure_ascii=False)}"


@st.composite
def differences(draw: st.DrawFn) -> str:
    """An expression that changes a JSON column in some places."""
    expression = "j"
    for _ in range(draw(st.integers(1, 3))):
        operation = draw(st.sampled_from(_OPERATIONS))
        legs = draw(st.lists(st.sampled_from(_NAMES) | st.integers(0, 3), min_size=1, max_size=3))
        if operation == "JSON_ARRAY_INSERT":
            legs.append(draw(st.integers(0, 3)))
        path = "$" + "".join(map(leg, legs))
        arguments = f"_utf8mb4 x'{path.encode().hex()}'"
        if operation != "JSON_REMOVE":
            value = json.dumps(draw(_SMALL)).encode().hex()
            arguments += f", CAST(_utf8mb4 x'{value}' AS JSON)"
        expression = f"{operation}({expression}, {arguments})"
    return expression


@looks(10, 3000)
@given(
    start=st.dictionaries(st.sampled_from(_NAMES), _SMALL, max_size=5),
    changes=st.lists(differences(), min_size=1, max_size=6),
)
def test_random_json_updates_that_are_logged_as_differences_are_what_select_says(
    mysql_server, start, changes
):
    said: list[Any] = []

    def ask() -> None:
        ((text,),) = mysql_server.ask(f"SELECT j FROM {DATABASE}_json.p")
        said.append(json_heard(text))

    first = json.dumps(start | {"filling": _FILLING}).encode().hex()
    steps: list[Any] = [
        "DROP TABLE IF EXISTS p",
        "SET binlog_row_value_options = 'PARTIAL_JSON'",
        "CREATE TABLE p (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO p VALUES (1, CAST(_utf8mb4 x'{first}' AS JSON))",
        ask,
    ]
    for expression in changes:
        steps += [f"UPDATE p SET j = {expression}", ask]
    documents = capture(mysql_server, Flavor.MYSQL, f"{DATABASE}_json", steps).documents()

    states = [json_told(document["chg"]["j"]["t"]) for document in documents]
    # An UPDATE that changes nothing is not logged.
    assert states == [state for n, state in enumerate(said) if not n or state != said[n - 1]]
    for before, after in pairwise(documents):
        assert after["chg"]["j"]["f"] == before["chg"]["j"]["t"]
