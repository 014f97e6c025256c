"""While MongoDB is away the sync keeps what it reads, and says neither more nor less than is so."""

from __future__ import annotations

import pytest

from lab.mongodb.server import LabMongoDB
from ops.binlog_observing import rows_metadata
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail
from tests.binlog_sync.bench import Bench, wait_until


@pytest.fixture
def lab_bench(mysql_server, name):
    """A trail in the lab's own MongoDB, which comes and goes; one asks it for 0.3 s."""
    with LabMongoDB() as mongodb:
        settings = MongoDBSettings(mongodb.url, name, server_selection_timeout_s=0.3)
        with Bench(mysql_server, settings, name) as bench:
            bench.setup()
            bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
            yield bench, mongodb


def test_what_is_kept_in_memory_is_waiting_and_the_trail_is_behind(lab_bench):
    bench, mongodb = lab_bench
    with bench.running(protocol="direct") as running:
        wait_until(bench.offset_or_none, "the first commit")
        mongodb.stop()
        bench.sql(f"INSERT INTO {bench.name}.t VALUES (1)")
        vitals = running.syncer.metrics.vitals
        wait_until(lambda: vitals().breaker == "open", "an open breaker")
        seen = wait_until(lambda: (now := vitals()).waiting_documents and now, "a row that waits")
        assert seen.lag_s is None or seen.lag_s > 0
        assert "All that the source has" not in rows_metadata(seen)["in_words"]
        mongodb.start()
        wait_until(lambda: vitals().lag_s == 0 and vitals().breaker == "closed", "the end of it")
        assert [each["meta"]["pk"] for each in bench.rows("t")] == [1]


def test_a_new_table_does_not_hold_up_the_spool(lab_bench, tmp_path, monkeypatch):
    """Its version is told when MongoDB is back; tried before each batch, each would wait."""
    bench, mongodb = lab_bench
    many = 300
    whole, tries = Trail.remember_schema, []

    def remember(trail, key, schema):
        tries.append(key)
        return whole(trail, key, schema)

    monkeypatch.setattr(Trail, "remember_schema", remember)
    with bench.running(spool_dir=str(tmp_path), batch_rows=10) as running:
        wait_until(bench.offset_or_none, "the first commit")
        mongodb.stop()
        tries.clear()
        values = ", ".join(f"({number})" for number in range(many))
        bench.sql(
            f"CREATE TABLE {bench.name}.new (id INT PRIMARY KEY)",
            f"INSERT INTO {bench.name}.new VALUES {values}",
        )
        vitals = running.syncer.metrics.vitals
        wait_until(lambda: vitals().spooled_batches >= many / 10, "a batch for each ten rows")
        tried = len(tries)
        told = [event for event in bench.told if event.name == "spooled"]
        mongodb.start()
        wait_until(lambda: len(bench.rows("new")) == many, "all rows")

        assert tried <= 3, "a few before the breaker opened, and then none"
        assert 1 <= len(told) <= 3
        with bench.mongo() as client:
            versions = client[bench.name].schema_versions
            wait_until(lambda: versions.find_one({"tbl": "new"}), "the table's version")
