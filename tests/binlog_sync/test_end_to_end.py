"""Rows in are documents out: once, in order, without a hole."""

from __future__ import annotations

import contextlib
import json
from zoneinfo import ZoneInfo

import pymysql
import pytest

from caretaker.errors import FencedError, LostPositionError, UnsafeError
from ops.binlog_syncer import FlushFailedError
from resources.mongodb.offsets import Holder
from resources.mongodb.trail import Trail
from tests.binlog_sync.bench import Running, wait_until


@pytest.fixture(autouse=True)
def _set_up(request):
    for name in ("bench", "either_bench"):
        if name in request.fixturenames:
            request.getfixturevalue(name).setup()


def seqs(documents):
    return [each["seq"] for each in documents]


def many(table, first, count, wide=0):
    rows = ((number, f"v{number}".ljust(wide, ".")) for number in range(first, first + count))
    return f"INSERT INTO {table} VALUES {', '.join(map(str, rows))}"


def table_of(bench, name="t"):
    bench.sql(f"CREATE TABLE {bench.name}.{name} (id INT PRIMARY KEY, v VARCHAR(40))")
    return f"{bench.name}.{name}"


def test_every_change_becomes_a_document(either_bench):
    bench = either_bench
    table = table_of(bench)
    bench.sql(
        f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b')",
        f"UPDATE {table} SET v = 'c' WHERE id = 2",
        f"DELETE FROM {table} WHERE id = 1",
    )

    summary = bench.sync()

    assert [(each["op"], each["meta"]["pk"], each["chg"]) for each in bench.rows("t")] == [
        ("i", 1, {"id": {"t": 1}, "v": {"t": "a"}}),
        ("i", 2, {"id": {"t": 2}, "v": {"t": "b"}}),
        ("u", 2, {"v": {"f": "b", "t": "c"}}),
        ("d", 1, {"id": {"f": 1}, "v": {"f": "a"}}),
    ]
    assert seqs(bench.documents()) == list(range(1, summary.seq + 1))
    assert summary.why == "until_current"


def test_a_second_run_goes_on_where_the_first_ended(either_bench):
    bench = either_bench
    table = table_of(bench)
    bench.sql(many(table, 1, 3))
    first = bench.sync()
    bench.sql(many(table, 4, 2))

    second = bench.sync()

    assert [each["meta"]["pk"] for each in bench.rows("t")] == [1, 2, 3, 4, 5]
    assert second.seq == first.seq + 2
    assert any(said.startswith("Resuming from saved GTID") for said in bench.said())
    assert any(said.startswith("Starting from") for said in bench.said())


def test_a_transaction_larger_than_any_batch_is_cut_and_whole(either_bench):
    bench = either_bench
    table = table_of(bench)
    bench.sql(many(table, 1, 2500))

    bench.sync(batch_rows=100)

    assert [each["meta"]["pk"] for each in bench.rows("t")] == list(range(1, 2501))
    assert len({each["_id"] for each in bench.documents()}) == len(bench.documents())


def test_definitions_and_schema_versions_are_in_the_trail(bench):
    table = table_of(bench)
    bench.sql(
        many(table, 1, 1),
        f"ALTER TABLE {table} ADD w INT",
        f"INSERT INTO {table} VALUES (2, 'b', 3)",
    )

    bench.sync()

    told = [each["ddl"]["sql"] for each in bench.documents() if each["op"] == "ddl"]
    assert any("ADD w INT" in sql for sql in told)
    with bench.mongo() as client:
        versions = [
            [column["name"] for column in each["columns"]]
            for each in client[bench.name].schema_versions.find({"tbl": "t"})
        ]
    assert sorted(versions) == [["id", "v"], ["id", "v", "w"]]


@pytest.mark.parametrize("protocol", ["staged", "direct", "idempotent"])
def test_each_protocol_leaves_the_same_trail(bench, protocol):
    table = table_of(bench)
    bench.sql(many(table, 1, 700), f"UPDATE {table} SET v = 'w' WHERE id % 2 = 0")

    bench.sync(protocol=protocol, batch_rows=90)

    rows = bench.rows("t")
    assert [each["op"] for each in rows] == ["i"] * 700 + ["u"] * 350
    assert seqs(bench.documents()) == list(range(1, len(bench.documents()) + 1))


