"""Clusters and replicas that are somebody else's business are left alone, with a reason."""

from __future__ import annotations

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import IDLE, acts, case, drops, held, replica

TARGET = {"target_size": "50cc"}


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ({"id": "s2"}, "system"),
        ({"id": "p1"}, "system"),
        ({"schedule": "on-refresh"}, "on-refresh"),
        ({"pending": True}, "pending"),
        ({"name": "prod_dbt_deploy"}, "blue/green"),
        ({"name": "a\0b"}, "control character"),
        ({"name": "\ud800"}, "surrogate"),
        ({"name": "n" * 256}, "255 bytes"),
        ({"name": "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 128}, "255 bytes"),
    ],
)
def test_a_cluster_that_is_not_ours_to_change_is_left_alone(cluster, reason):
    configs = {"target_size": TARGET, "idle_suspend": {"idle_after_s": 60}}
    result = decide(case(replica("r1"), activity=IDLE, cluster=cluster, **configs))
    assert reason in result["skipped"]
    assert result["actions"] == []
    assert result["desired"] == {"r1": "25cc"}


def test_what_is_remembered_of_a_skipped_cluster_is_kept():
    state = {"target_size": {"last_decision_ts": None, "pending_target_replica": None}}
    result = decide(case(cluster={"pending": True}, target_size=TARGET, state=state))
    assert result["state"] == {"target_size": {"version": 1, "payload": state["target_size"]}}


@pytest.mark.parametrize("kind", ["internal", "pending"])
def test_an_internal_or_pending_replica_is_never_dropped(kind):
    there = [replica("r_50cc", "50cc"), replica("r1"), replica("odd", "25cc", **{kind: True})]
    result = decide(case(*there, target_size=TARGET))
    assert drops(result) == {"r1"}
    assert f"odd is {kind}" in held(result, None)
    assert result["desired"] == {"r_50cc": "50cc", "odd": "25cc"}


@pytest.mark.parametrize("kind", ["internal", "pending"])
def test_an_internal_or_pending_replica_does_not_make_the_others_superfluous(kind):
    there = [replica("r_50cc", "50cc", **{kind: True}), replica("r1")]
    assert drops(decide(case(*there, target_size=TARGET))) == set()


def test_a_pending_replica_of_the_target_size_is_waited_for():
    there = [replica("r9", "50cc", pending=True), replica("r1")]
    assert acts(decide(case(*there, target_size=TARGET))) == []


def test_a_reconfiguration_under_way_is_not_suspended():
    there = [replica("r1"), replica("r9", pending=True)]
    result = decide(case(*there, activity=IDLE, idle_suspend={"idle_after_s": 60}))
    assert acts(result) == []
    assert "reconfiguration" in held(result, "idle_suspend")


def test_an_internal_replica_does_not_keep_a_cluster_awake():
    there = [replica("r1"), replica("support", internal=True, age_s=1)]
    result = decide(case(*there, activity=IDLE, idle_suspend={"idle_after_s": 60}))
    assert drops(result) == {"r1"}


def test_a_replica_whose_name_no_statement_can_hold_stays():
    there = [replica("r_50cc", "50cc"), replica("a\nb")]
    result = decide(case(*there, target_size=TARGET))
    assert acts(result) == []
    assert "control character" in held(result, "target_size")
