"""One run a source is kept alive; an operator's word is respected."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pymongo
import pytest
from dagster._core.events import AssetObservationData

from caretaker.binlog.supervision import (
    Ended,
    Ending,
    Fail,
    Life,
    Running,
    Say,
    Start,
    Suspect,
    decide,
)
from definitions.jobs import binlog_sync
from ops.binlog_observing import BINLOG_OFFSETS
from ops.binlog_standing import CONFIG_VARIABLE, RESUMED
from resources.mongodb.offsets import Holder
from resources.mongodb.resource import MongoDBResource
from sensors.binlog import _gone, binlog_supervisor

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
LIFE = Life(reachable=True)
NOBODY = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50"
NOW_OF_DAGSTER = "dagster._core.instance.methods.event_methods.get_current_timestamp"


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


@pytest.mark.parametrize(
    "life",
    [
        Life(reachable=True, holder_run_id="r1", seen_at=ago(2 * 86_400 + 40)),
        Life(reachable=True, holder_run_id="r2", seen_at=ago(1)),
    ],
)
def test_a_run_without_a_sign_of_life_is_given_up_at_the_second_look(life):
    run = Running("r1", "started", ago(9 * 86_400))
    first = decide([run], [], life, NOW)
    assert isinstance(first, Suspect)
    soon = decide([run], [], life, NOW + timedelta(seconds=5), first.suspicion)
    assert isinstance(soon, Suspect)
    assert soon.suspicion == first.suspicion
    later = decide([run], [], life, NOW + timedelta(seconds=30), first.suspicion)
    assert isinstance(later, Fail)
    assert later.run_id == "r1"
    if life.holder_run_id == "r1":
        assert later.reason.endswith("for 172870 s")


def test_one_old_sign_of_life_is_no_death():
    """MongoDB was away for 75 s, or the machine slept: the sync's next sign of life comes soon."""
    run = Running("r1", "started", ago(9999))
    first = decide([run], [], Life(reachable=True, holder_run_id="r1", seen_at=ago(75)), NOW)
    assert isinstance(first, Suspect)
    later = NOW + timedelta(seconds=40)
    back = Life(reachable=True, holder_run_id="r1", seen_at=NOW)
    assert isinstance(decide([run], [], back, later, first.suspicion), Say)
    # And should that one grow old, too, it is a suspicion of its own.
    latest = NOW + timedelta(seconds=90)
    assert isinstance(decide([run], [], back, latest, first.suspicion), Suspect)


def test_a_dead_run_is_given_up_though_a_younger_one_waits():
    dead, young = Running("r1", "started", ago(500)), Running("r2", "started", ago(5))
    life = Life(reachable=True, holder_run_id="r1", seen_at=ago(100))
    first = decide([young, dead], [], life, NOW)
    assert isinstance(first, Suspect)
    later = decide([young, dead], [], life, NOW + timedelta(seconds=31), first.suspicion)
    assert isinstance(later, Fail)
    assert later.run_id == "r1"


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


