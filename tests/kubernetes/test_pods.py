"""The lab's kubelet does to a pod what a real one was seen to do, on both control planes."""

from __future__ import annotations

import os
import signal
import time

from lab.kubernetes import manifests

#: Of what passes by itself, and is looked for now and then by a machine that may be busy.
LONG_ENOUGH_TO_SEE_S = 8.0


def test_a_process_that_ends_comes_back_in_place_in_two_steps(client_of, start_pods):
    """Same UID: first ended with its exit code, then running with one restart more."""
    pods = start_pods(nodes=3)
    pods.kubelet.restart_s = LONG_ENOUGH_TO_SEE_S
    uid = pods.uid(2)
    client = client_of(pods)
    states: list[tuple[bool, int, int | None]] = []
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        decommission(pods, "data-hot-2")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            look.wait(0.5)
            pod = look.seen().pod(pods.pods[2])
            assert pod is not None
            assert pod.container is not None
            state = (pod.container.running, pod.container.restart_count, pod.container.exit_code)
            states += [] if states[-1:] == [state] else [state]
            if pod.ready and pod.container.restart_count:
                break

    assert states == [(True, 0, None), (False, 0, 0), (True, 1, 0)]
    assert pods.uid(2) == uid


def test_the_second_end_soon_after_is_a_crash_loop_even_with_exit_code_0(client_of, start_pods):
    pods = start_pods(nodes=3, back_off_s=20.0)
    client = client_of(pods)
    decommission(pods, "data-hot-1")
    pods.wait_for("the first restart", lambda: restarts(pods, 1) == 1 and pods.is_ready(1))

    decommission(pods, "data-hot-1")

    pods.wait_for("CrashLoopBackOff", lambda: waiting(client, pods.pods[1]) == "CrashLoopBackOff")
    seen = client.pod(pods.pods[1]).container
    assert seen is not None
    assert (seen.exit_code, seen.running) == (0, False)
    pods.wait_for("the second restart", lambda: restarts(pods, 1) == 2 and pods.is_ready(1))


def test_a_delete_ends_the_back_off_at_once(client_of, start_pods):
    pods = start_pods(nodes=1, back_off_s=300.0)
    pods.nodes.fail_starts(pods.pods[0], times=2)
    pods.kubelet.container(pods.pods[0]).signal(9)
    client = client_of(pods)
    pods.wait_for("CrashLoopBackOff", lambda: waiting(client, pods.pods[0]) == "CrashLoopBackOff")
    before = pods.uid(0)

    client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=30)

    pods.wait_for("a new pod", lambda: pods.is_ready(0) and pods.uid(0) != before)


def test_a_killed_container_is_a_killed_node(start_pods):
    pods = start_pods(nodes=3)
    pods.kubelet.restart_s = LONG_ENOUGH_TO_SEE_S

    pods.kubelet.container(pods.pods[0]).signal(9)

    pods.wait_for("the node to be missed", lambda: "data-hot-0" not in members(pods))
    pods.wait_for("the node to be back", lambda: "data-hot-0" in members(pods))
    pods.wait_for("the restart to be told", lambda: restarts(pods, 0) == 1)
    status = pods.pod(0)["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 137


def test_a_hook_that_outlives_the_grace_is_cut_off(client_of, start_pods):
    pods = start_pods(nodes=1, prestop=("sh", "-c", "sleep 600"), grace_s=2)
    before = pods.uid(0)

    client_of(pods).delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=2)

    pods.wait_for("a new pod", lambda: pods.is_ready(0) and pods.uid(0) != before)
    assert "FailedPreStopHook" in reasons(pods, before)


def test_a_pod_that_is_stuck_goes_only_by_force(client_of, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    before = pods.uid(0)
    pods.kubelet.held.add(pods.pods[0])
    client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=1)
    time.sleep(4)
    stuck = client.pod(pods.pods[0])
    assert stuck.uid == before
    assert stuck.deletion_at is not None

    client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=0)

    pods.kubelet.held.clear()
    pods.wait_for("a new pod", lambda: pods.is_ready(0) and pods.uid(0) != before)


