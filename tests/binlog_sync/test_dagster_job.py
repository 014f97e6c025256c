"""The sync as a job of Dagster: observations, checks, and an end that everybody understands."""

from __future__ import annotations

import threading

import dagster as dg
import pytest

from definitions.jobs import binlog_sync, binlog_verify
from ops.binlog_guard import NotLiveError, RunGuard
from ops.binlog_observing import BINLOG_OFFSETS, ROW_CHANGES
from resources.mongodb.resource import MongoDBResource
from resources.mysql.resource import MySQLResource
from tests.binlog_sync.bench import wait_until


@pytest.fixture
def instance(tmp_path):
    # A run in a thread would send this whole process's output into its log, and the rest with it.
    quiet = {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
    with dg.instance_for_test({"compute_logs": quiet}, temp_dir=str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def resources(bench):
    bench.setup()
    return {
        "mysql": MySQLResource(url=bench.uri),
        "mongodb": MongoDBResource(uri=bench.settings.uri, database=bench.settings.database),
    }


def options(bench, **more):
    return {"source": bench.name, "include": [rf"{bench.name}\..*"], "until_current": True, **more}


def execute(job, instance, resources, config):
    return job.execute_in_process(
        run_config=config, resources=resources, instance=instance, raise_on_error=False
    )


def test_a_run_observes_position_and_lag_and_judges_the_alerts(bench, instance, resources):
    bench.sql(
        f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)",
        f"INSERT INTO {bench.name}.t VALUES (1)",
    )

    result = execute(binlog_sync, instance, resources, options(bench))

    assert result.success
    (rows,) = instance.fetch_observations(ROW_CHANGES, limit=1).records
    (offsets,) = instance.fetch_observations(BINLOG_OFFSETS, limit=1).records
    seen = rows.event_log_entry.asset_observation.metadata
    assert seen["seq"].value == len(bench.documents())
    assert (
        offsets.event_log_entry.asset_observation.metadata["gtid"].value == bench.offset()["gtid"]
    )
    check = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(ROW_CHANGES, "shutdown_flush")]
    )
    assert check


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_rows": 0}, "batch_rows: found 0, expected a number from 1 to 10000"),
        ({"protocol": "fast"}, "protocol: found 'fast'"),
        ({"zone": "Mars/Olympus"}, "zone: found 'Mars/Olympus'"),
        ({"hash": [".*"]}, "CARETAKER_HASH_SECRET"),
        ({"observe_every_s": 0.0}, "observe_every_s"),
    ],
)
def test_a_wrong_option_fails_the_first_step_and_names_the_key(
    bench, instance, resources, wrong, said
):
    result = execute(binlog_sync, instance, resources, options(bench, **wrong))

    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert said in failure.step_failure_data.user_failure_data.description


def test_a_run_that_dagster_gave_up_ends_itself(bench, instance, resources):
    """Marked as failed from outside, it flushes, ends, and writes nothing more."""
    ended = {}

    def follow():
        config = options(bench, until_current=False)
        ended["result"] = execute(binlog_sync, instance, resources, config)

    thread = threading.Thread(target=follow)
    thread.start()
    run = wait_until(
        lambda: instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])), "a run"
    )[0]
    wait_until(bench.offset_or_none, "the trail to be taken")
    instance.report_run_failed(run, "a test")
    thread.join(180)

    assert not thread.is_alive()
    (failure,) = [event for event in ended["result"].all_events if event.is_step_failure]
    assert "is failure for Dagster" in failure.step_failure_data.user_failure_data.description


def test_a_deleted_run_is_not_live(instance):
    guard = RunGuard(instance, "no-such-run", watch_parent=False)
    guard._asked_at = -1e9

    with pytest.raises(NotLiveError, match="deleted"):
        guard.look_around()


def test_verify_returns_its_counts(bench, instance, resources):
    bench.sql(
        f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)",
        f"INSERT INTO {bench.name}.t VALUES (1)",
    )
    bench.sync()

    result = execute(
        binlog_verify, instance, resources, {"source": bench.name, "tables": [f"{bench.name}.t"]}
    )

    (table,) = result.output_for_node("verify_tables")
    assert (table["rows"], table["equal"]) == (1, 1)
