# ruff: noqa: S608 - the tables are our own
"""Random tables and rows of all types: the trail, replayed, is what SELECT says after each step.

`--hypothesis-profile=long` looks at many more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog.model import Flavor
from caretaker.binlog.tablemap import KnownTypes
from tests.binlog.captures import capture
from tests.binlog.random_tables import Kind, kinds
from tests.binlog.sizes import looks
from tests.binlog.type_cases import of_flavor

DATABASE = "caretaker_select"
_SPELLED_AS_EXPECTED = ("tiny_", "small", "big", "whole", "date", "time_", "choice", "inet")
ROWS = st.lists(st.integers(0, 2**16), min_size=1, max_size=6, unique=True)


@dataclass
class Asked:
    """A table of random columns, and what SELECT said of it."""

    server: Any
    columns: list[Kind]
    snapshots: list[dict[int, list[Any]]] = field(default_factory=list)

    def create(self) -> str:
        columns = ", ".join(f"c{n} {kind.definition}" for n, kind in enumerate(self.columns))
        return f"CREATE TABLE t (id INT PRIMARY KEY, {columns}) ROW_FORMAT=DYNAMIC"

    def known(self) -> KnownTypes:
        told = {f"c{n}": kind.known for n, kind in enumerate(self.columns) if kind.known}
        return {(DATABASE, "t"): told}

    def select(self) -> None:
        columns = ", ".join(kind.select.format(f"c{n}") for n, kind in enumerate(self.columns))
        connection = self.server.connect(conv={}, database=DATABASE, charset="utf8mb4")
        with connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            cursor.execute(f"SELECT id, {columns} FROM t")
            self.snapshots.append(
                {int(key): self.heard(values) for key, *values in cursor.fetchall()}
            )

    def heard(self, values: list[str | None]) -> list[Any]:
        return [
            None if value is None else kind.heard(value)
            for kind, value in zip(self.columns, values, strict=True)
        ]

    def told(self, number: int, value: Any) -> Any:
        return None if value is None else self.columns[number].told(value)


def some_rows(columns: list[Kind], data: st.DataObject) -> dict[int, list[str]]:
    return {
        key: [data.draw(st.just("NULL") | kind.values | kind.values) for kind in columns]
        for key in data.draw(ROWS)
    }


@pytest.mark.parametrize("flavor", [Flavor.MYSQL, Flavor.MARIADB])
@looks(20, 2000)
@given(data=st.data())
def test_the_trail_says_what_select_says(flavor, request, data):
    server = request.getfixturevalue(f"{flavor}_server")
    asked = Asked(server, data.draw(st.lists(kinds(flavor), min_size=1, max_size=12)))
    rows = some_rows(asked.columns, data)
    steps: list[Any] = ["DROP TABLE IF EXISTS t", asked.create()]
    listed = ", ".join(f"({key}, {', '.join(values)})" for key, values in rows.items())
    steps += [f"INSERT IGNORE INTO t VALUES {listed}", asked.select]
    for _ in range(data.draw(st.integers(1, 3))):
        chosen = data.draw(st.sets(st.sampled_from(range(len(asked.columns))), min_size=1))
        new = ", ".join(
            f"c{n} = {data.draw(st.just('NULL') | asked.columns[n].values)}" for n in sorted(chosen)
        )
        keys = ", ".join(map(str, data.draw(st.sets(st.sampled_from(list(rows)), min_size=1))))
        steps += [f"UPDATE IGNORE t SET {new} WHERE id IN ({keys})", asked.select]
    steps += ["DELETE FROM t", asked.select]
    captured = capture(server, flavor, DATABASE, steps)

    assert_replayed(asked, captured.documents(known_types=asked.known()))


@pytest.mark.parametrize("flavor", [Flavor.MYSQL, Flavor.MARIADB])
def test_the_cases_that_were_chosen_by_hand_are_spelled_as_select_spells_them(flavor, request):
    """The expected values of `type_cases` are a person's; this is the server's word for them."""
    server = request.getfixturevalue(f"{flavor}_server")
    plain = {
        case.name: case
        for case in of_flavor(flavor)
        if case.name.startswith(
            ("tiny_", "small", "big", "whole", "date", "time_", "choice", "inet")
        )
        or case.name.endswith("text_")
    }
    said: dict[str, list[Any]] = {}

    def ask() -> None:
        for case in plain.values():
            rows = server.ask(f"SELECT CAST(v AS CHAR) FROM {DATABASE}.{case.name} ORDER BY id")
            said[case.name] = [value for (value,) in rows]

    statements = [f"DROP DATABASE IF EXISTS {DATABASE}", f"CREATE DATABASE {DATABASE}"]
    server.run(*statements)
    steps: list[Any] = []
    for case in plain.values():
        steps.append(f"CREATE TABLE {case.name} (id INT PRIMARY KEY, v {case.definition})")
        steps += [
            f"INSERT INTO {case.name} VALUES ({number}, {expression})"
            for number, (expression, _) in enumerate(case.values)
        ]
    capture(server, flavor, DATABASE, [*steps, ask])

    for case in plain.values():
        assert said[case.name] == [str(value) for _, value in case.values], case.name


def assert_replayed(asked: Asked, documents: list[dict[str, Any]]) -> None:
    """Apply the changes in their order; at each SELECT there was such a state."""
    state: dict[int, list[Any]] = {}
    states = [dict(state)]
    for document in documents:
        key, change = document["meta"]["pk"], document["chg"]
        columns = {int(n[1:]): sides for n, sides in change.items() if n != "id"}
        if document["op"] == "i":
            assert sorted(columns) == list(range(len(asked.columns)))
            state[key] = [asked.told(n, columns[n]["t"]) for n in sorted(columns)]
        else:
            for number, sides in columns.items():
                assert asked.told(number, sides["f"]) == state[key][number]
            state[key] = list(state[key])
            if document["op"] == "d":
                assert sorted(columns) == list(range(len(asked.columns)))
                del state[key]
            else:
                assert "id" not in change
                for number, sides in columns.items():
                    state[key][number] = asked.told(number, sides["t"])
        states.append(dict(state))
    seen = 0
    for number, snapshot in enumerate(asked.snapshots):
        while seen < len(states) and states[seen] != snapshot:
            seen += 1
        assert seen < len(states), f"SELECT {number} said {snapshot}, last {states[-1]}"
    assert not state
