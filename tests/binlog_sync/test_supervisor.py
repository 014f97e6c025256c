"""One run a source is kept alive; an operator's word is respected."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from caretaker.binlog.supervision import Ended, Ending, Fail, Life, Running, Say, Start, decide
from definitions.jobs import binlog_sync
from ops.binlog_standing import RESUMED
from resources.mongodb.offsets import Holder
from resources.mongodb.resource import MongoDBResource
from sensors.binlog import _gone, binlog_supervisor

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
LIFE = Life(reachable=True)


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def test_the_first_run_is_started():
    assert decide([], [], LIFE, NOW) == Start("first")


def test_a_run_that_ended_well_is_followed_at_once():
    assert decide([], [Ended("r1", Ending.SUCCESS, ago(0))], LIFE, NOW) == Start("after-r1")


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 5), (2, 10), (4, 40), (10, 300)])
def test_pauses_grow_with_failures_in_a_row(failures, pause_s):
    ended = [Ended(f"r{n}", Ending.FAILURE, ago(pause_s - 1)) for n in range(failures)]
    assert isinstance(decide([], ended, LIFE, NOW), Say)
    ended = [Ended(f"r{n}", Ending.FAILURE, ago(pause_s)) for n in range(failures)]
    assert decide([], ended, LIFE, NOW) == Start("after-r0")


def test_a_terminated_run_stays_terminated_until_somebody_resumes():
    last = Ended("r1", Ending.CANCELED, ago(9999))
    assert isinstance(decide([], [last], LIFE, NOW), Say)
    resumed = Ended("r1", Ending.CANCELED, ago(9999), resumed=True)
    assert decide([], [resumed], LIFE, NOW) == Start("after-r1")


def test_a_paused_source_starts_nothing():
    said = decide([], [], Life(reachable=True, paused="ann: tonight"), NOW)
    assert said == Say("paused by ann: tonight")


def test_a_run_without_a_sign_of_life_is_given_up():
    run = Running("r1", "started", ago(500))
    dead = decide([run], [], Life(reachable=True, holder_run_id="r1", seen_at=ago(61)), NOW)
    fenced = decide([run], [], Life(reachable=True, holder_run_id="r2", seen_at=ago(1)), NOW)
    assert isinstance(dead, Fail)
    assert isinstance(fenced, Fail)
    assert dead.run_id == fenced.run_id == "r1"


def test_a_run_is_believed_while_it_lives_is_young_or_mongodb_is_away():
    old, young = Running("r1", "started", ago(500)), Running("r1", "started", ago(30))
    queued = Running("r1", "queued", None)
    assert isinstance(
        decide([old], [], Life(reachable=True, holder_run_id="r1", seen_at=ago(5)), NOW), Say
    )
    assert isinstance(decide([young], [], LIFE, NOW), Say)
    assert isinstance(decide([queued], [], LIFE, NOW), Say)
    assert isinstance(decide([old], [], Life(reachable=False), NOW), Say)


@pytest.fixture
def instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def tick(instance, mongodb=None):
    context = dg.build_sensor_context(
        instance=instance, resources={"mongodb": mongodb or MongoDBResource()}
    )
    return binlog_supervisor(context)


def test_where_nothing_is_configured_it_says_which_variables(instance):
    assert "MYSQL_URL" in tick(instance).skip_reason.skip_message


@pytest.fixture
def configured(monkeypatch, mongodb_server, name):
    monkeypatch.setenv("MYSQL_URL", "mysql://nobody@127.0.0.1:1/")
    monkeypatch.setenv("MONGODB_URI", mongodb_server.url)
    monkeypatch.setenv("MONGODB_DATABASE", name)
    return MongoDBResource(uri=mongodb_server.url, database=name)


def test_it_starts_one_and_goes_on_after_it_as_it_was_started(instance, configured):
    (first,) = tick(instance, configured).run_requests
    assert first.run_key == "first"

    run = instance.create_run_for_job(binlog_sync, run_config={"include": ["shop\\..*"]})
    assert "not_started" in tick(instance, configured).skip_reason.skip_message
    instance.report_run_failed(run)
    # The pause after one failure is 5 s of the wall clock: told, not waited for.
    assert "failed in a row" in tick(instance, configured).skip_reason.skip_message


def test_a_canceled_run_is_followed_once_it_is_resumed(instance, configured):
    run = instance.create_run_for_job(binlog_sync, run_config={"include": ["shop\\..*"]})
    instance.report_run_canceled(run)
    assert "terminated by an operator" in tick(instance, configured).skip_reason.skip_message

    instance.add_run_tags(run.run_id, {RESUMED: "ann"})
    (request,) = tick(instance, configured).run_requests
    assert request.run_key == f"after-{run.run_id}"
    assert request.run_config["include"] == ["shop\\..*"]


def test_a_run_that_worked_for_long_and_died_is_followed_at_once():
    ended = [Ended("r1", Ending.FAILURE, ago(1), lived_s=3600.0)]
    assert decide([], ended, LIFE, NOW) == Start("after-r1")


def test_a_run_whose_process_is_gone_is_given_up_at_once():
    """Even a young one: nobody will report it, its code server died with it."""
    run = Running("r1", "started", ago(5))
    gone = "there is no process 7 on here any more"
    dead = decide(
        [run], [], Life(reachable=True, holder_run_id="r1", seen_at=ago(1), gone=gone), NOW
    )
    another = decide(
        [run], [], Life(reachable=True, holder_run_id="r0", seen_at=ago(1), gone=gone), NOW
    )
    assert isinstance(dead, Fail)
    assert gone in dead.reason
    assert isinstance(another, Say)


def test_it_sees_which_processes_of_this_host_are_gone():
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    here, ended = socket.gethostname(), int(done.stdout)
    assert str(ended) in _gone(Holder("r1", here, ended))
    assert _gone(Holder("r1", here, os.getpid())) == ""
    assert _gone(Holder("r1", "elsewhere", ended)) == ""
    assert _gone(Holder("r1")) == _gone(None) == ""
