"""A source that is shut down in good order says "no more", as it does at the end of its log."""

from __future__ import annotations

import pytest

from lab.faults import Action, Fault
from lab.mongodb.server import LabMongoDB
from lab.servers.mariadb import MariaDB
from lab.servers.mysql import MySQL
from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench, wait_until


@pytest.fixture(scope="module", params=[MySQL, MariaDB])
def own_server(request):
    """One that may be shut down."""
    with request.param() as server:
        yield server


@pytest.fixture
def trail_of_it(own_server, name):
    with (
        LabMongoDB() as mongodb,
        Bench(own_server, MongoDBSettings(mongodb.url, name), name) as bench,
    ):
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        yield bench, mongodb


def test_a_standing_sync_goes_on_when_the_source_is_back(trail_of_it):
    bench, _ = trail_of_it
    with bench.running() as running:
        bench.sql(f"INSERT INTO {bench.name}.t VALUES (1)")
        wait_until(lambda: bench.rows("t"), "the first row")
        bench.server.shut_down()
        wait_until(
            lambda: running.summary or any("source is away" in said for said in bench.said()),
            "a word about it",
        )
        bench.server.restart()
        bench.sql(f"INSERT INTO {bench.name}.t VALUES (2)")
        wait_until(lambda: running.summary or len(bench.rows("t")) == 2, "the second row")

        assert running.summary is None, "the sync has ended"
    assert [each["meta"]["pk"] for each in bench.rows("t")] == [1, 2]


@pytest.mark.parametrize("own_server", [MySQL], indirect=True)
def test_who_follows_to_the_end_is_not_there_before_the_end(trail_of_it):
    """Shut down while a slow trail is in the middle of what the source has."""
    bench, mongodb = trail_of_it
    bench.sql(
        f"ALTER TABLE {bench.name}.t ADD v LONGBLOB",
        *(f"INSERT INTO {bench.name}.t VALUES ({n}, REPEAT('x', 500000))" for n in range(1, 41)),
    )
    slow = mongodb.faults.add(Fault(match="commitTrans", action=Action.LATENCY, seconds=0.1))
    with bench.running(
        until_current=True, protocol="direct", batch_rows=2, queue_bytes=1 << 20
    ) as running:
        wait_until(lambda: slow.fired >= 5, "a few commits")
        bench.server.shut_down()
        mongodb.faults.clear()
        bench.server.restart()
        summary = running.end()

    assert summary.why == "until_current"
    assert len(bench.rows("t")) == 40
