"""shrink_to_fit: converges to the smallest size that holds, and never below one that is ready."""

from __future__ import annotations

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import (
    DAY_S,
    HYDRATING,
    NOW,
    READY,
    SIZES,
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

UP_TO_200 = {"max_replica_size": "200cc"}
OOM = {"ready": False, "oom_count": 3, "crash_count": 3}


def test_an_empty_cluster_gets_every_size_up_to_the_maximum():
    result = decide(case(shrink_to_fit=UP_TO_200))
    assert creates(result) == {
        "prod_25cc": "25cc",
        "prod_50cc": "50cc",
        "prod_100cc": "100cc",
        "prod_200cc": "200cc",
    }
    assert payload(result, "shrink_to_fit")["last_decision_ts"] == NOW
    assert payload(result, "shrink_to_fit")["last_scale_action"] == {
        "timestamp": NOW,
        "replicas_added": 4,
        "replicas_removed": 0,
    }


def test_a_size_that_was_to_be_created_and_never_came_is_tried_later():
    """The cycle was interrupted after the first of three."""
    config = {"max_replica_size": "100cc"}
    state = {"shrink_to_fit": payload(decide(case(shrink_to_fit=config)), "shrink_to_fit")}
    seen = case(replica("prod_100cc", "100cc"), state=state, shrink_to_fit=config)
    assert creates(decide(seen)) == {"prod_25cc": "25cc", "prod_50cc": "50cc"}


def test_a_cluster_that_has_a_replica_gets_no_more():
    assert acts(decide(case(replica("r1", "100cc"), shrink_to_fit=UP_TO_200))) == []


def test_more_sizes_than_room_means_the_maximum_and_the_largest_below_it():
    config = {"max_replica_size": "800cc"}
    result = decide(case(shrink_to_fit=config, limits={"max_replicas": 3}))
    assert [one["size"] for one in result["actions"]] == ["800cc", "400cc", "200cc"]
    assert "max_replicas is 3" in held(result, "shrink_to_fit")


def test_a_smaller_one_that_is_ready_and_sound_ends_the_larger():
    there = [replica("s", "50cc"), replica("m", "100cc"), replica("l", "200cc", ready=False)]
    result = decide(case(*there, shrink_to_fit=UP_TO_200))
    assert drops(result) == {"m", "l"}
    assert "s (50cc)" in result["actions"][0]["reason"]
    assert payload(result, "shrink_to_fit")["last_scale_action"]["replicas_removed"] == 2


def test_a_still_smaller_one_goes_on_hydrating():
    there = [replica("xs", "25cc", ready=False), replica("s", "50cc"), replica("m", "100cc")]
    assert drops(decide(case(*there, shrink_to_fit=UP_TO_200))) == {"m"}


def test_nothing_is_dropped_while_the_smaller_hydrate():
    there = [replica("s", "50cc", ready=False), replica("m", "100cc")]
    assert acts(decide(case(*there, shrink_to_fit=UP_TO_200))) == []


@pytest.mark.parametrize("unknown", ["ready", "oom", "crash"])
def test_an_unknown_signal_of_the_smaller_one_keeps_the_larger(unknown):
    there = [replica("s", "50cc", **{unknown: None}), replica("m", "100cc", ready=False)]
    result = decide(case(*there, shrink_to_fit=UP_TO_200))
    assert acts(result) == []
    assert "unknown" in held(result, "shrink_to_fit")


@pytest.mark.parametrize("signal", ["oom", "crash"])
def test_a_crash_looping_replica_goes_and_the_larger_stays(signal):
    there = [replica("s", "50cc", **{signal: 1}), replica("m", "100cc")]
    result = decide(case(*there, shrink_to_fit=UP_TO_200))
    assert drops(result) == {"s"}
    assert "crash-looping" in result["actions"][0]["reason"]


def test_the_operator_says_how_many_crashes_are_a_loop():
    there = [replica("s", "50cc", oom=2, crash=2), replica("m", "100cc")]
    config = {**UP_TO_200, "min_oom_count": 3, "min_crash_count": 3}
    assert drops(decide(case(*there, shrink_to_fit=config))) == {"m"}
    assert drops(decide(case(*there, shrink_to_fit={**config, "min_oom_count": 2}))) == {"s"}
    assert drops(decide(case(*there, shrink_to_fit={**config, "min_crash_count": 2}))) == {"s"}


def test_the_last_replica_stays_however_often_it_crashes():
    result = decide(case(replica("s", "50cc", oom=99, ready=False), shrink_to_fit=UP_TO_200))
    assert acts(result) == []
    assert "last replica" in held(result, "shrink_to_fit")


def test_of_replicas_that_all_crash_the_largest_stays():
    there = [replica(size, size, ready=False, oom=2) for size in ("100cc", "25cc", "50cc")]
    assert drops(decide(case(*there, shrink_to_fit=UP_TO_200))) == {"25cc", "50cc"}


def test_a_crash_looping_replica_stays_while_it_is_the_only_ready_one():
    there = [replica("s", "50cc", oom=1), replica("m", "100cc", ready=False)]
    result = decide(case(*there, shrink_to_fit=UP_TO_200))
    assert acts(result) == []
    assert "min_ready" in held(result, "shrink_to_fit")


def test_a_size_that_ran_out_of_memory_is_remembered_for_a_day():
    there = [replica("s", "50cc", oom=1), replica("m", "100cc")]
    result = decide(case(*there, shrink_to_fit=UP_TO_200))
    assert payload(result, "shrink_to_fit")["oom_sizes"] == {"50cc": ago(-86400)}


def test_the_operator_says_for_how_long_it_is_remembered():
    there = [replica("s", "50cc", oom=1), replica("m", "100cc")]
    result = decide(case(*there, shrink_to_fit={**UP_TO_200, "oom_ttl_s": 60}))
    assert payload(result, "shrink_to_fit")["oom_sizes"] == {"50cc": ago(-60)}


def test_a_remembered_size_is_not_among_those_tried():
    state = {"shrink_to_fit": {"oom_sizes": {"25cc": ago(-60), "50cc": ago(-60), "100cc": ago(60)}}}
    result = decide(case(shrink_to_fit=UP_TO_200, state=state))
    assert set(creates(result).values()) == {"100cc", "200cc"}
    assert payload(result, "shrink_to_fit")["oom_sizes"] == {"25cc": ago(-60), "50cc": ago(-60)}


def test_where_every_size_is_remembered_the_maximum_is_tried_all_the_same():
    sizes = dict.fromkeys(SIZES, ago(-60))
    result = decide(case(shrink_to_fit=UP_TO_200, state={"shrink_to_fit": {"oom_sizes": sizes}}))
    assert creates(result) == {"prod_200cc": "200cc"}


def test_replicas_of_unknown_or_retired_size_are_left_alone():
    there = [replica("s", "25cc"), replica("odd", None), replica("old", "retired")]
    assert acts(decide(case(*there, shrink_to_fit=UP_TO_200))) == []


def test_it_converges_to_the_smallest_that_holds():
    signals = {"25cc": OOM, "50cc": READY, "100cc": READY, "200cc": READY}
    lived = live(case(shrink_to_fit=UP_TO_200), 4, signals)
    assert drops(lived[1][1]) == {"prod_25cc", "prod_100cc", "prod_200cc"}
    assert acts(lived[2][1]) == acts(lived[3][1]) == []
    assert lived[3][1]["desired"] == {"prod_50cc": "50cc"}


def test_sizes_that_there_was_no_room_for_are_tried_once_the_others_have_converged():
    sizes = [f"s{number:02}" for number in range(30)]
    signals = dict.fromkeys(sizes, READY)
    first = case(sizes=sizes, shrink_to_fit={"max_replica_size": "s29"})
    lived = live(first, 6, signals)
    assert sorted(creates(lived[0][1]).values()) == sizes[25:]
    assert drops(lived[1][1]) == {"prod_s26", "prod_s27", "prod_s28", "prod_s29"}
    assert "s00" in creates(lived[2][1]).values()
    assert list(lived[4][1]["desired"].values()) == ["s00"]
    assert acts(lived[4][1]) == acts(lived[5][1]) == []


@pytest.mark.parametrize("smallest", [0, 1, 7, 13, 24, 29])
def test_the_smallest_size_that_holds_is_found_among_many(smallest):
    sizes = [f"s{number:02}" for number in range(30)]
    signals = {size: READY if number >= smallest else OOM for number, size in enumerate(sizes)}
    lived = live(case(sizes=sizes, shrink_to_fit={"max_replica_size": "s29"}), 12, signals)
    assert list(lived[-1][1]["desired"].values()) == [sizes[smallest]]
    assert acts(lived[-1][1]) == []


def test_a_replica_of_ours_that_never_gets_ready_is_dropped_and_reported():
    first = case(shrink_to_fit=UP_TO_200)
    signals = {"25cc": HYDRATING, "50cc": HYDRATING, "100cc": HYDRATING, "200cc": READY}
    result = decide(after(first, decide(first), seconds=1801, signals=signals))
    assert drops(result) == {"prod_25cc", "prod_50cc", "prod_100cc"}
    assert problems(result) == [("shrink_to_fit", "pending_timeout_s")] * 3


def test_the_largest_stays_where_none_gets_ready():
    first = case(shrink_to_fit=UP_TO_200)
    signals = dict.fromkeys(SIZES, HYDRATING)
    result = decide(after(first, decide(first), seconds=1801, signals=signals))
    assert result["desired"] == {"prod_200cc": "200cc"}


def test_a_replica_that_is_not_ours_may_take_its_time():
    there = [replica("s", "25cc", ready=False, age_s=9999), replica("m", "50cc")]
    assert acts(decide(case(*there, shrink_to_fit=UP_TO_200))) == []


def test_one_that_was_ready_once_is_never_late():
    """Restarted beside a burst, the size that holds is neither dropped nor called too small."""
    state = {"shrink_to_fit": {"replicas": {"prod_50cc": "u-prod_50cc"}}}
    burst = {"burst_replica_size": "800cc"}
    config = {"max_replica_size": "200cc"}
    fit = replica("prod_50cc", "50cc")
    first = case(fit, shrink_to_fit=config, burst=burst, state=state)
    again = after(first, decide(first))
    again["signals"]["replicas"]["prod_50cc"] = HYDRATING
    lived = live(again, 6, {"800cc": HYDRATING}, seconds=60)
    assert [drops(result) for _, result in lived] == [set()] * 6


def test_a_clock_that_was_far_ahead_keeps_no_size_from_being_tried():
    state = {"shrink_to_fit": {"oom_sizes": {"25cc": ago(-4 * 366 * DAY_S)}}}
    result = decide(case(shrink_to_fit={"max_replica_size": "50cc"}, state=state))
    assert set(creates(result).values()) == {"25cc", "50cc"}
