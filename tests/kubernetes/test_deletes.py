"""A delete ends the pod that is meant, once, and what is not known is said to be unknown."""

from __future__ import annotations

import pytest

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from lab.faults import Action, Fault
from lab.kubernetes import manifests
from resources.kubernetes.answers import BusyError


def test_a_deleted_pod_comes_back_as_another(client_of, start_pods):
    pods = start_pods(nodes=1)
    before = pods.uid(0)

    client_of(pods).delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=30)

    pods.wait_for("a new pod", lambda: pods.is_ready(0) and pods.uid(0) != before)


def test_a_pod_that_is_another_by_now_is_left_alone(client, pods):
    before = pods.uid(0)

    with pytest.raises(RefusedError, match="UID in the precondition") as caught:
        client.delete_pod(pods.pods[0], "steady", uid="not-this-one", grace_s=30)

    assert caught.value.status == 409
    found = pods.pod(0)
    assert found["metadata"]["uid"] == before
    assert "deletionTimestamp" not in found["metadata"]


def test_a_pod_that_is_gone_is_told_as_gone(client, pods):
    with pytest.raises(RefusedError, match="not found") as caught:
        client.delete_pod(f"{pods.statefulset}-9", "steady", uid="any", grace_s=30)

    assert caught.value.status == 404


def test_a_pod_in_its_prestop_hook_looks_healthy_but_for_its_deletion(client_of, start_pods):
    """Running and Ready: only deletionTimestamp tells, and it is the request plus the grace."""
    pods = start_pods(nodes=1, prestop=("sh", "-c", "sleep 60"), grace_s=120)
    client = client_of(pods)
    uid = pods.uid(0)

    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=300)

    seen = client.pod(pods.pods[0])
    assert (seen.uid, seen.phase, seen.ready) == (uid, "Running", True)
    assert seen.deletion_at is not None
    assert seen.container is not None
    assert seen.container.running
    # A second delete can only shorten, and does.
    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=1)
    pods.wait_for("the shortened end", lambda: pods.uid(0) not in {uid, ""})


def test_a_pods_grace_is_never_made_longer_by_asking_again(client_of, start_pods):
    pods = start_pods(nodes=1, prestop=("sh", "-c", "sleep 60"), grace_s=60)
    client = client_of(pods)
    uid = pods.uid(0)
    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=60)
    first = client.pod(pods.pods[0]).deletion_at

    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=300)

    assert client.pod(pods.pods[0]).deletion_at == first
    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=1)
    pods.wait_for("its end", lambda: pods.uid(0) not in {uid, ""})


@pytest.mark.parametrize("action", [Action.RESET_AFTER, Action.HALF_BODY, Action.HANG])
def test_a_delete_without_an_answer_is_unknown_and_is_sent_once(
    client_of, plane, start_pods, action
):
    pods = start_pods(nodes=1)
    client = client_of(pods, timeout_s=2.0)
    before = pods.uid(0)
    sent = len(plane.front.journal)
    plane.front.faults.add(Fault("delete pods", action))

    with pytest.raises(UnknownResultError, match="may have been applied"):
        client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=30)

    pods.wait_for("the new pod", lambda: pods.is_ready(0) and pods.uid(0) != before)
    deletes = [each for each in plane.front.journal[sent:] if each.method == "DELETE"]
    assert len(deletes) == 1


def test_a_delete_that_the_api_server_cannot_answer_for_is_unknown(client, plane, pods):
    before = pods.uid(0)
    plane.front.faults.add(
        Fault("delete pods", Action.ERROR, status=500, message="etcdserver: request timed out")
    )

    with pytest.raises(UnknownResultError, match="request timed out"):
        client.delete_pod(pods.pods[0], "steady", uid=before, grace_s=30)

    assert pods.uid(0) == before


def test_a_busy_api_server_says_when_to_come_back(client, plane, pods):
    plane.front.faults.add(
        Fault("delete pods", Action.ERROR, status=429, message="too many requests", seconds=7)
    )

    with pytest.raises(BusyError, match="too many requests") as caught:
        client.delete_pod(pods.pods[0], "steady", uid=pods.uid(0), grace_s=30)

    assert caught.value.retry_after_s == 7
    assert isinstance(caught.value, TransientError)


def test_a_conflict_is_told_as_one(client, plane, pods):
    plane.front.faults.add(
        Fault("delete pods", Action.ERROR, status=409, message="the object has been modified")
    )

    with pytest.raises(RefusedError, match="has been modified") as caught:
        client.delete_pod(pods.pods[0], "steady", uid=pods.uid(0), grace_s=30)

    assert caught.value.status == 409


def test_an_api_server_that_is_away_has_seen_nothing(client, plane, pods):
    uid = pods.uid(0)
    plane.front.stop()
    try:
        with pytest.raises(TransientError, match="Connection refused"):
            client.delete_pod(pods.pods[0], "steady", uid=uid, grace_s=30)
    finally:
        plane.front.start()

    assert pods.uid(0) == uid


def test_what_stops_a_delete_at_the_last_moment_stops_it(client, plane, pods):
    sent = len(plane.front.journal)

    def no() -> None:
        raise RefusedError("another owner")

    with pytest.raises(RefusedError, match="another owner"):
        client.delete_pod(pods.pods[0], "steady", uid=pods.uid(0), grace_s=30, just_before=no)

    assert not [each for each in plane.front.journal[sent:] if each.method == "DELETE"]


def test_dc_util_drains_the_node_before_the_pod_goes(client_of, start_pods):
    """And its FailedPreStopHook is normal: the process ended under the hook."""
    pods = start_pods(nodes=3, prestop=manifests.DC_UTIL, grace_s=300)
    pods.crate.table("doc.t", shards=4, replicas="1")
    pods.crate.world.boot_s = 8.0  # long enough to be seen away
    client = client_of(pods)
    before = pods.uid(2)

    client.delete_pod(pods.pods[2], pods.namespace, uid=before, grace_s=780)

    pods.wait_for("the drained node to leave", lambda: "data-hot-2" not in members(pods))
    assert pods.crate.sql("SELECT missing_shards FROM sys.cluster_health")["rows"] == [[0]]
    pods.wait_for("a new pod", lambda: pods.is_ready(2) and pods.uid(2) != before, 120)
    events = pods.rest.ask("GET", f"/api/v1/namespaces/{pods.namespace}/events")["items"]
    failed = [each for each in events if each["reason"] == "FailedPreStopHook"]
    assert [each["involvedObject"]["uid"] for each in failed] == [before]


def members(pods) -> set[str]:
    return {row[0] for row in pods.crate.sql("SELECT name FROM sys.nodes")["rows"]}
