"""target_size: one replica of the wanted size, and nobody is left without a ready one for it."""

from __future__ import annotations

from typing import Any

from caretaker.strategies.decide import decide
from tests.strategies.cases import (
    HYDRATING,
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
    problems,
    replica,
)

WANTED = {"target_size": "50cc"}


def pending(created_s_ago: float, name: str = "r_50cc", size: str = "50cc") -> dict[str, Any]:
    entry = {"name": name, "size": size, "created_at": ago(created_s_ago)}
    return {"target_size": {"last_decision_ts": None, "pending_target_replica": entry}}


def ours(name: str = "r_50cc") -> dict[str, Any]:
    entry = {"name": name, "id": f"u-{name}"}
    return {
        "target_size": {
            "last_decision_ts": None,
            "pending_target_replica": None,
            "target_replica": entry,
        }
    }


def test_a_missing_target_is_created_and_nothing_else_touched():
    result = decide(case(replica("r1", "25cc"), target_size=WANTED))
    assert acts(result) == [("create", "r_50cc", "50cc")]
    assert result["desired"] == {"r1": "25cc", "r_50cc": "50cc"}
    assert result["actions"][0]["sql"] == """CREATE CLUSTER REPLICA "prod"."r_50cc" (SIZE '50cc')"""
    assert result["actions"][0]["strategy"] == "target_size"
    assert "50cc" in result["actions"][0]["reason"]


def test_an_empty_cluster_gets_its_target():
    assert creates(decide(case(target_size=WANTED))) == {"r_50cc": "50cc"}


def test_the_operator_may_name_the_replica():
    config = {**WANTED, "replica_name": "r_medium"}
    assert creates(decide(case(target_size=config))) == {"r_medium": "50cc"}


def test_a_taken_name_is_numbered():
    there = [replica("r_50cc", "25cc"), replica("r_50cc_2", "100cc", internal=True)]
    assert creates(decide(case(*there, target_size=WANTED))) == {"r_50cc_3": "50cc"}


def test_a_ready_target_takes_the_place_of_every_other_size():
    there = [replica("r1", "25cc"), replica("r2", "100cc"), replica("r_50cc", "50cc")]
    result = decide(case(*there, target_size=WANTED))
    assert drops(result) == {"r1", "r2"}
    assert result["desired"] == {"r_50cc": "50cc"}
    assert result["actions"][0]["sql"] == 'DROP CLUSTER REPLICA "prod"."r1"'
    assert "r_50cc" in result["actions"][0]["reason"]


def test_any_replica_of_the_size_is_the_target_whatever_its_name():
    there = [replica("mine", "50cc"), replica("r1", "25cc")]
    assert drops(decide(case(*there, target_size=WANTED))) == {"r1"}


def test_a_second_replica_of_the_target_size_stays():
    there = [replica("a", "50cc"), replica("b", "50cc")]
    assert acts(decide(case(*there, target_size=WANTED))) == []


def test_nothing_goes_while_the_target_hydrates():
    there = [replica("r1", "25cc"), replica("r_50cc", "50cc", ready=False)]
    assert acts(decide(case(*there, target_size=WANTED))) == []


def test_nothing_goes_while_nobody_knows_whether_the_target_is_ready():
    there = [replica("r1", "25cc"), replica("r_50cc", "50cc", ready=None)]
    result = decide(case(*there, target_size=WANTED))
    assert acts(result) == []
    assert "unknown" in held(result, "target_size")


def test_a_replica_of_unknown_size_is_nobodys_to_drop():
    there = [replica("odd", None), replica("r_50cc", "50cc")]
    result = decide(case(*there, target_size=WANTED))
    assert acts(result) == []
    assert "size is unknown" in held(result, "target_size")


