"""idle_suspend: nothing is paid for while nobody asks, and no doubt ever suspends a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import (
    BUSY,
    IDLE,
    NEVER,
    NOW,
    READY,
    acts,
    after,
    ago,
    case,
    creates,
    drops,
    held,
    live,
    payload,
    replica,
)

SUSPEND = {"idle_after_s": 1800}


def last_at(seconds: float, running: int = 0) -> dict[str, Any]:
    return {"last_at": ago(seconds), "running": running}


@pytest.mark.parametrize("activity", [IDLE, NEVER, last_at(1801)])
def test_an_idle_cluster_loses_every_replica(activity):
    there = [replica("r1"), replica("r2", ready=False), replica("r3", None, ready=None)]
    result = decide(case(*there, activity=activity, idle_suspend=SUSPEND))
    assert drops(result) == {"r1", "r2", "r3"}
    assert result["desired"] == {}
    assert {one["strategy"] for one in result["actions"]} == {"idle_suspend"}
    assert payload(result, "idle_suspend")["last_decision_ts"] == NOW


@pytest.mark.parametrize("activity", [BUSY, last_at(1800), last_at(99999, running=1), last_at(-60)])
def test_a_cluster_in_use_is_left_alone(activity):
    result = decide(case(replica("r1"), activity=activity, idle_suspend=SUSPEND))
    assert acts(result) == []


@pytest.mark.parametrize(
    "unknown", [None, {"last_at": None}, {"last_at": ago(99999), "running": None}, {"running": 0}]
)
def test_nobody_knowing_whether_it_is_used_suspends_nothing(unknown):
    result = decide(case(replica("r1"), activity=unknown, idle_suspend=SUSPEND))
    assert acts(result) == []
    assert "unknown" in held(result, "idle_suspend")


def test_a_young_replica_gets_its_time_to_be_used():
    there = [replica("old"), replica("young", age_s=1799)]
    result = decide(case(*there, activity=IDLE, idle_suspend=SUSPEND))
    assert acts(result) == []
    assert "young is not 1800 s old" in held(result, "idle_suspend")


def test_an_unknown_age_is_no_great_age():
    result = decide(case(replica("r1", age_s=None), activity=IDLE, idle_suspend=SUSPEND))
    assert acts(result) == []
    assert "age of r1 is unknown" in held(result, "idle_suspend")


def test_the_cluster_that_serves_our_own_session_is_never_suspended():
    there = replica("r1")
    first = case(there, activity=IDLE, idle_suspend=SUSPEND, cluster={"serves_us": True})
    result = decide(first)
    assert acts(result) == []
    assert "our own session" in held(result, "idle_suspend")


def test_a_suspended_cluster_stays_so_while_nobody_asks():
    configs = {"target_size": {"target_size": "50cc"}, "idle_suspend": SUSPEND}
    result = decide(case(activity=IDLE, **configs))
    assert acts(result) == []
    assert result["desired"] == {}
    assert "not created" in held(result, "target_size")


@pytest.mark.parametrize("cooldown_s", [0, 99999])
def test_no_cooldown_lets_a_suspended_cluster_flap(cooldown_s):
    config = {**SUSPEND, "cooldown_s": cooldown_s}
    first = case(
        replica("r1", "50cc"),
        activity=IDLE,
        idle_suspend=config,
        target_size={"target_size": "50cc"},
    )
    lived = live(first, 4, {"50cc": READY})
    assert [len(result["actions"]) for _, result in lived] == [1, 0, 0, 0]


def test_activity_brings_the_cluster_back_at_once():
    """A query on an empty cluster fails, is logged, and so is the wake-up."""
    configs = {
        "target_size": {"target_size": "50cc", "cooldown_s": 99999},
        "idle_suspend": {**SUSPEND, "cooldown_s": 99999},
    }
    state = {name: {"last_decision_ts": ago(60)} for name in configs}
    result = decide(case(activity=last_at(1), state=state, **configs))
    assert creates(result) == {"r_50cc": "50cc"}


def test_unknown_activity_does_not_keep_a_cluster_suspended():
    configs = {"target_size": {"target_size": "50cc"}, "idle_suspend": SUSPEND}
    assert creates(decide(case(activity=None, **configs))) == {"r_50cc": "50cc"}


def test_a_cooldown_delays_the_next_suspension():
    state = {"idle_suspend": {"last_decision_ts": ago(59)}}
    config = {**SUSPEND, "cooldown_s": 60}
    result = decide(case(replica("r1"), activity=IDLE, idle_suspend=config, state=state))
    assert acts(result) == []
    assert "cooldown" in held(result, "idle_suspend")


def test_a_cooldown_of_suspension_lets_the_others_create():
    state = {"idle_suspend": {"last_decision_ts": ago(59)}}
    configs = {
        "idle_suspend": {**SUSPEND, "cooldown_s": 60},
        "target_size": {"target_size": "50cc"},
    }
    result = decide(case(replica("r1"), activity=IDLE, state=state, **configs))
    assert creates(result) == {"r_50cc": "50cc"}


def test_a_target_dropped_before_anyone_saw_it_does_not_hold_up_the_wake_up():
    """Suspended in the cycle after its creation, by a run that broke off: remembered still."""
    state = {
        "target_size": {
            "pending_target_replica": {"name": "r_50cc", "size": "50cc", "created_at": ago(600)}
        },
        "idle_suspend": {"last_decision_ts": ago(300)},
    }
    configs = {"target_size": {"target_size": "50cc"}, "idle_suspend": SUSPEND}
    assert creates(decide(case(activity=BUSY, state=state, **configs))) == {"r_50cc": "50cc"}


def test_a_partly_suspended_cluster_is_suspended_in_the_next_cycle():
    first = case(replica("r1"), replica("r2"), activity=IDLE, idle_suspend=SUSPEND)
    following = decide(after(first, decide(first), executed=1))
    assert drops(following) == {"r2"}