def test_rows_arrive_while_it_runs_and_a_stop_writes_what_was_read(either_bench):
    bench = either_bench
    table = table_of(bench)
    with bench.running() as running:
        bench.sql(many(table, 1, 10))
        wait_until(lambda: len(bench.rows("t")) == 10, "10 rows")
        bench.sql(many(table, 11, 500))
        summary = running.stop()

    assert summary.why == "stopped"
    assert any(said.startswith("Flushing ") for said in bench.said())
    after = bench.sync()
    assert [each["meta"]["pk"] for each in bench.rows("t")] == list(range(1, 511))
    assert seqs(bench.documents()) == list(range(1, after.seq + 1))


def test_a_pause_ends_the_run_and_keeps_others_from_starting(bench):
    with bench.running() as running:
        with Trail.open(bench.settings) as trail:
            trail.pause(bench.name, "somebody", "a test")
        assert running.end().why == "paused"

    with pytest.raises(UnsafeError, match="paused by somebody: a test"):
        bench.sync()
    with Trail.open(bench.settings) as trail:
        trail.resume(bench.name)
    assert bench.sync().why == "until_current"


def test_who_is_fenced_stops_and_writes_nothing_more(bench):
    table = table_of(bench)
    with bench.syncer() as syncer:
        running = Running(syncer, bench.told).ready()
        with Trail.open(bench.settings) as trail:
            trail.release(trail.acquire(bench.name, Holder("another")))
        bench.sql(many(table, 1, 5))
        with pytest.raises(FencedError):
            running.end()

    assert bench.rows("t") == []


def test_an_empty_trail_may_begin_now(bench):
    table = table_of(bench)
    bench.sql(many(table, 1, 5))
    bench.sync(start="current")
    bench.sql(many(table, 6, 2))

    bench.sync()

    assert [each["meta"]["pk"] for each in bench.rows("t")] == [6, 7]
    assert seqs(bench.documents()) == [1, 2]


def test_a_trail_with_an_end_begins_nowhere_else(bench):
    bench.sync()

    with pytest.raises(UnsafeError, match="would lose rows, or write them twice"):
        bench.sync(start="earliest")


def test_filters_change_between_two_transactions_and_the_trail_says_so(bench):
    t, u = table_of(bench), table_of(bench, "u")
    bench.sql(many(t, 1, 2), many(u, 1, 2))
    bench.sync(include=[rf"{bench.name}\.t"])
    bench.sql(many(t, 3, 1), many(u, 3, 1))

    bench.sync(include=[rf"{bench.name}\.u"])

    assert [(each["meta"]["tbl"], each["meta"]["pk"]) for each in bench.rows()] == [
        ("t", 1),
        ("t", 2),
        ("u", 3),
    ]
    (said,) = [each for each in bench.documents() if each["op"] == "topology"]
    assert set(said["topology"]) == {"filters_before", "filters_after"}
    assert seqs(bench.documents()) == list(range(1, len(bench.documents()) + 1))


def test_new_filters_wait_for_the_end_of_a_transaction_in_flight(bench):
    """The first run is stopped inside a transaction; its rest comes with its own filters."""
    t = table_of(bench)
    bench.sync(include=[rf"{bench.name}\.t"])
    # More than the queue holds: a stop writes what was read, and most of it was not.
    bench.sql(f"ALTER TABLE {t} MODIFY v TEXT", many(t, 1, 3000, wide=2000))
    with bench.syncer(include=[rf"{bench.name}\.t"], batch_rows=10, queue_bytes=1 << 20) as syncer:
        running = Running(syncer, bench.told).ready()
        wait_until(lambda: bench.offset()["inflight"] or running.summary, "a transaction in flight")
        syncer.stop()
        running.end()
    cut = bench.offset()["inflight"]

    bench.sync(include=[rf"{bench.name}\.nothing"])

    assert cut is not None, "the whole transaction was through before the stop"
    assert [each["meta"]["pk"] for each in bench.rows("t")] == list(range(1, 3001))


