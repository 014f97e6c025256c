"""Several strategies on one cluster: lowest priority first, and the last word is the highest's."""

from __future__ import annotations

from typing import Any

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import (
    BUSY,
    HYDRATING,
    IDLE,
    READY,
    acts,
    ago,
    case,
    creates,
    drops,
    held,
    live,
    payload,
    replica,
)

TARGET = {"target_size": "200cc"}
BURST = {"burst_replica_size": "800cc"}
SUSPEND = {"idle_after_s": 1800}


def bursting() -> dict[str, Any]:
    entry = {"name": "prod_burst", "id": "u-prod_burst"}
    return {"burst": {"last_decision_ts": None, "burst_replica": entry}}


def test_a_hydrating_baseline_gets_a_burst():
    """The seed's example: baseline as declared, burst while it is not hydrated."""
    baseline = replica("r_200cc", "200cc", ready=False)
    assert creates(decide(case(baseline, target_size=TARGET, burst=BURST))) == {
        "prod_burst": "800cc"
    }


def test_a_hydrated_baseline_ends_the_burst():
    there = [replica("r_200cc", "200cc"), replica("prod_burst", "800cc")]
    result = decide(case(*there, target_size=TARGET, burst=BURST, state=bursting()))
    assert [(one["replica"], one["strategy"]) for one in result["actions"]] == [
        ("prod_burst", "burst")
    ]


def test_the_baseline_does_not_take_the_burst_away_while_its_cooldown_lasts():
    there = [replica("r_200cc", "200cc"), replica("prod_burst", "800cc")]
    state = bursting()
    state["burst"]["last_decision_ts"] = ago(30)
    burst = {**BURST, "cooldown_s": 60}
    assert acts(decide(case(*there, target_size=TARGET, burst=burst, state=state))) == []


def test_a_burst_that_is_configured_no_more_is_one_of_the_others():
    there = [replica("r_200cc", "200cc"), replica("prod_burst", "800cc")]
    result = decide(case(*there, target_size=TARGET, state=bursting()))
    assert drops(result) == {"prod_burst"}


def test_a_baseline_that_is_only_declared_gets_its_burst_at_once():
    result = decide(case(target_size=TARGET, burst=BURST))
    assert acts(result) == [("create", "r_200cc", "200cc"), ("create", "prod_burst", "800cc")]


def test_a_burst_of_the_target_size_is_not_taken_for_the_target():
    there = [replica("r1", "25cc", ready=False), replica("prod_burst", "800cc")]
    configs = {"target_size": {"target_size": "800cc"}, "burst": BURST}
    assert creates(decide(case(*there, state=bursting(), **configs))) == {"r_800cc": "800cc"}


def test_baseline_and_burst_settle_through_a_change_of_size():
    first = case(replica("r1", "25cc", ready=False), target_size=TARGET, burst=BURST)
    signals = {"200cc": HYDRATING, "800cc": READY}
    lived = live(first, 3, signals)
    assert lived[0][1]["desired"] == {"r1": "25cc", "r_200cc": "200cc", "prod_burst": "800cc"}
    assert acts(lived[1][1]) == acts(lived[2][1]) == []
    now = lived[2][0]
    now["signals"]["replicas"]["r_200cc"] = READY
    assert live(now, 3, signals)[-1][1]["desired"] == {"r_200cc": "200cc"}


def test_suspension_has_the_last_word_over_all_others():
    there = [replica("r1", "25cc", ready=False), replica("prod_burst", "800cc")]
    configs = {"target_size": TARGET, "burst": BURST, "idle_suspend": SUSPEND}
    result = decide(case(*there, activity=IDLE, state=bursting(), **configs))
    assert result["desired"] == {}
    assert {one["strategy"] for one in result["actions"]} == {"idle_suspend"}


def test_the_whole_life_of_a_cluster_with_three_strategies():
    configs = {"target_size": TARGET, "burst": BURST, "idle_suspend": SUSPEND}
    signals = {"200cc": READY, "800cc": READY}
    asleep = live(case(activity=IDLE, **configs), 2, signals)
    assert all(acts(result) == [] for _, result in asleep)
    now = asleep[-1][0]
    now["signals"]["activity"] = BUSY
    awake = live(now, 4, signals)
    assert set(creates(awake[0][1]).values()) == {"200cc", "800cc"}
    assert awake[-1][1]["desired"] == {"r_200cc": "200cc"}
    now = awake[-1][0]
    now["signals"]["activity"] = IDLE
    assert live(now, 12, signals)[-1][1]["desired"] == {}


