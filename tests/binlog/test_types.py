"""Every line of the table of types: its values and extremes, in both images of every change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from caretaker.binlog.filters import Filters
from caretaker.binlog.model import Flavor
from caretaker.binlog.rows import RowsEncoder
from tests.binlog import row_stories
from tests.binlog.captures import Captured, capture, recorded
from tests.binlog.type_cases import MARIADB, MYSQL, Case, Int32, of_flavor, same

Trail = dict[str, list[dict[str, Any]]]
EACH_CASE = [
    pytest.param(flavor, case, id=f"{flavor}-{case.name}")
    for flavor in (MYSQL, MARIADB)
    for case in of_flavor(flavor)
]


@pytest.fixture(scope="module")
def live() -> dict[Flavor, Trail]:
    """What was captured of each server, once."""
    return {}


@pytest.fixture
def trail_of_server(request, live):
    """Documents by table, of statements that the server runs now."""

    def trail(flavor: Flavor) -> Trail:
        if flavor not in live:
            server = request.getfixturevalue(f"{flavor}_server")
            database = "caretaker_types"
            server.run(f"DROP DATABASE IF EXISTS {database}")
            captured = capture(server, flavor, database, row_stories.types(flavor))
            live[flavor] = by_table(captured, database)
            server.run(f"DROP DATABASE {database}")
        found: Trail = live[flavor]
        return found

    return trail


@cache
def recorded_trail(flavor: Flavor, generate_after: int | None) -> Trail:
    encoder = RowsEncoder(generate_after=generate_after)
    return by_table(recorded(f"{flavor}-types")[0], "recorded", encoder)


def by_table(captured: Captured, database: str, encoder: RowsEncoder | None = None) -> Trail:
    trail = defaultdict(list)
    for document in captured.documents(encoder, row_stories.known_types(database)):
        trail[document["meta"]["tbl"]].append(document)
    return trail


@pytest.mark.parametrize("generate_after", [0, None], ids=["generated", "plain"])
@pytest.mark.parametrize(("flavor", "case"), EACH_CASE)
def test_a_type_is_in_the_trail_as_the_table_says(flavor, case, generate_after):
    assert_trail(case, recorded_trail(flavor, generate_after)[case.name])


@pytest.mark.parametrize(("flavor", "case"), EACH_CASE)
def test_a_type_of_a_server_of_today_is_in_the_trail_as_the_table_says(
    flavor, case, trail_of_server
):
    assert_trail(case, trail_of_server(flavor)[case.name])


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_a_dropped_neighbour_shifts_nothing(flavor):
    """Whatever column is left out, the others keep their values."""
    dropping = RowsEncoder(filters=Filters(drop=(r".*\.v",)))
    known = row_stories.known_types("recorded")
    for whole, without in zip(
        recorded(f"{flavor}-types")[0].documents(known_types=known),
        recorded(f"{flavor}-types")[0].documents(dropping, known_types=known),
        strict=True,
    ):
        whole["chg"].pop("v", None)
        assert without == whole


def assert_trail(case: Case, documents: list[dict[str, Any]]) -> None:
    expected = list(changes(case))
    found = [(d["op"], d["meta"]["pk"], d["chg"]) for d in documents]
    assert [(op, key) for op, key, _ in found] == [(op, key) for op, key, _ in expected]
    for (op, key, change), (_, _, wanted) in zip(found, expected, strict=True):
        assert same(change, wanted), (op, key, change, wanted)


def changes(case: Case) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(op, pk, chg) of what `type_cases.statements` does."""
    values = [value for _, value in case.values]
    for key, value in enumerate(values):
        yield "i", key, {"id": {"t": Int32(key)}, "v": {"t": value}, "w": {"t": None}}
    for key, value in enumerate(values):
        yield "u", key, {"v": {"f": value, "t": None}}
    for key, value in enumerate(values):
        yield "u", key, {"v": {"f": None, "t": value}}
    for key in range(len(values)):
        yield "u", key, {"w": {"f": None, "t": Int32(1)}}
    for key, value in enumerate(values[1:], 1):
        yield "u", key, {"v": {"f": value, "t": values[0]}}
    for key in range(len(values)):
        yield "d", key, {"id": {"f": Int32(key)}, "v": {"f": values[0]}, "w": {"f": Int32(1)}}
