"""Managed clusters are given a size and a number of replicas; what cannot apply says so."""

from __future__ import annotations

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import (
    BUSY,
    DAY_S,
    IDLE,
    acts,
    after,
    ago,
    held,
    live,
    managed,
    payload,
    problems,
)
from tests.strategies.test_guard import PRICED

SUSPEND = {"idle_after_s": 1800}
TARGET = {"target_size": "100cc"}


def test_a_managed_cluster_changes_size_without_downtime():
    result = decide(managed(target_size=TARGET, sizes=PRICED))
    assert acts(result) == [("alter", None, "100cc")]
    assert result["actions"][0]["sql"] == (
        "ALTER CLUSTER \"prod\" SET (SIZE = '100cc')"
        " WITH (WAIT UNTIL READY (TIMEOUT '1800s', ON TIMEOUT ROLLBACK))"
    )
    assert result["actions"][0]["credits_per_hour_delta"] == 1.0
    assert result["desired"] == {"r1": "100cc", "r2": "100cc"}


def test_the_operator_says_how_long_materialize_waits():
    result = decide(managed(target_size={**TARGET, "pending_timeout_s": 0.5}))
    assert "TIMEOUT '1s'" in result["actions"][0]["sql"]


def test_a_managed_cluster_of_the_right_size_is_left_alone():
    result = decide(managed(size="100cc", target_size=TARGET))
    assert acts(result) == []
    assert result["desired"] == {"r1": "100cc", "r2": "100cc"}


def test_a_change_that_was_rolled_back_is_reported_and_tried_again():
    first = managed(target_size=TARGET)
    rolled_back = {**first, "state": decide(first)["state"]}
    result = decide({**rolled_back, "now": ago(-60)})
    assert acts(result) == []
    assert "waiting" in held(result, "target_size")
    result = decide({**rolled_back, "now": ago(-1800)})
    assert problems(result) == [("target_size", "pending_target_replica")]
    assert acts(result) == [("alter", None, "100cc")]


def test_old_and_new_replicas_of_a_resize_must_fit_together():
    result = decide(managed(factor=3, target_size=TARGET))
    assert acts(result) == []
    assert "6 replicas at once" in held(result, "target_size")
    limits = {"max_credits_per_hour": 2.9}
    assert acts(decide(managed(target_size=TARGET, sizes=PRICED, limits=limits))) == []
    limits = {"max_credits_per_hour": 3}
    assert acts(decide(managed(target_size=TARGET, sizes=PRICED, limits=limits))) != []


def test_an_idle_managed_cluster_is_suspended_and_its_number_remembered():
    result = decide(managed(activity=IDLE, idle_suspend=SUSPEND, sizes=PRICED))
    assert acts(result) == [("alter", None, None)]
    assert result["actions"][0]["sql"] == 'ALTER CLUSTER "prod" SET (REPLICATION FACTOR 0)'
    assert result["actions"][0]["credits_per_hour_delta"] == -1.0
    assert result["desired"] == {}
    assert payload(result, "idle_suspend")["replication_factor"] == 2


def test_activity_brings_back_as_many_replicas_as_there_were():
    config = {**SUSPEND, "cooldown_s": 99999}
    first = managed(activity=IDLE, idle_suspend=config, factor=3)
    asleep = after(first, decide(first))
    assert acts(decide(asleep)) == []
    asleep["signals"]["activity"] = BUSY
    result = decide(asleep)
    assert result["actions"][0]["sql"] == 'ALTER CLUSTER "prod" SET (REPLICATION FACTOR 3)'
    assert result["desired"] == {"r1": "50cc", "r2": "50cc", "r3": "50cc"}
    assert payload(result, "idle_suspend")["replication_factor"] is None


def test_where_no_number_is_remembered_one_replica_comes_back():
    result = decide(managed(factor=0, activity=BUSY, idle_suspend=SUSPEND))
    assert "FACTOR 1)" in result["actions"][0]["sql"]