def test_what_was_created_is_remembered_until_it_is_seen():
    first = case(replica("r1", "25cc"), target_size=WANTED)
    result = decide(first)
    assert payload(result, "target_size") == {
        "last_decision_ts": NOW,
        "pending_target_replica": {"name": "r_50cc", "size": "50cc", "created_at": NOW},
    }
    seen = decide(after(first, result, signals={"50cc": HYDRATING}))
    assert payload(seen, "target_size")["pending_target_replica"] is None
    assert payload(seen, "target_size")["last_decision_ts"] == NOW


def test_a_create_that_was_not_executed_leaves_no_pending_entry():
    first = case(replica("r1", "25cc"), target_size=WANTED)
    following = after(first, decide(first), executed=0)
    assert following["state"] == {}
    assert creates(decide(following)) == {"r_50cc": "50cc"}


def test_a_pending_replica_is_not_created_twice():
    result = decide(case(replica("r1"), target_size=WANTED, state=pending(60)))
    assert acts(result) == []
    assert "waiting for r_50cc" in held(result, "target_size")
    assert payload(result, "target_size")["pending_target_replica"]["name"] == "r_50cc"


def test_a_pending_replica_of_another_size_does_not_hold_up_the_new_target():
    state = pending(60, "r_100cc", "100cc")
    assert creates(decide(case(replica("r1"), target_size=WANTED, state=state))) == {
        "r_50cc": "50cc"
    }


def test_a_replica_that_never_appears_is_given_up_and_reported():
    result = decide(case(replica("r1"), target_size=WANTED, state=pending(1800)))
    assert problems(result) == [("target_size", "pending_target_replica")]
    assert "r_50cc" in result["problems"][0]["message"]
    assert creates(result) == {"r_50cc": "50cc"}
    assert payload(result, "target_size")["pending_target_replica"]["created_at"] == NOW


def test_the_operator_says_how_long_to_wait():
    config = {**WANTED, "pending_timeout_s": 60}
    assert acts(decide(case(replica("r1"), target_size=config, state=pending(59)))) == []
    assert acts(decide(case(replica("r1"), target_size=config, state=pending(60)))) != []


def test_a_clock_that_was_far_ahead_holds_nothing_up_for_ever():
    state = pending(-10 * 86400)
    assert creates(decide(case(replica("r1"), target_size=WANTED, state=state))) == {
        "r_50cc": "50cc"
    }


def test_a_target_of_ours_that_never_gets_ready_is_dropped_and_reported():
    there = [replica("r1", "25cc"), replica("r_50cc", "50cc", ready=False, age_s=1801)]
    result = decide(case(*there, target_size=WANTED, state=ours()))
    assert drops(result) == {"r_50cc"}
    assert ("target_size", "pending_timeout_s") in problems(result)


def test_a_size_given_up_is_not_tried_again_at_once():
    there = [replica("r1", "25cc"), replica("r_50cc", "50cc", ready=False, age_s=1801)]
    first = case(*there, target_size=WANTED, state=ours())
    lived = live(first, 4, {"50cc": HYDRATING})
    assert [acts(result) for _, result in lived[1:]] == [[], [], []]
    assert "given up" in held(lived[1][1], "target_size")


def test_a_size_given_up_is_tried_again_after_a_day_or_when_its_config_is_touched():
    given_up = {"target_size": {"given_up": {"size": "50cc", "at": ago(3600)}}}
    assert acts(decide(case(replica("r1"), target_size=WANTED, state=given_up))) == []
    row = {"type": "target_size", "config": WANTED, "updated_at": ago(60)}
    assert acts(decide(case(replica("r1"), rows=[row], state=given_up))) != []
    given_up["target_size"]["given_up"]["at"] = ago(86400)
    assert acts(decide(case(replica("r1"), target_size=WANTED, state=given_up))) != []


def test_a_cluster_without_any_replica_gets_even_a_size_that_was_given_up():
    given_up = {"target_size": {"given_up": {"size": "50cc", "at": ago(3600)}}}
    assert creates(decide(case(target_size=WANTED, state=given_up))) == {"r_50cc": "50cc"}


