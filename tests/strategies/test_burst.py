"""burst: one large replica more while no other is ready, and none of anybody else's is touched."""

from __future__ import annotations

from typing import Any

import pytest

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

BURST = {"burst_replica_size": "800cc"}


def owned(replica_id: str | None = "u-prod_burst", **more: object) -> dict[str, Any]:
    entry = {"name": "prod_burst", "id": replica_id}
    return {"burst": {"last_decision_ts": None, "burst_replica": entry, **more}}


def test_while_no_other_is_ready_a_large_one_helps():
    result = decide(case(replica("r1", ready=False), replica("r2", ready=False), burst=BURST))
    assert acts(result) == [("create", "prod_burst", "800cc")]
    assert payload(result, "burst") == {
        "last_decision_ts": NOW,
        "burst_replica": {"name": "prod_burst", "id": None},
    }


def test_one_ready_replica_is_enough():
    assert acts(decide(case(replica("r1", ready=False), replica("r2"), burst=BURST))) == []


def test_an_empty_cluster_needs_no_burst():
    assert acts(decide(case(burst=BURST))) == []


def test_whether_the_others_are_ready_must_be_known():
    result = decide(case(replica("r1", ready=False), replica("r2", ready=None), burst=BURST))
    assert acts(result) == []
    assert "r2" in held(result, "burst")


def test_it_stays_while_the_others_hydrate():
    there = [replica("r1", ready=False), replica("prod_burst", "800cc")]
    assert acts(decide(case(*there, burst=BURST, state=owned()))) == []


def test_it_goes_once_another_is_ready():
    there = [replica("r1"), replica("prod_burst", "800cc")]
    result = decide(case(*there, burst=BURST, state=owned()))
    assert acts(result) == [("drop", "prod_burst", "800cc")]
    assert "r1 is ready" in result["actions"][0]["reason"]
    assert payload(result, "burst")["burst_replica"] is None


def test_it_stays_while_nobody_knows_whether_another_is_ready():
    there = [replica("r1", ready=None), replica("prod_burst", "800cc")]
    assert acts(decide(case(*there, burst=BURST, state=owned()))) == []


def test_it_stays_where_no_other_is_left():
    assert acts(decide(case(replica("prod_burst", "800cc"), burst=BURST, state=owned()))) == []


def test_a_replica_of_that_name_which_is_not_ours_stays():
    there = [replica("r1"), replica("prod_burst", "800cc")]
    assert acts(decide(case(*there, burst=BURST))) == []
    assert acts(decide(case(*there, burst=BURST, state=owned("u-another")))) == []


def test_ours_is_dropped_under_whatever_name():
    there = [replica("r1"), replica("renamed", "800cc", id="u-prod_burst")]
    assert drops(decide(case(*there, burst=BURST, state=owned()))) == {"renamed"}


def test_a_taken_name_is_numbered():
    there = [replica("prod_burst", "25cc", ready=False)]
    assert creates(decide(case(*there, burst=BURST))) == {"prod_burst_2": "800cc"}


def test_the_id_is_adopted_when_the_name_appears():
    first = case(replica("r1", ready=False), burst=BURST)
    seen = decide(after(first, decide(first), signals={"800cc": READY}))
    assert payload(seen, "burst")["burst_replica"] == {"name": "prod_burst", "id": f"u-{NOW}-0"}


def test_it_comes_again_when_somebody_took_it_away():
    result = decide(case(replica("r1", ready=False), burst=BURST, state=owned()))
    assert creates(result) == {"prod_burst": "800cc"}


def test_it_is_refused_where_materialize_scales_by_itself():
    result = decide(case(replica("r1", ready=False), burst=BURST, cluster={"auto_scaling": True}))
    assert acts(result) == []
    assert problems(result) == [("burst", "auto_scaling")]
    assert "AUTO SCALING STRATEGY" in result["problems"][0]["message"]


def test_one_that_never_gets_ready_is_dropped_and_not_tried_again_at_once():
    there = [replica("r1", ready=False), replica("prod_burst", "800cc", ready=False, age_s=1801)]
    lived = live(case(*there, burst=BURST, state=owned()), 3, {"800cc": HYDRATING})
    assert [acts(result) for _, result in lived] == [[("drop", "prod_burst", "800cc")], [], []]
    assert problems(lived[0][1]) == [("burst", "pending_timeout_s")]
    assert "given up" in held(lived[1][1], "burst")


def test_one_that_went_for_anothers_sake_is_not_given_up():
    there = [replica("r1"), replica("prod_burst", "800cc", ready=False, age_s=9999)]
    first = case(*there, burst=BURST, state=owned())
    result = decide(first)
    assert drops(result) == {"prod_burst"}
    assert "given_up" not in payload(result, "burst")


@pytest.mark.parametrize("age_s", [1800, None])
def test_one_that_may_still_get_ready_stays(age_s):
    there = [replica("r1", ready=False), replica("prod_burst", "800cc", ready=False, age_s=age_s)]
    assert acts(decide(case(*there, burst=BURST, state=owned()))) == []


def test_it_lasts_as_long_as_its_cooldown():
    there = [replica("r1"), replica("prod_burst", "800cc")]
    state = owned(last_decision_ts=ago(59))
    result = decide(case(*there, burst={**BURST, "cooldown_s": 60}, state=state))
    assert acts(result) == []
    assert "cooldown" in held(result, "burst")


def test_one_that_was_ready_once_is_never_late():
    """It is the only one that may be ready again soon."""
    others = replica("r1", ready=False)
    first = case(others, replica("prod_burst", "800cc"), burst=BURST, state=owned())
    again = after(first, decide(first))
    again["signals"]["replicas"]["prod_burst"] = HYDRATING
    assert [acts(result) for _, result in live(again, 3, {})] == [[]] * 3
