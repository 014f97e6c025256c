"""kill -9 of the bare syncer at any moment loses nothing and doubles nothing."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from caretaker.binlog.history import row_after
from tests.binlog_sync.bench import PATIENCE_S, wait_until
from tests.binlog_sync.children import child


@pytest.mark.parametrize("protocol", ["staged", "direct", "idempotent"])
def test_killed_under_load_the_trail_is_whole(either_bench, protocol):
    bench = either_bench
    bench.setup()
    bench.sql(f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY, n INT, v VARCHAR(40))")
    chance = random.Random(7)
    enough = threading.Event()
    written = 0

    def load():
        nonlocal written
        step = 0
        while not enough.is_set():
            step += 1
            size = chance.choice([1, 1, 3, 40, 700])
            first = written + 1
            with bench.transaction() as run:
                values = ", ".join(f"({n}, {step}, 'x')" for n in range(first, first + size))
                run(f"INSERT INTO t VALUES {values}")
                run(f"UPDATE t SET n = n + 1 WHERE id % 50 = {step % 50}")
            written += size
            time.sleep(0.01)

    loader = threading.Thread(target=load)
    loader.start()
    try:
        for _ in range(4):
            with child(bench, protocol=protocol, batch_rows=150) as running:
                running.ready()
                time.sleep(chance.uniform(0.0, 0.8))
                running.kill()
    finally:
        enough.set()
        loader.join(PATIENCE_S)
    with child(bench, protocol=protocol, until_current=True) as last:
        assert last.end() == 0, last.lines

    documents = bench.documents()
    assert [each["seq"] for each in documents] == list(range(1, len(documents) + 1))
    by_key: dict[int, list[dict[str, Any]]] = {}
    for each in bench.rows("t"):
        by_key.setdefault(each["meta"]["pk"], []).append(each)
    trail = {key: row_after(changes) for key, changes in by_key.items()}
    assert not [row.breaks for row in trail.values() if row.breaks]
    have = {row[0]: row for row in bench.server.ask(f"SELECT id, n, v FROM {bench.name}.t")}
    assert {key: tuple(row.columns.values()) for key, row in trail.items()} == have


def test_sigterm_flushes_and_ends_clean(bench):
    bench.setup()
    bench.sql(f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)")
    with child(bench) as running:
        running.ready()
        bench.sql(f"INSERT INTO {bench.name}.t VALUES (1), (2), (3)")
        wait_until(lambda: len(bench.rows("t")) == 3, "3 rows")
        assert running.terminate() == 0

    assert any(line.startswith("Flushing ") for line in running.lines)
    assert bench.offset()["inflight"] is None