def test_a_target_larger_than_what_holds_is_not_created_against_shrink_to_fit():
    first = case(
        replica("s", "25cc"), target_size=TARGET, shrink_to_fit={"max_replica_size": "800cc"}
    )
    lived = live(first, 3, {"200cc": READY})
    assert all(acts(result) == [] for _, result in lived)
    assert "s (25cc)" in held(lived[0][1], "target_size")


@pytest.mark.parametrize("cooldown_s", [0, 99999])
def test_a_target_that_ran_out_of_memory_is_not_created_again_and_again(cooldown_s):
    configs = {
        "target_size": {"target_size": "25cc"},
        "shrink_to_fit": {"max_replica_size": "800cc", "cooldown_s": cooldown_s},
    }
    lived = live(case(replica("m", "100cc"), **configs), 6, {"25cc": {**READY, "oom_count": 1}})
    assert [acts(result) for _, result in lived[:2]] == [
        [("create", "r_25cc", "25cc")],
        [("drop", "r_25cc", "25cc")],
    ]
    assert all(acts(result) == [] for _, result in lived[2:])
    assert lived[-1][1]["desired"] == {"m": "100cc"}


def test_a_crash_looping_target_does_not_end_what_holds():
    there = [replica("s", "25cc", oom=1), replica("m", "100cc")]
    configs = {
        "target_size": {"target_size": "25cc"},
        "shrink_to_fit": {"max_replica_size": "800cc"},
    }
    assert drops(decide(case(*there, **configs))) == {"s"}


def test_shrink_to_fit_does_not_take_a_small_burst_for_what_fits():
    there = [replica("m", "100cc", ready=False), replica("prod_burst", "25cc")]
    configs = {
        "burst": {"burst_replica_size": "25cc"},
        "shrink_to_fit": {"max_replica_size": "800cc"},
    }
    assert acts(decide(case(*there, state=bursting(), **configs))) == []


def test_a_strategy_that_is_configured_badly_leaves_the_word_to_the_others():
    configs = {"target_size": {"target_size": "7cc"}, "burst": BURST}
    result = decide(case(replica("r1", ready=False), **configs))
    assert creates(result) == {"prod_burst": "800cc"}
    assert [one["strategy"] for one in result["problems"]] == ["target_size"]


def test_each_strategy_remembers_for_itself():
    result = decide(case(target_size=TARGET, burst=BURST))
    assert set(result["state"]) == {"target_size", "burst"}
    assert payload(result, "burst")["burst_replica"]["name"] == "prod_burst"


def test_a_cooldown_is_each_strategys_own():
    state = {"target_size": {"last_decision_ts": ago(30)}}
    configs = {"target_size": {**TARGET, "cooldown_s": 60}, "burst": {**BURST, "cooldown_s": 60}}
    result = decide(case(replica("r1", ready=False), state=state, **configs))
    assert creates(result) == {"prod_burst": "800cc"}
    assert "cooldown: 30 s left" in held(result, "target_size")


@pytest.mark.parametrize(("since_s", "waits"), [(59, True), (60, False), (-59, True), (-61, False)])
def test_a_cooldown_lasts_while_less_has_passed_than_it_says(since_s, waits):
    """One that begins further ahead than it lasts was written by another clock."""
    state = {"target_size": {"last_decision_ts": ago(since_s)}}
    result = decide(case(replica("r1"), target_size={**TARGET, "cooldown_s": 60}, state=state))
    assert (acts(result) == []) is waits


def test_a_cycle_without_an_action_starts_no_cooldown():
    there = [replica("r1"), replica("r_200cc", "200cc", ready=False)]
    state = {"target_size": {"last_decision_ts": ago(500)}}
    result = decide(case(*there, target_size={**TARGET, "cooldown_s": 60}, state=state))
    assert payload(result, "target_size")["last_decision_ts"] == ago(500)


def test_an_action_that_was_held_starts_no_cooldown():
    limits = {"max_replicas": 1}
    result = decide(case(replica("r1"), target_size=TARGET, limits=limits))
    assert result["state"] == {}