def tick(instance, mongodb=None, cursor=None):
    context = dg.build_sensor_context(
        instance=instance, resources={"mongodb": mongodb or MongoDBResource()}, cursor=cursor
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


@contextlib.contextmanager
def freeze(at):
    """Make Dagster's events happen then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NOW_OF_DAGSTER, lambda: at)
        yield


def started(instance, config=None, *, seconds=0.0):
    """A run that was started so long ago."""
    run = instance.create_run_for_job(binlog_sync, run_config=config or {})
    with freeze(time.time() - seconds):
        instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name), run.run_id
        )
    return instance.get_run_by_id(run.run_id)


@pytest.fixture
def trail_of(mongodb_server, name):
    """Return a function that lets a run hold the trail, seen so many seconds ago."""

    def hold(run, *, seen, seq=0):
        at = datetime.now(UTC) - timedelta(seconds=seen)
        owner = {"run_id": run.run_id, "host": "elsewhere", "pid": 1}
        place = {"file": "binlog.000001", "pos": 4, "seq": seq}
        with pymongo.MongoClient[dict[str, Any]](mongodb_server.url) as client:
            client[name].binlog_offsets.replace_one(
                {"_id": "mysql"}, {"owner": owner, "at": at, **place}, upsert=True
            )

    return hold


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
    ended = [Ended("r1", Ending.FAILURE, ago(1), wrote=True)]
    assert decide([], ended, LIFE, NOW) == Start("after-r1")


def test_runs_that_wait_a_minute_and_fail_are_started_less_and_less_often():
    """An end that is away is waited for at the beginning: that is no work."""
    ended = [Ended(f"r{n}", Ending.FAILURE, ago(62 * n)) for n in range(8)]
    said = decide([], ended, Life(reachable=False), NOW)
    assert said == Say("8 failed in a row; the next starts in 300 s")


OTHER = {"source": "other", "until_current": True}


def test_a_run_of_another_source_is_none_of_its_business(instance, configured, trail_of):
    """It is neither watched, nor counted, nor does it hide a run of a year."""
    standing = started(instance, seconds=9999)
    for _ in range(12):
        instance.report_run_failed(started(instance, OTHER))
    other = started(instance, OTHER, seconds=130)
    trail_of(standing, seen=1)

    found = tick(instance, configured)

    assert f"{standing.run_id[:8]} is started" in found.skip_reason.skip_message
    assert instance.get_run_by_id(other.run_id).status is dg.DagsterRunStatus.STARTED


def test_the_last_one_to_end_counts_whichever_began_first(instance, configured):
    """Terminate of a long run is not overruled by another that ended before it."""
    standing = started(instance, seconds=9999)
    short = started(instance)
    instance.report_run_failed(short)
    ended_at = instance.get_run_record_by_id(short.run_id).end_time
    with freeze(ended_at + 60):
        instance.report_run_canceled(standing)

    assert standing.run_id[:8] in tick(instance, configured).skip_reason.skip_message


def test_a_run_to_a_position_that_was_stopped_stops_nothing_else(instance, configured):
    instance.report_run_canceled(started(instance, {"until_current": True}))

    (request,) = tick(instance, configured).run_requests
    assert request.run_key == "first"


def test_the_sensor_looks_twice_before_it_gives_a_run_up(instance, configured, trail_of):
    run = started(instance, seconds=9999)
    trail_of(run, seen=75)

    first = tick(instance, configured)
    assert not first.run_requests
    assert "looking again" in first.skip_reason.skip_message
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED
    earlier = json.loads(first.cursor)
    earlier["since"] = (datetime.now(UTC) - timedelta(seconds=31)).isoformat()
    # With MongoDB away in between it begins again.
    nowhere = MongoDBResource(
        uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", database="x"
    )
    assert "since" not in json.loads(tick(instance, nowhere, cursor=json.dumps(earlier)).cursor)

    tick(instance, configured, cursor=json.dumps(earlier))
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize(("seqs", "wrote"), [((None, 40, 41), True), ((None, 40, 40), False)])
def test_only_what_it_wrote_makes_a_run_a_steady_one(instance, configured, seqs, wrote):
    run = started(instance, seconds=3600)
    for seq in seqs:
        told = {"seq": 0} if seq is None else {"seq": seq, "file": "binlog.000001"}
        observation = dg.AssetObservation(BINLOG_OFFSETS, metadata=told)
        instance.report_dagster_event(
            dg.DagsterEvent(
                dg.DagsterEventType.ASSET_OBSERVATION.value,
                binlog_sync.name,
                event_specific_data=AssetObservationData(observation),
            ),
            run.run_id,
        )
    instance.report_run_failed(run)

    found = tick(instance, configured)

    assert bool(found.run_requests) is wrote


@pytest.mark.parametrize(("seq", "at_once"), [(8, True), (7, False)])
def test_a_run_that_was_killed_young_is_followed_at_once_if_it_wrote(
    instance, configured, trail_of, seq, at_once
):
    """The trail tells: whoever is killed after seconds has observed nothing."""
    trail_of(instance.create_run_for_job(binlog_sync), seen=0, seq=7)
    for run in instance.get_runs():
        instance.report_run_failed(run)
    instance.add_run_tags(run.run_id, {RESUMED: "ann"})
    first = tick(instance, configured)
    assert len(first.run_requests) == 1

    killed = started(instance)
    trail_of(killed, seen=0, seq=seq)
    instance.report_run_failed(killed)

    found = tick(instance, configured, cursor=first.cursor)
    assert bool(found.run_requests) is at_once


def test_where_to_start_is_for_an_empty_trail_only(
    instance, configured, trail_of, tmp_path, monkeypatch
):
    """In the standing file as in a run by hand that failed before it wrote anything."""
    failed = started(instance, {"start": "current"}, seconds=10)
    instance.report_run_failed(failed)
    instance.add_run_tags(failed.run_id, {RESUMED: "ann"})
    file = tmp_path / "standing.yaml"
    file.write_text("start: current\n")

    def starts():
        by_hand = tick(instance, configured)
        with monkeypatch.context() as patch:
            patch.setenv(CONFIG_VARIABLE, str(file))
            by_file = tick(instance, configured)
        return [each.run_requests[0].run_config.get("start") for each in (by_hand, by_file)]

    assert starts() == ["current", "current"]
    trail_of(failed, seen=0)
    assert starts() == [None, None]


@pytest.mark.usefixtures("configured")
def test_without_mongodb_nobody_guesses_where_to_start(instance):
    run = started(instance, {"start": "current"}, seconds=10)
    instance.report_run_failed(run)
    instance.add_run_tags(run.run_id, {RESUMED: "ann"})
    nowhere = MongoDBResource(
        uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", database="x"
    )

    found = tick(instance, nowhere)

    assert not found.run_requests
    assert "where to start" in found.skip_reason.skip_message


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
