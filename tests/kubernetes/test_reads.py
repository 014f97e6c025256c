"""What caretaker sees of a cluster, on both control planes."""

from __future__ import annotations

import pytest

from caretaker.decommission.model import ContainerSpec
from caretaker.errors import RefusedError, TransientError
from lab.faults import Action, Fault
from lab.kubernetes import manifests


def test_a_cluster_is_found_by_name_by_statefulset_and_by_pod(client, pods):
    found = client.cluster("steady")

    assert found.ref.namespace == "steady"
    assert [each.name for each in found.statefulsets] == [pods.statefulset]
    assert client.cluster(pods.statefulset).ref == found.ref
    assert client.cluster_of_pod(pods.pods[0]).ref == found.ref


def test_pods_are_seen_with_all_that_a_restart_judges_by(client, pods):
    seen = client.seen(client.cluster("steady"))

    assert [pod.name for pod in seen.pods] == pods.pods
    for pod in seen.pods:
        assert (pod.phase, pod.ready, pod.deletion_at) == ("Running", True, None)
        assert pod.uid == pods.uid(pod.name)
        assert pod.statefulset == pods.statefulset
        assert pod.kube_node in pods.machines
        assert pod.container is not None
        assert (pod.container.running, pod.container.restart_count) == (True, 0)
        assert pod.containers == (ContainerSpec("crate"),)
        assert pod.grace_s == 30


def test_a_statefulset_is_seen_with_its_hook_and_its_rollout(client_of, start_pods):
    pods = start_pods(nodes=1, prestop=manifests.DC_UTIL, grace_s=1200)

    found = client_of(pods).statefulset(pods.statefulset)

    assert found.containers == (ContainerSpec("crate", manifests.DC_UTIL),)
    assert (found.grace_s, found.replicas, found.ready_replicas) == (1200, 1, 1)
    assert found.settled
    assert found.current_revision == found.update_revision
    assert found.update_strategy == "OnDelete"


def test_a_changed_template_shows_as_a_rollout_that_waits(client_of, start_pods):
    pods = start_pods(nodes=1)
    path = f"/apis/apps/v1/namespaces/{pods.namespace}/statefulsets/{pods.statefulset}"
    template = {"metadata": {"annotations": {"changed": "yes"}}}
    pods.rest.ask("PATCH", path, {"spec": {"template": template}})
    client = client_of(pods)

    def changed() -> bool:
        found = client.statefulset(pods.statefulset)
        return bool(found.settled and found.current_revision != found.update_revision)

    pods.wait_for("the rollout to show", changed)


def test_cordoned_machines_and_budgets_are_seen(client_of, start_pods):
    pods = start_pods(nodes=2)
    pods.cordon(1)
    client = client_of(pods)

    seen = client.seen(client.cluster(pods.name))

    assert seen.nodes is not None
    cordoned = {node.name for node in seen.nodes if node.unschedulable}
    assert cordoned & set(pods.machines) == {pods.machines[1]}
    assert seen.budgets is not None
    assert [(budget.disruptions_allowed, budget.pods) for budget in seen.budgets] == [
        (1, tuple(pods.pods))
    ]


def test_a_claim_that_somebody_deleted_is_seen_while_its_pod_uses_it(client_of, start_pods):
    """The StatefulSet makes a new, empty one as soon as the pod goes."""
    pods = start_pods(nodes=1)
    claim = f"data0-{pods.pods[0]}"
    path = f"/api/v1/namespaces/{pods.namespace}/persistentvolumeclaims/{claim}"
    pods.rest.ask("DELETE", path)
    client = client_of(pods)

    (pod,) = client.seen(client.cluster(pods.name)).pods

    assert pod.claims_in_deletion == (claim,)


def test_events_of_a_pod_are_told_newest_first(client, pods):
    with client.look(client.cluster("steady")) as look:
        seen = look.seen(fresh=True, events_of=[pods.pods[0]])

    pod = seen.pod(pods.pods[0])
    assert pod is not None
    assert any("Started: Started container crate" in line for line in pod.events)
    assert list(pod.events) == sorted(pod.events, reverse=True)


def test_the_operators_resource_is_read_where_there_is_one(client_of, start_pods):
    pods = start_pods(nodes=1)
    resource = {
        "apiVersion": "cloud.crate.io/v1",
        "kind": "CrateDB",
        "metadata": {"name": pods.name, "namespace": pods.namespace},
        "status": {"crateDBStatus": {"health": "YELLOW"}},
    }
    pods.rest.ask("POST", f"/apis/cloud.crate.io/v1/namespaces/{pods.namespace}/cratedbs", resource)

    found = client_of(pods).cluster(pods.name)

    assert (found.found_by, found.reported_health) == ("custom resource", "YELLOW")


def test_a_list_of_many_pages_is_read_whole(client, pods, monkeypatch):
    monkeypatch.setattr("resources.kubernetes.requests._PAGE", "1")

    seen = client.seen(client.cluster("steady"))

    assert [pod.name for pod in seen.pods] == pods.pods


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_read_is_tried_again_where_that_helps(client, plane, pods, status):
    plane.front.faults.add(Fault("get pods", Action.ERROR, status=status, times=2, seconds=0))

    assert client.pod(pods.pods[0]).uid == pods.uid(0)


def test_a_read_that_never_succeeds_ends_and_says_why(client, plane, pods):
    plane.front.faults.add(
        Fault("get pods", Action.ERROR, status=503, message="etcdserver: no leader")
    )

    with pytest.raises(TransientError, match="etcdserver: no leader"):
        client.pod(pods.pods[0])


def test_half_an_answer_is_no_answer(client, plane):
    plane.front.faults.add(Fault("list pods", Action.HALF_BODY, times=2))

    seen = client.seen(client.cluster("steady"))

    assert len(seen.pods) == 3


def test_an_answer_that_never_comes_is_not_waited_for(client_of, plane, pods):
    client = client_of(pods, timeout_s=0.5)
    plane.front.faults.add(Fault("get pods", Action.HANG, times=1))

    assert client.pod(pods.pods[0]).uid == pods.uid(0)


def test_something_else_on_the_port_is_told_from_an_api_server(client, plane, pods):
    plane.front.faults.add(Fault("get pods", Action.HTML))

    with pytest.raises(RefusedError, match="is no API server"):
        client.pod(pods.pods[0])
