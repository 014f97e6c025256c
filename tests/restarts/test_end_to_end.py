"""A restart, from the command line to the pods, and nothing left behind."""

from __future__ import annotations

import pytest

from tests.restarts.conftest import SETTINGS


@pytest.mark.parametrize("address", [True, False], ids=["address", "exec"])
def test_a_manual_restart_replaces_every_pod_and_puts_everything_back(start, caretaker, address):
    world = start()
    master = world.master

    run = caretaker(world, address=address).restart(world)

    assert run.code == 0, run.err
    (cluster,) = run.json["clusters"]
    assert cluster["outcome"] == "COMPLETED"
    assert [pod["success"] for pod in cluster["pods"]] == [True] * 3
    assert {pod["strategy_used"] for pod in cluster["pods"]} == {"manual"}
    assert {pod["pod_name"] for pod in cluster["pods"]} == set(world.pods.pods)
    assert world.settings == SETTINGS
    began = sorted(cluster["pods"], key=lambda pod: pod["started_at"])
    assert began[-1]["pod_name"].endswith(f"-{master}")
    for pod in cluster["pods"]:
        assert pod["uid_after"] != pod["uid_before"] or pod["restarted_in_place"]


def test_one_pods_node_is_taken_out_and_the_result_says_how(start, caretaker):
    world = start()
    pod = world.pod(1)

    run = caretaker(world).decommission(pod)

    assert run.code == 0, run.err
    found = run.json
    assert found["pod_name"] == pod
    assert found["success"] is True
    assert found["process_exited"] is True
    assert found["strategy_used"] == "manual"
    assert found["decommission_timeout"] == 720
    assert found["uid_before"] == world.before[pod]
    assert found["error"] is None
    assert world.settings == SETTINGS
    assert [stmt for stmt in world.changes if "DECOMMISSION" in stmt] == [
        "ALTER CLUSTER DECOMMISSION 'data-hot-1'"
    ]


def test_only_the_pods_that_are_meant_are_restarted(start, caretaker):
    world = start()
    world.pods.cordon(0)
    running_on = {
        name: (world.pods.pod(name) or {})["spec"]["nodeName"] for name in world.pods.pods
    }
    meant = {name for name, machine in running_on.items() if machine == world.pods.machines[0]}

    run = caretaker(world).restart(world, "--only-cordoned", "--dry-run")

    assert run.code == 0, run.err
    (cluster,) = run.json["clusters"]
    assert {pod["pod_name"] for pod in cluster["plan"]} == meant


def test_a_persistent_value_of_an_operator_is_there_again_afterwards(start, caretaker):
    world = start()
    world.crate.sql("SET GLOBAL PERSISTENT \"cluster.graceful_stop.timeout\" = '600s'")

    run = caretaker(world).decommission(world.pod(1))

    assert run.code == 0, run.err
    assert world.settings == {**SETTINGS, "cluster.graceful_stop.timeout": "600s"}
    last = [stmt for stmt in world.changes if "graceful_stop.timeout" in stmt][-1]
    assert last.startswith("SET GLOBAL PERSISTENT")