def test_a_late_target_stays_where_it_is_the_last_replica():
    late = replica("r_50cc", "50cc", ready=False, age_s=9999)
    result = decide(case(late, target_size=WANTED, state=ours()))
    assert acts(result) == []
    assert "last replica" in held(result, "target_size")
    assert ("target_size", "pending_timeout_s") in problems(result)


def test_a_late_target_that_is_not_ours_or_of_unknown_age_or_readiness_stays():
    for late, state in (
        (replica("r_50cc", "50cc", ready=False, age_s=9999), None),
        (replica("r_50cc", "50cc", ready=False, age_s=None), ours()),
        (replica("r_50cc", "50cc", ready=None, age_s=9999), ours()),
        (replica("r_50cc", "50cc", ready=False, age_s=9999, id="another"), ours()),
    ):
        assert acts(decide(case(replica("r1"), late, target_size=WANTED, state=state))) == []


def test_a_change_of_size_goes_create_then_ready_then_drop():
    lived = live(case(replica("r1", "25cc"), target_size=WANTED), 4, {"50cc": READY})
    assert [acts(result) for _, result in lived] == [
        [("create", "r_50cc", "50cc")],
        [("drop", "r1", "25cc")],
        [],
        [],
    ]


def test_a_new_size_under_a_fixed_name_comes_under_another_name():
    config = {**WANTED, "replica_name": "main"}
    lived = live(case(replica("main", "25cc"), target_size=config), 3, {"50cc": READY})
    assert [acts(result) for _, result in lived] == [
        [("create", "main_2", "50cc")],
        [("drop", "main", "25cc")],
        [],
    ]


def test_a_new_size_keeps_its_name_where_downtime_is_allowed():
    config = {**WANTED, "replica_name": "main"}
    first = case(replica("main", "25cc"), target_size=config, limits={"allow_downtime": True})
    lived = live(first, 2, {"50cc": READY})
    assert acts(lived[0][1]) == [("drop", "main", "25cc"), ("create", "main", "50cc")]
    assert lived[0][1]["desired"] == {"main": "50cc"}
    assert "downtime" in lived[0][1]["actions"][0]["reason"]
    assert acts(lived[1][1]) == []


def test_a_target_that_was_ready_once_is_never_late():
    """Restarted, or given a new index to hold, it hydrates again: that is no reason to drop it."""
    target = replica("r_50cc", "50cc")
    burst = {"burst_replica_size": "800cc"}
    first = case(target, target_size=WANTED, burst=burst, state=ours())
    awake = after(first, decide(first))
    awake["signals"]["replicas"]["r_50cc"] = HYDRATING
    lived = live(awake, 6, {"800cc": HYDRATING}, seconds=60)
    assert [drops(result) for _, result in lived] == [set()] * 6
    assert [problems(result) for _, result in lived] == [[]] * 6


def test_a_replacement_of_which_only_the_drop_was_done_is_created_at_once():
    """The cluster is empty: nobody waits for a replica that was never created."""
    config = {**WANTED, "replica_name": "r1"}
    first = case(replica("r1", "25cc"), target_size=config, limits={"allow_downtime": True})
    result = decide(first)
    assert acts(result) == [("drop", "r1", "25cc"), ("create", "r1", "50cc")]
    second = after(first, result, executed=1, seconds=1)
    assert creates(decide(second)) == {"r1": "50cc"}


def test_the_cluster_that_serves_our_own_session_has_no_downtime():
    """Without a replica there, the strategy tables could not be read, and nobody would create."""
    config = {**WANTED, "replica_name": "r1"}
    limits = {"allow_downtime": True}
    serves = {"serves_us": True}
    first = case(replica("r1", "25cc"), target_size=config, limits=limits, cluster=serves)
    result = decide(first)
    assert acts(result) == [("create", "r1_2", "50cc")]
    assert "serves our own session" in held(result, "target_size")
