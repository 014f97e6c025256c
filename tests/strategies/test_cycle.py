"""A whole environment at once: what is decided for one cluster says nothing of another."""

from __future__ import annotations

import json

import pytest

from caretaker.errors import InvalidSettingError
from caretaker.strategies.cycle import Observed, Plan, plan
from caretaker.strategies.outcome import ActionOutcome, ClusterOutcome, Outcome, report
from caretaker.strategies.policy import StrategiesPolicy
from caretaker.strategies.truth import (
    as_judged,
    change_between,
    context_of,
    has_happened,
)
from tests.strategies.cases import NOW, case, replica

DRY_RUN = StrategiesPolicy.checked()


def environment(**clusters):
    """Return an observation of clusters given as cases."""
    observed = Observed(now=NOW, version="v1", environment="e", role="r")
    for number, (name, given) in enumerate(clusters.items(), 2):
        cluster_id = f"u{number}"
        observed.sizes = given["sizes"]
        observed.clusters.append({**given["cluster"], "id": cluster_id, "name": name})
        observed.signals[cluster_id] = given["signals"]
        observed.strategies[cluster_id] = given["strategies"]
        observed.state[cluster_id] = given["state"]
    return observed


def to_do():
    return case(replica("r1", "25cc"), target_size={"target_size": "50cc"})


def test_everything_survives_json():
    observed = environment(a=to_do(), b=to_do())
    again = Observed.from_json(json.loads(json.dumps(observed.as_json())))
    planned = plan(again, DRY_RUN)
    done = ActionOutcome("x", planned.clusters[0].actions[0], executed=True)
    outcome = Outcome([ClusterOutcome("u2", "a", [done])])

    assert again == observed
    assert Plan.from_json(json.loads(json.dumps(planned.as_json()))) == planned
    assert Outcome.from_json(json.loads(json.dumps(outcome.as_json()))) == outcome
    told = report(DRY_RUN.mode, observed, planned, outcome)
    assert [one["state"] for one in told["actions"]] == ["executed", "planned"]
    assert json.loads(json.dumps(told)) == told


def test_a_cluster_that_cannot_be_judged_is_named_and_the_others_go_on():
    observed = environment(a=to_do(), b=to_do())
    observed.clusters[0]["replicas"][0]["created_at"] = "yesterday"
    planned = plan(observed, DRY_RUN)

    assert [one.cluster.name for one in planned.actions()] == ["b"]
    assert "created_at" in planned.problems[0]["message"]
    assert planned.clusters[0].result["skipped"]


def test_where_another_controller_is_at_work_nothing_is_planned():
    observed = environment(a=to_do(), b=to_do())
    observed.held["u2"] = "stands back: somebody"
    planned = plan(observed, DRY_RUN)

    assert [one.cluster.name for one in planned.actions()] == ["b"]
    assert [one["reason"] for one in planned.held] == ["stands back: somebody"]
    assert planned.clusters[0].result["state"] == {}


def test_those_that_wait_for_materialize_come_last():
    """A change of size may take half an hour, and nobody else has to wait for it."""
    managed = {"managed": True, "size": "25cc", "replication_factor": 1}
    slow = case(replica("r1", "25cc"), cluster=managed, target_size={"target_size": "50cc"})
    planned = plan(environment(a=slow, b=to_do()), DRY_RUN)

    assert [one.cluster.name for one in planned.actions()] == ["b", "a"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_ready", -1),
        ("max_replicas", True),
        ("max_replicas", 1.5),
        ("max_credits_per_hour", float("nan")),
        ("max_credits_per_hour", float("inf")),
        ("max_credits_per_hour", -0.5),
        ("allow_downtime", "yes"),
        ("overrides", {"prod": 5}),
        ("overrides", {"prod": {"max_credits_per_hour": "1"}}),
        ("nosuch", 1),
    ],
)
def test_a_limit_that_is_none_is_named(key, value):
    with pytest.raises(InvalidSettingError) as caught:
        StrategiesPolicy.checked(**{key: value})

    assert caught.value.key.startswith(key)


# --- what is so -----------------------------------------------------------------------------------


def cluster(*replicas, **more):
    return {**case(*replicas)["cluster"], **more}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (cluster(replica("r1"), replica("r2")), ""),
        (cluster(replica("r1")), "r2 (25cc) is gone"),
        (cluster(replica("r1"), replica("r2"), replica("x", "50cc")), "x (50cc) is there now"),
        (cluster(replica("r1"), replica("r2", "50cc")), "r2 (25cc) is gone"),
        (cluster(replica("r1"), replica("r2", id="u99")), "r2 (25cc) is gone"),
        (cluster(replica("r1"), replica("r2"), name="other"), "it is called 'other' now"),
        (cluster(replica("r1"), replica("r2"), managed=True), "it is managed now"),
    ],
)
def test_what_somebody_else_has_changed_is_said(now, words):
    before = as_judged(cluster(replica("r1"), replica("r2")))

    assert change_between(before, as_judged(now)) == words
    assert change_between(before, None) == "the cluster is gone"


def test_of_a_managed_cluster_size_and_factor_count_and_not_its_replicas():
    def managed(size="25cc", factor=2, *replicas):
        return as_judged(cluster(*replicas, managed=True, size=size, replication_factor=factor))

    assert change_between(managed(), managed("25cc", 2, replica("r1"))) == ""
    assert "its size is 50cc now" in change_between(managed(), managed("50cc"))
    assert "its replication factor is 0 now" in change_between(managed(), managed("25cc", 0))


def test_a_drop_has_happened_when_that_very_replica_is_gone():
    """Whoever made another of the same name since did not undo it."""
    before = cluster(replica("r1"), replica("r2"))
    action = {"op": "drop", "replica": "r1", "size": "25cc", "sql": "DROP"}
    context = context_of(action, before)
    again = cluster(replica("r1", id="u99"), replica("r2"))

    assert not has_happened(context, as_judged(before))
    assert has_happened(context, as_judged(again))
    assert has_happened(context, None)


def test_a_create_has_happened_when_a_replica_of_that_name_and_size_is_there():
    action = {"op": "create", "replica": "x", "size": "50cc", "sql": "CREATE"}
    context = context_of(action, cluster())

    assert has_happened(context, as_judged(cluster(replica("x", "50cc"))))
    assert not has_happened(context, as_judged(cluster(replica("x", "25cc"))))
    assert not has_happened(context, None)
