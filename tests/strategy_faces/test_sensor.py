"""A cluster is suspended and woken by itself; a tick that starts nothing says why."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta

import dagster as dg
import psycopg
import pytest

from caretaker.errors import InvalidSettingError
from definitions.jobs import cluster_strategies
from ops import strategies_lock
from ops.strategies_standing import CONFIG_VARIABLE, standing_options
from resources import process
from resources.clock import utc_now
from resources.materialize.resource import MaterializeResource
from resources.state_store.resource import StateStoreResource
from schedules.strategies import cluster_strategies_every_5_minutes
from sensors import strategies as module
from sensors.strategies import FIRST_PAUSE, LONGEST_PAUSE, Asked, cluster_idleness

TARGET = {"target_size": "50cc"}


@pytest.fixture
def tick(instance, resources):
    """Let the sensor tick; return (result, why it skipped)."""

    def one(cursor=None, **changed):
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={**resources, **changed}
        ) as context:
            result = cluster_idleness(context)
        assert isinstance(result, dg.SensorResult)
        reason = result.skip_reason.skip_message if result.skip_reason else ""
        return result, reason

    return one


@pytest.fixture
def run(instance, resources):
    """Run what a tick requested, as the daemon would."""

    def one(request):
        result = cluster_strategies.execute_in_process(
            run_config=request.run_config, resources=resources, instance=instance
        )
        assert result.success

    return one


@pytest.fixture
def run_of(instance):
    """Leave a run of the job in the instance, in a status; return its id."""

    def make(status):
        @dg.job(name="cluster_strategies")
        def stub():
            pass

        return instance.create_run_for_job(stub, status=status).run_id

    return make


@pytest.fixture
def later(monkeypatch):
    """Let so much time pass for the sensor."""

    def wait(span):
        now = vars(module)["utc_now"]() + span
        monkeypatch.setattr(module, "utc_now", lambda: now)

    return wait


def query(lab, cluster):
    """Ask something of a cluster, as anybody would."""
    with psycopg.connect(lab.url, autocommit=True, application_name="dashboard") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (a INT)")
        connection.execute(f"SET cluster = {cluster}")
        connection.execute("SELECT count(*) FROM t").fetchone()


def test_a_cluster_goes_to_sleep_when_idle_and_is_woken_by_the_query_that_failed(
    lab, bench, tick, run
):
    """The whole way: every step started by a tick, and nothing else."""
    lab.cluster("prod", {"r_50cc": "50cc"})
    bench.strategy("prod", "target_size", **TARGET)
    bench.strategy("prod", "idle_suspend", idle_after_s=600)
    query(lab, "prod")

    awake, why = tick()
    assert awake.run_requests == []
    assert why == "nothing to do for 1 cluster with strategies"

    lab.advance(700)
    idle, _ = tick(awake.cursor)
    (request,) = idle.run_requests
    assert request.run_config == {"mode": "apply"}
    assert request.tags["caretaker/clusters"] == "prod"
    assert request.tags["caretaker/why"].startswith("prod: idle_suspend: no statement since")
    run(request)
    assert lab.replicas("prod") == {}

    asleep, why = tick(idle.cursor)
    assert why == "nothing to do for 1 cluster with strategies; suspended: prod"

    with pytest.raises(psycopg.errors.FeatureNotSupported):
        query(lab, "prod")
    woken, _ = tick(asleep.cursor)
    (request,) = woken.run_requests
    assert re.match(
        r"prod: woken, used at \S+ while it was suspended", request.tags["caretaker/why"]
    )
    run(request)
    assert lab.replicas("prod") == {"r_50cc": "50cc"}
    query(lab, "prod")


def test_nothing_is_changed_by_looking(lab, bench, tick):
    lab.cluster("prod", {"old": "100cc"})
    bench.strategy("prod", "target_size", **TARGET)
    result, _ = tick()
    assert len(result.run_requests) == 1
    assert lab.replicas("prod") == {"old": "100cc"}
    assert bench.audit() == []


def test_the_same_is_asked_for_again_only_after_growing_pauses(lab, bench, tick, later):
    """What has refused it would refuse it every ten seconds."""
    lab.cluster("prod", {"old": "100cc"})
    bench.strategy("prod", "target_size", **TARGET)
    result, _ = tick()
    assert result.run_requests

    result, why = tick(result.cursor)
    assert result.run_requests == []
    assert why == "asked for a moment ago, and still to be done: prod"
    later(FIRST_PAUSE)
    result, _ = tick(result.cursor)
    assert result.run_requests
    later(FIRST_PAUSE)
    result, _ = tick(result.cursor)
    assert result.run_requests == []
    later(FIRST_PAUSE)
    assert tick(result.cursor)[0].run_requests


def test_a_cluster_that_waits_keeps_no_other_from_being_woken(lab, bench, tick):
    for name in ("a.b", "c"):
        lab.cluster(name, {})
    bench.strategy("a.b", "target_size", **TARGET)
    first, _ = tick()
    bench.strategy("c", "target_size", **TARGET)

    second, _ = tick(first.cursor)

    (request,) = second.run_requests
    assert request.run_config == {"mode": "apply", "cluster": r"^(c)$"}
    assert request.tags["caretaker/clusters"] == "c"


def test_something_else_to_do_is_asked_for_at_once(lab, bench, tick):
    lab.cluster("prod", {})
    bench.strategy("prod", "target_size", **TARGET)
    first, _ = tick()
    bench.sql('UPDATE mz_cluster_strategies SET config = \'{"target_size": "100cc"}\'')
    assert tick(first.cursor)[0].run_requests


def test_a_managed_cluster_is_woken_at_once_though_it_was_just_suspended(
    lab, bench, tick, run, later
):
    """Both are an ALTER of its replication factor, and not the same."""
    later(timedelta(0))
    lab.managed_cluster("prod", "25cc")
    bench.strategy("prod", "idle_suspend", idle_after_s=600)
    lab.statement_ran("prod", seconds_ago=1)
    lab.advance(700)
    idle, _ = tick()
    run(*idle.run_requests)
    assert lab.replicas("prod") == {}

    lab.statement_ran("prod", seconds_ago=1)
    woken, why = tick(idle.cursor)

    assert (len(woken.run_requests), why) == (1, "")


def test_what_a_killed_run_of_ours_was_about_to_do_is_done_without_waiting(lab, bench, tick, store):
    """Nobody with our lock is at work: its intent is no sign that anybody is."""
    lab.cluster("prod", {})
    bench.strategy("prod", "target_size", **TARGET)
    with bench.controller().opened() as (source, tables):
        context = {"op": "create", "replica": "r_50cc", "size": "50cc", "run_id": "killed",
                   "controller": strategies_lock.controller_of(store)}  # fmt: skip
        now = source.identity().now
        tables.begin_action("a", lab.cluster_id("prod"), "CREATE", context, now)

    result, why = tick()

    assert (len(result.run_requests), why) == (1, "")


@pytest.mark.parametrize("times", [1, 2, 8, 500])
def test_pauses_grow_to_half_an_hour(times):
    asked = Asked("x", utc_now(), times)
    assert not asked.due(asked.at + FIRST_PAUSE - timedelta(seconds=1))
    assert asked.due(asked.at + LONGEST_PAUSE)


def test_while_a_run_is_at_work_nothing_is_looked_at(lab, bench, tick, run_of):
    lab.cluster("prod", {})
    bench.strategy("prod", "target_size", **TARGET)
    run_id = run_of(dg.DagsterRunStatus.STARTED)
    result, why = tick(cursor="kept")
    assert result.run_requests == []
    assert why == f"run {run_id} is started"
    assert result.cursor == "kept"


def test_a_run_whose_process_is_gone_is_called_off_and_replaced(
    lab, bench, tick, run_of, store, instance
):
    """Dagster would show it as started for ever."""
    lab.cluster("prod", {})
    bench.strategy("prod", "target_size", **TARGET)
    run_id = run_of(dg.DagsterRunStatus.STARTED)
    owner = process.owner_of_run(run_id, 2**22 + 1)
    with MaterializeResource(url=lab.url).open() as source:
        environment = strategies_lock.lock_of(source.identity().environment)
    store.acquire_lock(environment, owner, purpose="cluster_strategies", is_dead=lambda *_: True)

    result, _ = tick()

    assert len(result.run_requests) == 1
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.FAILURE


def test_not_configured_is_said(tick):
    result, why = tick(materialize=MaterializeResource())
    assert result.run_requests == []
    assert why == "not configured: DATABASE_URL is not set"


def test_no_strategies_and_no_tables_yet(lab, tick):
    lab.cluster("prod", {})
    assert "there is no table mz_cluster_strategies yet" in tick()[1]


def test_nobody_there_is_a_sentence_without_the_password(tick):
    url = "postgresql://me:s3cret@127.0.0.1:1/d"
    result, why = tick("kept", materialize=MaterializeResource(url=url))
    assert "127.0.0.1:1 cannot be reached" in why
    assert "s3cret" not in why
    assert result.cursor == "kept"


def test_a_state_store_that_is_away_is_a_sentence(tick):
    away = StateStoreResource(url="postgresql+psycopg://u:s3cret@127.0.0.1:1/d")
    result, why = tick(state=away)
    assert result.run_requests == []
    assert why
    assert "s3cret" not in why


def test_unknown_activity_suspends_nobody_and_is_said(lab, bench, tick):
    lab.statement_logging = False
    lab.cluster("prod", {"r1": "50cc"})
    bench.strategy("prod", "idle_suspend", idle_after_s=600)
    lab.advance(90_000)
    result, why = tick()
    assert result.run_requests == []
    assert "held: prod: whether the cluster is in use is unknown" in why


@pytest.mark.parametrize("cursor", ["", "nonsense", "[]", '{"asked": {"a": 1}}', '{"asked": 7}'])
def test_a_cursor_that_somebody_edited_counts_as_none(lab, bench, tick, cursor):
    lab.cluster("prod", {})
    bench.strategy("prod", "target_size", **TARGET)
    result, _ = tick(cursor)
    assert len(result.run_requests) == 1
    assert json.loads(result.cursor)["asked"].keys() == {"prod"}


def test_the_clusters_are_observed_now_and_then(lab, tick, later):
    lab.cluster("prod", {"r1": "50cc"})
    first, _ = tick()
    (event,) = first.asset_events
    assert event.asset_key == dg.AssetKey("materialize_clusters")
    assert event.metadata["credits per hour"].value == 0.75
    second, _ = tick(first.cursor)
    assert second.asset_events == []
    later(timedelta(minutes=6))
    assert tick(second.cursor)[0].asset_events


class TestStandingOptions:
    """What the sensor and the schedule run with: a file of the operator's."""

    @pytest.fixture
    def options(self, tmp_path, monkeypatch):
        def write(text):
            (tmp_path / "limits.yaml").write_text(text)
            monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "limits.yaml"))

        return write

    def test_limits_of_the_file_go_to_the_run_and_into_the_decision(
        self, lab, bench, tick, options
    ):
        options("max_credits_per_hour: 0.1\nmode: dry_run\n")
        lab.cluster("prod", {})
        bench.strategy("prod", "target_size", **TARGET)
        assert "held: prod: " in tick()[1]
        options("max_credits_per_hour: 8\nmode: dry_run\n")
        (request,) = tick()[0].run_requests
        assert request.run_config == {"max_credits_per_hour": 8, "mode": "apply"}

    def test_without_a_file_there_are_none(self, options):
        assert standing_options() == {}
        options("")
        assert standing_options() == {}

    @pytest.mark.parametrize(
        ("text", "words"),
        [("max_replica: 3", "max_replica"), ("- 1", "list"), ("a: [", "limits.yaml"),
         ("min_ready: -1", "min_ready"), ("cluster: '('", "cluster")],
    )  # fmt: skip
    def test_a_file_that_cannot_be_used_is_named_with_its_key(self, tick, options, text, words):
        options(text)
        with pytest.raises(InvalidSettingError, match=CONFIG_VARIABLE) as refused:
            standing_options()
        assert words in str(refused.value)
        assert words in tick()[1]

    def test_a_file_that_is_not_there(self, monkeypatch):
        monkeypatch.setenv(CONFIG_VARIABLE, "/nowhere/limits.yaml")
        with pytest.raises(InvalidSettingError, match="/nowhere"):
            standing_options()

    def test_the_schedule_applies_with_them(self, options):
        options("max_replicas: 3\nmode: dry_run\n")
        with dg.build_schedule_context() as context:
            found = cluster_strategies_every_5_minutes.evaluate_tick(context)
        assert found.run_requests is not None
        (request,) = found.run_requests
        assert request.run_config == {"max_replicas": 3, "mode": "apply"}


def test_both_are_off_until_switched_on():
    assert cluster_idleness.default_status is dg.DefaultSensorStatus.STOPPED
    schedule = cluster_strategies_every_5_minutes
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "*/5 * * * *"
    assert schedule.job_name == cluster_idleness.job_name == "cluster_strategies"
    assert CONFIG_VARIABLE not in os.environ
