"""Rows in are documents out: once, in order, without a hole."""

from __future__ import annotations

import pytest

from caretaker.errors import UnsafeError
from tests.binlog_sync.bench import wait_until


def _seqs(documents):
    return [each["seq"] for each in documents]


def test_every_change_becomes_a_document(either_bench):
    bench = either_bench
    bench.setup()
    bench.sql(
        f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY, v VARCHAR(20))",
        f"INSERT INTO {bench.name}.t VALUES (1, 'a'), (2, 'b')",
        f"UPDATE {bench.name}.t SET v = 'c' WHERE id = 2",
        f"DELETE FROM {bench.name}.t WHERE id = 1",
    )

    summary = bench.sync()

    rows = bench.rows("t")
    assert [(each["op"], each["meta"]["pk"], each["chg"]) for each in rows] == [
        ("i", 1, {"id": {"t": 1}, "v": {"t": "a"}}),
        ("i", 2, {"id": {"t": 2}, "v": {"t": "b"}}),
        ("u", 2, {"v": {"f": "b", "t": "c"}}),
        ("d", 1, {"id": {"f": 1}, "v": {"f": "a"}}),
    ]
    assert _seqs(bench.documents()) == list(range(1, summary.seq + 1))
    assert summary.why == "until_current"