def test_after_a_force_delete_the_new_process_waits_for_the_old_one(client_of, start_pods):
    """Two incarnations have one data directory; until then the old one answers for the new."""
    pods = start_pods(nodes=3)
    client = client_of(pods)
    before, old = pods.uid(1), pods.kubelet.container(pods.pods[1])
    # Deaf to everything but SIGKILL, so that the two do overlap.
    os.kill(old.pid, signal.SIGSTOP)

    client.delete_pod(pods.pods[1], pods.namespace, uid=before, grace_s=0)

    pods.wait_for("a new pod", lambda: pods.uid(1) not in {before, ""})
    pods.wait_for("the old one's end", lambda: old.exit_code() is not None)
    pods.wait_for("another process", lambda: _process(pods) not in {None, old.pid})
    pods.wait_for("the node to be back", lambda: "data-hot-1" in members(pods))
    pods.wait_for("Ready", lambda: pods.is_ready(1))
    assert restarts(pods, 1) == 0


def _process(pods):
    try:
        return pods.kubelet.container(pods.pods[1]).pid
    except KeyError:
        return None


def test_a_replacement_may_never_become_ready(client_of, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    before = pods.uid(0)
    pods.kubelet.never_ready.add(pods.pods[0])

    client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=30)

    def runs() -> bool:
        seen = client.pod(pods.pods[0]) if pods.uid(0) not in {before, ""} else None
        return seen is not None and seen.container is not None and seen.container.running

    pods.wait_for("a new pod that runs", runs)
    time.sleep(2)
    assert not client.pod(pods.pods[0]).ready


def test_containers_outlive_an_api_server_that_is_away(plane, start_pods):
    pods = start_pods(nodes=1)
    uid, pid = pods.uid(0), pods.kubelet.container(pods.pods[0]).pid

    plane.restart_api()

    assert pods.kubelet.container(pods.pods[0]).pid == pid
    pods.wait_for("Ready as before", lambda: pods.is_ready(0))
    assert (pods.uid(0), restarts(pods, 0)) == (uid, 0)


def test_a_hook_without_dc_util_drains_nothing(client_of, start_pods):
    pods = start_pods(nodes=3, prestop=("sh", "-c", "true"))
    pods.crate.world.boot_s = LONG_ENOUGH_TO_SEE_S
    pods.crate.table("doc.t", shards=6, replicas="0")
    before = pods.uid(2)
    held = "SELECT count(*) FROM sys.shards WHERE node['name'] = 'data-hot-2'"
    assert pods.crate.sql(held)["rows"] != [[0]]

    client_of(pods).delete_pod(pods.pods[2], pods.namespace, uid=before, grace_s=30)

    pods.wait_for("missing shards", lambda: missing(pods) > 0)
    pods.wait_for("a new pod", lambda: pods.is_ready(2) and pods.uid(2) != before)


def test_a_managed_drain_leaves_its_settings_behind(client_of, start_pods):
    """Nobody puts them back but caretaker: they hide an operator's own."""
    pods = start_pods(nodes=3, prestop=manifests.DC_UTIL, grace_s=300)
    pods.crate.table("doc.t", shards=4, replicas="1")
    before = pods.uid(0)

    client_of(pods).delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=780)

    pods.wait_for("a new pod", lambda: pods.is_ready(0) and pods.uid(0) != before, 120)
    found = pods.crate.sql("SELECT settings['cluster']['graceful_stop'] FROM sys.cluster")
    assert found["rows"][0][0] == {
        "timeout": "720s",
        "force": True,
        "min_availability": "PRIMARIES",
    }


def decommission(pods, node: str) -> None:
    answer = pods.crate.sql("ALTER CLUSTER DECOMMISSION ?", [node])
    assert "error" not in answer, answer


def members(pods) -> set[str]:
    return {row[0] for row in pods.crate.sql("SELECT name FROM sys.nodes")["rows"]}


def missing(pods) -> int:
    return int(pods.crate.sql("SELECT missing_shards FROM sys.cluster_health")["rows"][0][0])


def restarts(pods, number: int) -> int:
    status = (pods.pod(number) or {}).get("status") or {}
    return int((status.get("containerStatuses") or [{}])[0].get("restartCount") or 0)


def waiting(client, pod: str) -> str:
    container = client.pod(pod).container
    return "" if container is None else container.waiting


def reasons(pods, uid: str) -> set[str]:
    items = pods.rest.ask("GET", f"/api/v1/namespaces/{pods.namespace}/events")["items"]
    return {each["reason"] for each in items if each["involvedObject"]["uid"] == uid}
