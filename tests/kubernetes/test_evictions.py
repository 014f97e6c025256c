"""Whether a pod may go is asked by an eviction that is not carried out."""

from __future__ import annotations

import pytest

from caretaker.errors import TransientError
from lab.faults import Action, Fault
from lab.kubernetes import manifests
from resources.kubernetes.answers import BusyError


def test_a_budget_with_room_says_yes_and_nothing_happens(client, pods):
    before = [pods.pod(name) for name in pods.pods]

    answers = [client.may_evict(name, "steady", uid=pods.uid(name)) for name in pods.pods]

    assert answers == ["", "", ""]
    assert [pods.pod(name) for name in pods.pods] == before


def test_a_budget_without_room_says_which_one_and_why(client_of, start_pods):
    pods = start_pods(nodes=2, budget=False)
    path = f"/apis/policy/v1/namespaces/{pods.namespace}/poddisruptionbudgets/none"
    document = manifests.budget(pods.name, pods.namespace, max_unavailable=0)
    pods.apply(path, document)
    name = document["metadata"]["name"]
    pods.wait_for("the budget to be counted", lambda: allowed(pods, name) == 0)

    answer = client_of(pods).may_evict(pods.pods[0], pods.namespace)

    assert "disruption budget" in answer
    assert name in answer


def test_while_one_pod_goes_no_other_may(client_of, start_pods):
    """A pod that is Terminating counts as gone at once."""
    pods = start_pods(nodes=3, prestop=("sh", "-c", "sleep 60"), grace_s=120)
    client = client_of(pods)
    uid = pods.uid(0)
    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=120)
    name = f"crate-{pods.name}"
    pods.wait_for("the budget to be counted", lambda: allowed(pods, name) == 0)

    assert name in client.may_evict(pods.pods[1], pods.namespace)
    seen = client.seen(client.cluster(pods.name))
    assert seen.budgets is not None
    assert [budget.disruptions_allowed for budget in seen.budgets] == [0]

    client.delete_pod(pods.pods[0], pods.namespace, uid=uid, grace_s=1)
    pods.wait_for("the budget to have room again", lambda: allowed(pods, name) == 1)
    assert client.may_evict(pods.pods[1], pods.namespace) == ""


def test_two_budgets_on_one_pod_are_a_no(client_of, start_pods):
    pods = start_pods(nodes=1)
    second = manifests.budget(pods.name, pods.namespace)
    second["metadata"]["name"] = "second"
    pods.apply(f"/apis/policy/v1/namespaces/{pods.namespace}/poddisruptionbudgets/second", second)

    answer = client_of(pods).may_evict(pods.pods[0], pods.namespace)

    assert "more than one PodDisruptionBudget" in answer


def test_another_pod_of_that_name_is_a_no_and_no_pod_at_all_a_yes(client, pods):
    assert "UID in the precondition" in client.may_evict(pods.pods[0], "steady", uid="another")
    assert client.may_evict(f"{pods.statefulset}-9", "steady") == ""


def test_a_busy_api_server_is_no_answer(client, plane, pods):
    """429 means two things; only the one with a budget in it is a no."""
    plane.front.faults.add(
        Fault("pods/eviction", Action.ERROR, status=429, message="too many requests", seconds=3)
    )

    with pytest.raises(BusyError):
        client.may_evict(pods.pods[0], "steady")


def test_a_lost_answer_is_no_answer(client, plane, pods):
    plane.front.faults.add(Fault("pods/eviction", Action.RESET_AFTER))

    with pytest.raises(TransientError):
        client.may_evict(pods.pods[0], "steady")


def allowed(pods, name: str) -> object:
    path = f"/apis/policy/v1/namespaces/{pods.namespace}/poddisruptionbudgets/{name}"
    return (pods.rest.ask("GET", path).get("status") or {}).get("disruptionsAllowed")
