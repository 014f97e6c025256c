"""Two decoders read the same bytes; where they differ the sync stops."""

from __future__ import annotations

import pytest

from caretaker.errors import CorruptEventError
from resources.mysql import reference
from resources.mysql.reference import ReferenceRow


@pytest.fixture
def typed(either_bench):
    bench = either_bench
    bench.setup()
    bench.sql(
        f"CREATE TABLE {bench.name}.t (id BIGINT UNSIGNED PRIMARY KEY, a TINYINT, f FLOAT,"
        " g DOUBLE, d DECIMAL(30, 5), s VARCHAR(30) CHARACTER SET utf8mb4, y YEAR)",
        f"INSERT INTO {bench.name}.t VALUES"
        " (18446744073709551615, -5, 1.5, -2.25, -12.50001, 'é', 0),"
        " (2, NULL, NULL, NULL, NULL, '', NULL)",
        f"UPDATE {bench.name}.t SET a = 7, s = 'ü' WHERE id = 2",
        f"DELETE FROM {bench.name}.t WHERE a = -5",
    )
    return bench


def test_they_agree_on_what_both_can_read(typed):
    typed.sync(cross_check_percent=100)

    assert [each["op"] for each in typed.rows("t")] == ["i", "i", "u", "d"]


def test_a_difference_stops_before_the_row_is_written(typed, monkeypatch):
    sound = reference.Reference.rows

    def wrong(self):
        return [
            ReferenceRow(row.before, row.after and {**row.after, "a": 99})
            for row in sound(self) or []
        ]

    monkeypatch.setattr(reference.Reference, "rows", wrong)

    with pytest.raises(CorruptEventError, match="mysql-replication 99"):
        typed.sync(cross_check_percent=100)
    assert typed.rows("t") == []
