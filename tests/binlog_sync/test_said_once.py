"""What the trail says of itself it says once, whatever breaks right behind it."""

from __future__ import annotations

import pytest

from caretaker.errors import RefusedError, TransientError
from lab.mongodb.server import LabMongoDB
from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.sink import Sink
from resources.mongodb.trail import Trail
from resources.mysql.source import MySQLSource
from tests.binlog_sync.bench import Bench
from tests.mongodb.batches import batch


@pytest.fixture
def lab_bench(mysql_server, name):
    """A trail in the lab's own MongoDB, with a row in it."""
    with (
        LabMongoDB() as mongodb,
        Bench(mysql_server, MongoDBSettings(mongodb.url, name), name) as bench,
    ):
        bench.setup()
        bench.sql(
            f"CREATE TABLE {name}.t (id INT PRIMARY KEY, v INT)",
            f"INSERT INTO {name}.t VALUES (1, 1)",
        )
        bench.sync()
        bench.sql(f"INSERT INTO {name}.t VALUES (2, 1)")
        yield bench


def fails_once(monkeypatch, method):
    """Let the connection break at the first call of a method."""
    whole, calls = getattr(MySQLSource, method), []

    def flaky(self, *given, **named):
        calls.append(method)
        if len(calls) == 1:
            raise TransientError("the connection broke")
        return whole(self, *given, **named)

    monkeypatch.setattr(MySQLSource, method, flaky)


def topologies(bench):
    return [each["topology"] for each in bench.documents() if each["op"] == "topology"]


@pytest.mark.parametrize("method", ["dump", "charsets"])
def test_new_filters_are_told_once_though_the_dump_is_lost_right_then(
    lab_bench, monkeypatch, method
):
    bench = lab_bench
    fails_once(monkeypatch, method)

    summary = bench.sync(drop=[rf"{bench.name}\.t\.v"])

    assert [set(each) for each in topologies(bench)] == [{"filters_before", "filters_after"}]
    assert [each["seq"] for each in bench.documents()] == list(range(1, summary.seq + 1))
    assert [each["meta"]["pk"] for each in bench.rows("t")] == [1, 2]


def test_a_failover_is_told_once_though_the_dump_is_lost_right_then(lab_bench, monkeypatch):
    bench = lab_bench
    with bench.mongo() as client:
        # Where another server, which had no other transactions, would have left the trail.
        client[bench.name].binlog_offsets.update_one(
            {"_id": bench.name},
            {"$set": {"server_uuid": "11111111-1111-1111-1111-111111111111", "file": "b.000777"}},
        )
    fails_once(monkeypatch, "charsets")

    summary = bench.sync()

    assert [each["server_before"][:8] for each in topologies(bench)] == ["11111111"]
    assert [each["seq"] for each in bench.documents()] == list(range(1, summary.seq + 1))
    assert [each["meta"]["pk"] for each in bench.rows("t")] == [1, 2]


@pytest.mark.parametrize("first", [5, 7])
def test_a_number_that_is_not_due_is_not_written(lab_bench, first):
    """Whatever made it: a trail counts without a hole, and nothing twice."""
    with Trail.open(lab_bench.settings) as trail:
        held = trail.acquire("another", Holder("test"))
        with Sink(trail, held) as sink:
            sink.write(batch(1, 5))
            with pytest.raises(RefusedError, match=f"seq {first} where 6 is due"):
                sink.write(batch(first, 9))
            sink.flush()
        trail.release(held)
        assert trail.offset("another").seq == 5