def test_no_more_replicas_come_back_than_are_allowed():
    state = {"idle_suspend": {"replication_factor": 4}}
    limits = {"max_replicas": 3}
    result = decide(managed(factor=0, idle_suspend=SUSPEND, state=state, limits=limits))
    assert "FACTOR 3)" in result["actions"][0]["sql"]
    assert "max_replicas is 3" in held(result, "idle_suspend")


@pytest.mark.parametrize("factor", [0, 2])
def test_unknown_activity_changes_nothing(factor):
    result = decide(managed(factor=factor, activity=None, idle_suspend=SUSPEND))
    assert acts(result) == []
    assert "unknown" in held(result, "idle_suspend")


def test_a_managed_cluster_is_suspended_only_when_its_replicas_are_old_enough():
    first = managed(activity=IDLE, idle_suspend=SUSPEND)
    first["cluster"]["replicas"][1]["created_at"] = ago(60)
    assert "r2 is not 1800 s old" in held(decide(first), "idle_suspend")
    first["cluster"]["replicas"] = []
    assert "age of its replicas is unknown" in held(decide(first), "idle_suspend")


def test_a_managed_cluster_that_serves_us_is_not_suspended():
    result = decide(managed(activity=IDLE, idle_suspend=SUSPEND, cluster={"serves_us": True}))
    assert acts(result) == []


def test_the_size_of_a_suspended_cluster_waits_until_it_is_used():
    configs = {"target_size": TARGET, "idle_suspend": SUSPEND}
    result = decide(managed(factor=0, activity=IDLE, **configs))
    assert acts(result) == []
    assert "idle" in held(result, "target_size")
    result = decide(managed(factor=0, activity=BUSY, **configs))
    assert acts(result) == [("alter", None, "100cc"), ("alter", None, None)]
    assert result["desired"] == {"r1": "100cc"}


def test_a_cooldown_delays_a_resize_and_a_suspension_and_no_resumption():
    config = {**TARGET, "cooldown_s": 60}
    state = {"target_size": {"last_decision_ts": ago(59)}}
    result = decide(managed(target_size=config, state=state))
    assert acts(result) == []
    assert "cooldown" in held(result, "target_size")
    suspend = {**SUSPEND, "cooldown_s": 60}
    state = {"idle_suspend": {"last_decision_ts": ago(59)}}
    result = decide(managed(activity=IDLE, idle_suspend=suspend, state=state))
    assert acts(result) == []
    assert "cooldown" in held(result, "idle_suspend")


def test_what_cannot_apply_to_a_managed_cluster_says_so():
    configs = {
        "shrink_to_fit": {"max_replica_size": "100cc"},
        "burst": {"burst_replica_size": "100cc"},
    }
    result = decide(managed(**configs))
    assert problems(result) == [("shrink_to_fit", "managed"), ("burst", "managed")]
    assert all("managed cluster" in one["message"] for one in result["problems"])
    assert acts(result) == []


def test_a_name_for_replicas_of_a_managed_cluster_is_said_to_be_ignored():
    result = decide(managed(target_size={**TARGET, "replica_name": "main"}))
    assert acts(result) == [("alter", None, "100cc")]
    assert "replica_name" in held(result, "target_size")


def test_a_managed_cluster_settles():
    configs = {"target_size": TARGET, "idle_suspend": SUSPEND}
    lived = live(managed(factor=0, activity=BUSY, **configs), 3, {})
    assert [len(result["actions"]) for _, result in lived] == [2, 0, 0]


def test_a_size_that_was_given_up_keeps_nobody_from_being_woken():
    state = {"target_size": {"given_up": {"size": "100cc", "at": ago(60)}}}
    result = decide(managed(factor=0, target_size=TARGET, idle_suspend=SUSPEND, state=state))
    assert [one["sql"] for one in result["actions"]] == [
        'ALTER CLUSTER "prod" SET (REPLICATION FACTOR 1)'
    ]
    assert "given up" in held(result, "target_size")
    result = decide(managed(target_size=TARGET, state=state) | {"now": ago(-2 * DAY_S)})
    assert acts(result) == [("alter", None, "100cc")]
