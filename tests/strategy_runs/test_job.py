"""The cycle as a job of Dagster: its lock, its report, its failures, and a run that is killed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from definitions.jobs import cluster_strategies, wipe_strategy_state
from lab.faults import Action, Fault
from ops import strategies, strategies_lock
from ops.errors import DECLINED
from resources import process
from resources.materialize.resource import MaterializeResource
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource
from tests.strategy_runs.bench import CHANGES, Bench
from tests.strategy_runs.scenes import BURST, TARGET

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 120.0


@pytest.fixture
def instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def state_url(tmp_path):
    return f"sqlite:///{tmp_path / 'caretaker.db'}"


@pytest.fixture
def run(bench, instance, state_url):
    """Run a job: `run(mode="apply")`, `run(job, recreate=True)`."""

    def one(job=cluster_strategies, **config):
        return job.execute_in_process(
            run_config=config,
            resources={
                "materialize": MaterializeResource(url=bench.lab.url, store_url=bench.store_url),
                "state": StateStoreResource(url=state_url),
            },
            instance=instance,
            raise_on_error=False,
        )

    return one


def failure(result):
    """Return the step that failed, what it said, and its metadata."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    return event.step_key, data.description, {k: v.value for k, v in data.metadata.items()}


def told(result):
    return result.output_for_node("record")


def test_a_run_without_a_mode_is_a_dry_run_and_touches_nothing(bench, run, state_url):
    """Not even the state store is needed."""
    TARGET.prepare(bench)

    result = run()

    assert result.success
    (action,) = told(result)["actions"]
    assert (action["state"], action["sql"]) == (
        "planned", "CREATE CLUSTER REPLICA \"prod\".\"r_50cc\" (SIZE '50cc')",
    )  # fmt: skip
    assert bench.lab.replicas("prod") == {"r1": "25cc"}
    assert bench.audit() == []
    assert not Path(state_url.removeprefix("sqlite:///")).exists()


def test_runs_bring_the_cluster_where_it_shall_be(bench, run):
    TARGET.prepare(bench)

    first = told(run(mode="apply"))
    bench.pass_()
    second = told(run(mode="apply"))
    third = told(run(mode="apply"))

    assert [[one["state"] for one in each["actions"]] for each in (first, second, third)] == [
        ["executed"], ["executed"], [],
    ]  # fmt: skip
    assert (first["credits_per_hour_delta"], second["credits_per_hour_delta"]) == (0.5, -0.25)
    assert bench.lab.replicas("prod") == TARGET.wanted
    assert bench.done() == bench.said()


def test_a_failed_action_fails_the_run_once_all_is_recorded(bench, run):
    """And gives back the lock."""
    TARGET.prepare(bench)
    bench.lab.cluster("sound", {"r1": "25cc"})
    bench.strategy("sound", "target_size", target_size="50cc")
    bench.lab.faults.add(Fault(match='"prod"', action=Action.ERROR, message="no room today"))

    result = run(mode="apply")

    step, message, metadata = failure(result)
    assert (step, "no room today" in message) == ("conclude_cycle", True)
    assert len(metadata["failures"]) == 1
    assert "r_50cc" in bench.lab.replicas("sound")
    assert set(bench.state("sound")) == {"target_size"}
    bench.lab.faults.clear()
    assert run(mode="apply").success


