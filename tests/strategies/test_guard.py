"""The limits hold at every moment, between any two actions, whatever the strategies want."""

from __future__ import annotations

from typing import Any

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import (
    HYDRATING,
    READY,
    SIZES,
    acts,
    case,
    creates,
    drops,
    held,
    live,
    replica,
)

TARGET = {"target_size": "50cc"}
PRICED = [
    {
        "size": size,
        "processes": 1,
        "workers": number,
        "memory_bytes": number,
        "credits_per_hour": int(size.removesuffix("cc")) / 100,
    }
    for number, size in enumerate(SIZES, 1)
]


def several(count: int, **more) -> list[dict[str, Any]]:
    return [replica(f"r{number}", "25cc", **more) for number in range(1, count + 1)]


def test_five_replicas_are_enough_unless_the_operator_says_otherwise():
    result = decide(case(*several(5), target_size=TARGET))
    assert acts(result) == []
    assert "max_replicas is 5" in held(result, "target_size")
    assert creates(decide(case(*several(5), target_size=TARGET, limits={"max_replicas": 6}))) != {}


def test_without_room_a_useless_replica_goes_first_in_a_cycle_of_its_own():
    there = [*several(4), replica("r5", "25cc", ready=False)]
    lived = live(case(*there, target_size=TARGET), 3, {"50cc": READY})
    assert acts(lived[0][1]) == [("drop", "r5", "25cc")]
    assert "makes room" in lived[0][1]["actions"][0]["reason"]
    assert acts(lived[1][1]) == [("create", "r_50cc", "50cc")]
    assert drops(lived[2][1]) == {"r1", "r2", "r3", "r4"}


def test_what_may_be_ready_is_not_dropped_to_make_room():
    there = [*several(4), replica("r5", "25cc", ready=None)]
    assert acts(decide(case(*there, target_size=TARGET))) == []


def test_what_is_wanted_is_not_dropped_to_make_room():
    there = several(5, ready=False)
    result = decide(case(*there, burst={"burst_replica_size": "800cc"}))
    assert acts(result) == []
    assert "no room" in held(result, "burst")


def test_the_last_replica_is_not_dropped_to_make_room():
    there = replica("r1", "25cc", ready=False)
    assert acts(decide(case(there, target_size=TARGET, limits={"max_replicas": 1}))) == []


def test_nothing_is_dropped_where_that_would_make_no_room_either():
    there = [*several(4), replica("r5", "25cc", ready=False)]
    assert acts(decide(case(*there, target_size=TARGET, limits={"max_replicas": 3}))) == []


def test_credits_are_counted_while_old_and_new_both_run():
    limits = {"max_credits_per_hour": 0.7}
    result = decide(case(replica("r1", "25cc"), sizes=PRICED, target_size=TARGET, limits=limits))
    assert acts(result) == []
    assert "0.75 credits/h" in held(result, "target_size")
    limits = {"max_credits_per_hour": 0.75}
    result = decide(case(replica("r1", "25cc"), sizes=PRICED, target_size=TARGET, limits=limits))
    assert creates(result) == {"r_50cc": "50cc"}


def test_sums_of_credits_do_not_fail_by_a_rounding_error():
    sizes = [{**PRICED[0], "credits_per_hour": 0.1}, {**PRICED[1], "credits_per_hour": 0.2}]
    limits = {"max_credits_per_hour": 0.3}
    first = case(replica("r1", "25cc"), sizes=sizes, target_size=TARGET, limits=limits)
    assert creates(decide(first)) == {"r_50cc": "50cc"}


@pytest.mark.parametrize("sizes", [SIZES, PRICED])
def test_what_costs_nobody_knows_is_not_created_under_a_limit_of_credits(sizes):
    there = replica("r1", "retired")
    limits = {"max_credits_per_hour": 1000}
    result = decide(case(there, sizes=sizes, target_size=TARGET, limits=limits))
    assert acts(result) == []
    assert "unknown" in held(result, "target_size")


def test_every_action_says_what_it_costs_and_saves():
    there = [replica("r1", "25cc"), replica("r2", "50cc"), replica("r3", "retired")]
    result = decide(case(*there, sizes=PRICED, target_size=TARGET))
    assert [one["credits_per_hour_delta"] for one in result["actions"]] == [-0.25, None]
    result = decide(case(replica("r1"), sizes=PRICED, target_size=TARGET))
    assert [one["credits_per_hour_delta"] for one in result["actions"]] == [0.5]
    result = decide(case(replica("r1"), target_size=TARGET))
    assert [one["credits_per_hour_delta"] for one in result["actions"]] == [None]


def test_as_many_stay_ready_as_the_operator_says():
    there = [replica("r1", "25cc"), replica("r2", "100cc"), replica("r_50cc", "50cc")]
    result = decide(case(*there, target_size=TARGET, limits={"min_ready": 2}))
    assert drops(result) == {"r2"}
    assert "min_ready is 2" in held(result, "target_size")
    assert acts(decide(case(*there, target_size=TARGET, limits={"min_ready": 3}))) == []


def test_an_unready_replica_keeps_nobody_ready():
    there = [replica("r1", "25cc", ready=False), replica("r_50cc", "50cc")]
    assert drops(decide(case(*there, target_size=TARGET, limits={"min_ready": 1}))) == {"r1"}


def test_a_ladder_larger_than_its_budget_is_cut_at_the_budget():
    limits = {"max_credits_per_hour": 6.5}
    config = {"max_replica_size": "400cc"}
    result = decide(case(sizes=PRICED, shrink_to_fit=config, limits=limits))
    assert creates(result) == {"prod_400cc": "400cc", "prod_200cc": "200cc", "prod_50cc": "50cc"}


def test_internal_replicas_take_room_and_serve_nobody():
    there = [replica("r1", "25cc"), replica("support", "50cc", internal=True)]
    result = decide(case(*there, target_size=TARGET, limits={"max_replicas": 2}))
    assert acts(result) == []
    assert "support is internal" in held(result, None)


def test_a_replacement_under_its_own_name_needs_no_room_and_drops_first():
    config = {**TARGET, "replica_name": "r1"}
    limits = {"allow_downtime": True, "max_replicas": 1}
    lived = live(case(replica("r1"), target_size=config, limits=limits), 2, {"50cc": HYDRATING})
    assert acts(lived[0][1]) == [("drop", "r1", "25cc"), ("create", "r1", "50cc")]
    assert acts(lived[1][1]) == []