def test_masks_hide_what_they_name(bench):
    table = table_of(bench)
    bench.sql(many(table, 1, 1))

    bench.sync(mask=[rf"{bench.name}\.t\.v"])

    assert bench.rows("t")[0]["chg"] == {"id": {"t": 1}, "v": {"t": "***"}}


def test_a_local_time_stands_beside_ts(bench):
    table = table_of(bench)
    bench.sql(many(table, 1, 1))

    bench.sync(zone="Asia/Kolkata", zone_name="ist")

    (row,) = bench.rows("t")
    assert row["ts_ist"] == f"{row['ts'].astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M:%S}"


def test_a_lost_connection_to_the_source_is_made_again(bench):
    table = table_of(bench)
    with bench.running(heartbeat_s=0.5):
        bench.sql(many(table, 1, 3))
        wait_until(lambda: len(bench.rows("t")) == 3, "3 rows")
        for (number,) in bench.server.ask(
            "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        ):
            # It may have ended by itself.
            with contextlib.suppress(pymysql.MySQLError):
                bench.sql(f"KILL {number}")
        bench.sql(many(table, 4, 3))
        wait_until(lambda: len(bench.rows("t")) == 6, "6 rows")

    assert any("The source is away" in said for said in bench.said())
    assert seqs(bench.documents()) == list(range(1, len(bench.documents()) + 1))


def test_what_was_purged_before_it_was_read_stops_it_and_is_never_jumped(
    start_mysql, mongodb_server, name
):
    from resources.mongodb.settings import MongoDBSettings  # noqa: PLC0415
    from tests.binlog_sync.bench import Bench  # noqa: PLC0415

    server = start_mysql()
    with Bench(server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        table = table_of(bench)
        bench.sync()
        before = bench.offset()["gtid"]
        bench.sql(
            many(table, 1, 3),
            "FLUSH BINARY LOGS",
            "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY",
        )

        with pytest.raises(LostPositionError) as lost:
            bench.sync()

        assert bench.offset()["gtid"] == before
        assert str(lost.value.target)


def test_a_flush_that_takes_too_long_is_told_and_loses_nothing(bench, start_mongodb):
    from resources.mongodb.settings import MongoDBSettings  # noqa: PLC0415

    mongodb = start_mongodb()
    bench.settings = MongoDBSettings(mongodb.url, bench.name, server_selection_timeout_s=1.0)
    bench.setup()
    table = table_of(bench)
    bench.sync()
    with bench.syncer(shutdown_flush_s=1.0) as syncer:
        running = Running(syncer, bench.told).ready()
        mongodb.kill_front()
        bench.sql(many(table, 1, 50))
        wait_until(lambda: syncer.metrics.vitals().breaker != "closed", "an open breaker")
        syncer.stop()
        with pytest.raises(FlushFailedError, match="failed shutdown flush"):
            running.end()
    assert syncer.metrics.vitals().flush_failed

    mongodb.start_front()
    bench.sync()
    assert [each["meta"]["pk"] for each in bench.rows("t")] == list(range(1, 51))


def test_while_mongodb_is_away_batches_wait_on_the_disk(bench, start_mongodb, tmp_path):
    from resources.mongodb.settings import MongoDBSettings  # noqa: PLC0415

    mongodb = start_mongodb()
    bench.settings = MongoDBSettings(mongodb.url, bench.name, server_selection_timeout_s=1.0)
    bench.setup()
    table = table_of(bench)
    bench.sync()
    with bench.running(spool_dir=str(tmp_path)) as running:
        mongodb.kill_front()
        bench.sql(many(table, 1, 20))
        vitals = running.syncer.metrics.vitals
        wait_until(lambda: vitals().spooled_batches, "something in the spool")
        bench.sql(f"UPDATE {table} SET v = 'w'")
        mongodb.start_front()
        wait_until(lambda: len(bench.rows("t")) == 40, "40 rows")

    assert seqs(bench.documents()) == list(range(1, len(bench.documents()) + 1))
    assert json.dumps([each["op"] for each in bench.rows("t")]) == json.dumps(
        ["i"] * 20 + ["u"] * 20
    )