def test_what_cannot_be_published_undoes_no_cycle(bench, run, monkeypatch):
    """Dagster's storage is busy: all was done and recorded, and the lock is let go of."""
    TARGET.prepare(bench)

    def busy(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(strategies, "publish", busy)
    result = run(mode="apply")

    assert result.success
    assert [one["state"] for one in told(result)["actions"]] == ["executed"]
    assert run(mode="apply").success


def test_while_another_run_lives_this_one_stands_back(bench, run, state_url):
    TARGET.prepare(bench)
    other = subprocess.Popen(["sleep", "600"])
    with StateStore.open(state_url) as store:
        hold(store, bench, process.owner_of_run("the-other", other.pid))

        result = run(mode="apply")
        step, message, metadata = failure(result)
        dry = run()

        other.kill()
        other.wait()
        after = run(mode="apply")

    assert (step, metadata[DECLINED]) == ("observe", True)
    assert "locked by run the-other" in message
    assert dry.success
    assert after.success, failure(after)
    assert bench.done() == bench.said()
    assert len(bench.audit()) == 1


def hold(store, bench, owner):
    ((environment,),) = bench.lab.sql("SELECT mz_catalog.mz_environment_id()")
    store.acquire_lock(
        strategies_lock.lock_of(environment),
        owner,
        purpose=strategies_lock.PURPOSE,
        is_dead=lambda *_: False,
    )


def test_a_run_that_loses_its_lock_sends_nothing_more(bench, run, state_url):
    """Somebody took us for dead: whoever is fenced stops before the next statement."""
    TARGET.prepare(bench)

    def steal(_):
        with StateStore.open(state_url) as store:
            ((environment,),) = bench.lab.sql("SELECT mz_catalog.mz_environment_id()")
            store.acquire_lock(
                strategies_lock.lock_of(environment),
                process.owner_of_run("thief", os.getpid()),
                purpose="theft",
                is_dead=lambda *_: True,
            )

    # The first statement of apply: by then everything was looked at.
    bench.lab.faults.add(Fault(match="mz_environment_id", after_matches=1, times=1, before=steal))

    result = run(mode="apply")

    step, message, _ = failure(result)
    assert (step, "taken over by run thief" in message) == ("apply", True)
    assert bench.done() == {}
    assert [executed for _, executed, _ in bench.audit()] == [False]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mode": "do_it"}, "mode: found 'do_it', expected dry_run or apply"),
        ({"cluster": "("}, "cluster: found '(', expected a regular expression"),
        ({"max_replicas": -1}, "max_replicas: found -1"),
        ({"replica_sizes": ["25cc", "26cc"]}, "replica_sizes: found '26cc', expected one of 25cc"),
        ({"replica_sizes": ["25cc", "25cc"]}, "replica_sizes: found"),
        ({"overrides": {"prod": {"max_replica": 1}}}, "overrides.prod.max_replica: found 1"),
        ({"overrides": {"prod": {"min_ready": "1"}}}, "overrides.prod.min_ready: found '1'"),
        ({"crash_lookback_s": 0.0}, "crash_lookback_s: found 0.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_option_fails_the_first_step_and_names_the_key(run, wrong, said):
    step, message, _ = failure(run(**wrong))

    assert step == "observe"
    assert said in message


def test_limits_hold_for_all_and_others_for_single_clusters(bench, run):
    for name in ("a", "b"):
        bench.lab.cluster(name, {"r1": "25cc"})
        bench.strategy(name, "target_size", target_size="50cc")

    report = told(run(mode="apply", max_replicas=1, overrides={"b": {"max_replicas": 2}}))

    assert [one["cluster"] for one in report["actions"]] == ["b"]
    assert [(one["cluster"], "max_replicas is 1" in one["reason"]) for one in report["held"]] == [
        ("a", True)
    ]


def test_only_clusters_whose_name_matches_are_looked_after(bench, run):
    for name in ("prod_a", "test_b"):
        bench.lab.cluster(name, {"r1": "25cc"})
        bench.strategy(name, "target_size", target_size="50cc")

    assert [one["cluster"] for one in told(run(cluster="^prod"))["actions"]] == ["prod_a"]
    nothing = run(cluster="^nosuch")
    assert nothing.success
    assert any("no cluster's name matches" in told for told in told(nothing)["warnings"])


@pytest.mark.parametrize("url", ["", "mysql://me:secret@db/"])
def test_without_a_url_the_first_step_names_its_variable(instance, state_url, url):
    result = cluster_strategies.execute_in_process(
        resources={
            "materialize": MaterializeResource(url=url),
            "state": StateStoreResource(url=state_url),
        },
        instance=instance,
        raise_on_error=False,
    )

    step, message, _ = failure(result)
    assert (step, message.startswith("DATABASE_URL: found")) == ("observe", True)
    assert "secret" not in message


# --- forgetting -----------------------------------------------------------------------------------


def test_wiping_forgets_what_strategies_remember_and_nothing_else(bench, run):
    for name in ("a", "b"):
        bench.lab.cluster(name, {"r1": "25cc"})
        bench.strategy(name, "target_size", target_size="50cc")
    assert run(mode="apply").success

    asked = run(wipe_strategy_state, dry_run=True, cluster="a").output_for_node("wipe")
    still = bench.state("a")
    one = run(wipe_strategy_state, cluster="^a$").output_for_node("wipe")
    left = bench.state("a"), set(bench.state("b"))
    rest = run(wipe_strategy_state).output_for_node("wipe")

    assert (asked["rows"], asked["clusters"], set(still)) == (1, ["a"], {"target_size"})
    assert (one["rows"], left) == (1, ({}, {"target_size"}))
    assert (rest["rows"], bench.state("b")) == (1, {})
    assert len(bench.audit()) == 2
    assert bench.sql("SELECT count(*) FROM mz_cluster_strategies") == [(2,)]


def test_tables_of_an_older_shape_are_refused_and_made_anew_on_demand(bench, run):
    bench.sql("ALTER TABLE mz_cluster_strategy_state DROP strategy_type")
    step, message, metadata = failure(run(mode="apply"))
    bench.sql("DROP TABLE mz_cluster_strategy_state")

    assert (step, "has another shape" in message) == ("observe", True)
    assert "wipe-state --recreate" in metadata["hint"]
    assert run(wipe_strategy_state, recreate=True).success
    assert run(mode="apply").success


# --- a run that is killed -------------------------------------------------------------------------

_CHILD = """
import sys
import dagster as dg
from definitions.jobs import cluster_strategies
from resources.materialize.resource import MaterializeResource
from resources.state_store.resource import StateStoreResource
url, store_url, state_url = sys.argv[1:]
with dg.DagsterInstance.get() as instance:
    cluster_strategies.execute_in_process(
        run_config={"mode": "apply"},
        resources={
            "materialize": MaterializeResource(url=url, store_url=store_url),
            "state": StateStoreResource(url=state_url),
        },
        instance=instance,
    )
"""


@pytest.mark.parametrize("after", [False, True], ids=["before_it_is_done", "after_it_is_done"])
def test_a_run_killed_with_9_leaves_its_lock_to_the_next_which_says_what_became_of_it(
    lab, tmp_path, state_url, after
):
    bench = Bench(lab)
    BURST.prepare(bench)
    home = tmp_path / "home"
    home.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, lab.url, bench.store_url, state_url],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DAGSTER_HOME": str(home),
             "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])},
    )  # fmt: skip

    def kill(_):
        child.kill()
        child.wait(PATIENCE_S)

    before_it, after_it = (None, kill) if after else (kill, None)
    lab.faults.add(Fault(match=CHANGES, times=1, before=before_it, after=after_it))
    said, _ = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == -9, said
    lab.faults.clear()
    open_before = [executed for _, executed, _ in bench.audit()]
    bench.pass_(200)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = cluster_strategies.execute_in_process(
            run_config={"mode": "apply"},
            resources={
                "materialize": MaterializeResource(url=lab.url),
                "state": StateStoreResource(url=state_url),
            },
            instance=instance,
        )
    assert open_before == [None]
    (settled,) = told(result)["settled"]
    assert settled["executed"] == ("prod_burst" in str(bench.done()))
    assert lab.replicas("prod") == BURST.wanted
    assert bench.done() == bench.said()
