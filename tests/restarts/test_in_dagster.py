"""What the UI's jobs and assets show of a restart."""

from __future__ import annotations

import os

import dagster as dg
import pytest

from assets.decommission import crate_cluster_health, restarts
from definitions import defs
from ops.decommission_begin import take_the_cluster
from ops.errors import failure_text
from resources.cratedb.resource import CrateDBResource
from resources.kubernetes.resource import KubernetesResource
from resources.process import owner_of_run
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource
from tests.restarts.conftest import IMPATIENT, SETTINGS

STEPS = [
    "detect_strategy",
    "check_health",
    "prepare",
    "decommission",
    "delete_pod",
    "reset_allocation",
    "await_pod",
    "await_green",
    "record_restart",
    "conclude_restart",
]


@pytest.fixture
def given(plane, home):
    """Resources for a cluster of the test's own: `given(world)`."""

    def of(world):
        return {
            "kubernetes": KubernetesResource(
                kubeconfig=str(plane.kubeconfig(world.pods.namespace))
            ),
            "cratedb": CrateDBResource(hosts=world.crate.connection_string),
            "state": StateStoreResource(url=f"sqlite:///{home / 'caretaker.db'}"),
        }

    return of


def test_a_pod_is_restarted_step_by_step_and_the_assets_show_it(start, given, home):
    world = start()
    # Draining and deleting are two steps, and a busy machine needs its time between them.
    world.crate.world.exit_delay_s = 60.0
    resources = given(world)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = defs.resolve_job_def("pod_restart").execute_in_process(
            instance=instance,
            run_config={**IMPATIENT, "pod": world.pod(1)},
            resources=resources,
            raise_on_error=False,
        )
        assert result.success
        done = [event.step_key for event in result.all_events if event.is_step_success]
        assert done == STEPS
        (cluster,) = result.output_for_node("record_restart").clusters
        (pod,) = cluster.results
        assert pod.success
        assert pod.uid_after != world.before[world.pod(1)]
        assert world.settings == SETTINGS

        shown = dg.materialize(
            [restarts, crate_cluster_health], instance=instance, resources=resources
        )
    found = {
        event.materialization.asset_key.to_user_string(): event.materialization.metadata
        for event in shown.get_asset_materialization_events()
    }
    assert found["restarts"]["success_rate"].value == 1.0
    assert found["restarts"]["count_manual"].value == 1
    assert "data:image/png" in str(found["restarts"]["durations"].value)
    assert found["crate_cluster_health"]["green"].value == 1
    assert "data:image/png" in str(found["crate_cluster_health"]["last_restart_timeline"].value)
    checks = {each.check_name: each.passed for each in shown.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(("failures", "duration", "timeouts", "terminating"), True)


def test_a_refused_pod_fails_its_run_before_anything_is_touched(start, given, home):
    world = start()
    world.crate.start_snapshot()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = defs.resolve_job_def("pod_restart").execute_in_process(
            instance=instance,
            run_config={**IMPATIENT, "pod": world.pod(1)},
            resources=given(world),
            raise_on_error=False,
        )
    assert not result.success
    (cluster,) = result.output_for_node("record_restart").clusters
    assert cluster.outcome == "REFUSED"
    assert "snapshot" in cluster.reason
    assert world.changes == []
    assert world.replaced == set()


def test_a_run_that_looked_dead_before_its_ticket_gives_way(start, given, home, monkeypatch):
    """A machine that slept behind the lock: whoever took the cluster since is left in peace."""
    world = start()
    resources = given(world)
    other = owner_of_run("run-of-the-other", os.getpid())

    def and_sleep(context, hands, cluster_id, name):
        take_the_cluster(context, hands, cluster_id, name)
        hands.store.acquire_lock(
            cluster_id, other, purpose="translog_reset", is_dead=lambda *_: True
        )

    monkeypatch.setattr("ops.decommission.take_the_cluster", and_sleep)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = defs.resolve_job_def("pod_restart").execute_in_process(
            instance=instance,
            run_config={**IMPATIENT, "pod": world.pod(1)},
            resources=resources,
            raise_on_error=False,
        )

    assert not result.success
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert "no longer ours: run run-of-the-other has it" in failure_text(failed)
    assert world.changes == []
    assert world.restarted == set()
    with StateStore.open(resources["state"].url) as store:
        assert store.open_restarts() == []
        assert [lock.owner.run_id for lock in store.held_locks()] == ["run-of-the-other"]
