"""What is away for a moment is waited for; what takes long is not given up half-way."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

import pymysql
import pytest

from caretaker.errors import TransientError
from lab.faults import Action, Fault
from lab.mongodb.server import LabMongoDB
from ops import binlog_beginning
from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench, Running, wait_until


@pytest.fixture
def lab_bench(mysql_server, name):
    """A trail in the lab's own MongoDB, which does as it is told."""
    with (
        LabMongoDB() as mongodb,
        Bench(mysql_server, MongoDBSettings(mongodb.url, name), name) as bench,
    ):
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        yield bench, mongodb


def test_who_follows_to_the_end_takes_the_time_that_it_takes(lab_bench):
    """A slow MongoDB, and more to write at the goal than a stop would have time for."""
    bench, mongodb = lab_bench
    values = ", ".join(f"({number})" for number in range(400))
    bench.sql(f"INSERT INTO {bench.name}.t VALUES {values}")
    slow = Fault(match=r"commitTransaction", action=Action.LATENCY, seconds=0.15)
    mongodb.faults.add(slow)

    summary = bench.sync(shutdown_flush_s=1.0, batch_rows=20, protocol="direct")

    assert summary.why == "until_current"
    assert [each["meta"]["pk"] for each in bench.rows("t")] == list(range(400))
    assert slow.fired >= 20


def test_a_source_that_is_away_at_the_start_is_waited_for(start_mysql, mongodb_server, name):
    server = start_mysql()
    with Bench(server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)", f"INSERT INTO {name}.t VALUES (1)")
        server.kill()
        with bench.syncer() as syncer:
            running = Running(syncer, bench.told)
            wait_until(bench.said, "a word about it")
            server.restart()
            running.stop()
        bench.sync()
        assert [each["meta"]["pk"] for each in bench.rows("t")] == [1]
    assert bench.said()[0].startswith("Not begun yet (")
    assert re.search(r"; trying again in 0\.1 s, for \d+ s more$", bench.said()[0])


def test_what_stays_away_ends_the_wait(bench, monkeypatch):
    bench.setup()
    monkeypatch.setattr(binlog_beginning, "BEGINS_WITHIN_S", 0.0)
    bench.uri = "mysql://nobody@127.0.0.1:1/"

    with bench.syncer() as syncer, pytest.raises(TransientError), syncer:
        pass

    assert bench.said() == []


def test_a_mongodb_that_is_away_for_a_moment_while_it_begins_costs_no_run(lab_bench):
    """Longer away than the five tries of one question take."""
    bench, mongodb = lab_bench
    away = Fault(match=r"findAndModify .*binlog_offsets", action=Action.RESET_BEFORE, times=7)
    mongodb.faults.add(away)
    bench.sql(f"INSERT INTO {bench.name}.t VALUES (1)")

    bench.sync()

    assert away.fired == 7
    assert [each["meta"]["pk"] for each in bench.rows("t")] == [1]
    assert any(said.startswith("Not begun yet") for said in bench.said())


def test_a_name_that_nobody_knows_for_a_moment_ends_nothing(lab_bench, monkeypatch):
    """As that of a pod that is being restarted, behind a headless service."""
    bench, _ = lab_bench
    bench.uri = bench.uri.replace("127.0.0.1", "localhost")
    whole = socket.getaddrinfo
    asked: list[str] = []

    def gone(host, *given, **named):
        if host == "localhost" and len(asked) < 3:
            asked.append(host)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return whole(host, *given, **named)

    def kill_dumps():
        dumps = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        for (number,) in bench.server.ask(dumps):
            # It may have ended by itself.
            with contextlib.suppress(pymysql.MySQLError):
                bench.sql(f"KILL {number}")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", gone)
        with bench.running() as running:
            assert bench.said()[0].startswith("Not begun yet (MYSQL_URL: ")
            wait_until(lambda: any(said.startswith("Reading") for said in bench.said()), "a dump")
            asked.clear()
            kill_dumps()
            wait_until(lambda: len(asked) == 3 or running.failure, "three vain questions")
            bench.sql(f"INSERT INTO {bench.name}.t VALUES (1)")
            wait_until(lambda: bench.rows("t") or running.failure, "a row")
            assert running.failure is None


def test_a_stop_ends_the_wait(bench):
    bench.setup()
    bench.uri = "mysql://nobody@127.0.0.1:1/"
    with bench.syncer() as syncer:
        running = Running(syncer, bench.told)
        wait_until(bench.said, "a word about it")
        syncer._parts.cancel.set()
        with pytest.raises(TransientError):
            running.end()
    assert not [thread for thread in threading.enumerate() if thread.name == "binlog-reader"]
