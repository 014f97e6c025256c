"""A config that cannot work disables its own strategy, and says key, value and what is allowed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import acts, ago, case, creates, problems, replica

GOOD: dict[str, dict[str, Any]] = {
    "target_size": {"target_size": "50cc"},
    "shrink_to_fit": {"max_replica_size": "200cc"},
    "burst": {"burst_replica_size": "800cc"},
    "idle_suspend": {"idle_after_s": 60},
}

NO_SECONDS = ["60", -1, -0.1, math.nan, math.inf, 1e300, 10**400, 1e9, True, None, [60], {"s": 60}]
NO_COUNTS = ["1", 0, -1, 1.0, 2.5, math.nan, 10**400, True, None, [], {}]
NO_SIZES = [
    "7cc",
    "",
    "50CC",
    50,
    True,
    None,
    ["50cc"],
    {"size": "50cc"},
    "50cc'; DROP",
    "x" * 9999,
]

WRONG: dict[tuple[str, str], list[Any]] = {
    ("target_size", "target_size"): NO_SIZES,
    ("target_size", "replica_name"): ["", "a\0b", "\n", "\ud800", "n" * 256, 5, None, [], True],
    ("target_size", "pending_timeout_s"): [*NO_SECONDS, 0],
    ("target_size", "cooldown_s"): NO_SECONDS,
    ("shrink_to_fit", "max_replica_size"): NO_SIZES,
    ("shrink_to_fit", "min_oom_count"): NO_COUNTS,
    ("shrink_to_fit", "min_crash_count"): NO_COUNTS,
    ("shrink_to_fit", "oom_ttl_s"): [*NO_SECONDS, 0],
    ("shrink_to_fit", "pending_timeout_s"): [*NO_SECONDS, 0],
    ("shrink_to_fit", "cooldown_s"): NO_SECONDS,
    ("burst", "burst_replica_size"): NO_SIZES,
    ("burst", "pending_timeout_s"): [*NO_SECONDS, 0],
    ("burst", "cooldown_s"): NO_SECONDS,
    ("idle_suspend", "idle_after_s"): [*NO_SECONDS, 0],
    ("idle_suspend", "cooldown_s"): NO_SECONDS,
}

RIGHT: dict[str, dict[str, Any]] = {
    "target_size": {"replica_name": 'a "b"; c', "pending_timeout_s": 0.5, "cooldown_s": 0},
    "shrink_to_fit": {
        "min_oom_count": 1,
        "min_crash_count": 10**9,
        "oom_ttl_s": 1,
        "pending_timeout_s": 60,
        "cooldown_s": 0.0,
    },
    "burst": {"pending_timeout_s": 60, "cooldown_s": 86400},
    "idle_suspend": {"cooldown_s": 60},
}


@pytest.mark.parametrize(
    ("strategy", "key", "value"),
    [(*where, value) for where, values in WRONG.items() for value in values],
    ids=lambda value: repr(value)[:30] if not isinstance(value, int) or value < 10**9 else "huge",
)
def test_a_value_that_cannot_work_disables_that_strategy_alone(strategy, key, value):
    other = "burst" if strategy != "burst" else "target_size"
    configs = {other: GOOD[other], strategy: {**GOOD[strategy], key: value}}
    result = decide(case(replica("r1", ready=False), **configs))
    assert problems(result) == [(strategy, key)]
    assert {one["strategy"] for one in result["actions"]} == {other}
    assert key in result["problems"][0]["message"]
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("strategy", GOOD)
def test_what_can_work_is_taken(strategy):
    assert decide(case(**{strategy: {**GOOD[strategy], **RIGHT[strategy]}}))["problems"] == []


@pytest.mark.parametrize("strategy", GOOD)
def test_an_unknown_key_is_refused_and_the_known_ones_are_named(strategy):
    result = decide(case(**{strategy: {**GOOD[strategy], "cooldown": 60}}))
    assert problems(result) == [(strategy, "cooldown")]
    assert "cooldown_s" in result["problems"][0]["message"]
    assert acts(result) == []


@pytest.mark.parametrize("strategy", GOOD)
def test_a_missing_key_is_named(strategy):
    result = decide(case(**{strategy: {}}))
    assert problems(result) == [(strategy, next(iter(GOOD[strategy])))]
    assert "missing" in result["problems"][0]["message"]


@pytest.mark.parametrize("config", [None, "50cc", 5, [], True, [{"target_size": "50cc"}]])
def test_a_config_that_is_no_object_is_a_problem(config):
    result = decide(case(target_size=config, burst=GOOD["burst"]))
    assert problems(result) == [("target_size", "config")]


def test_a_config_that_is_null_says_so():
    assert "NULL" in decide(case(target_size=None))["problems"][0]["message"]


def test_a_row_without_a_config_is_a_problem():
    result = decide(case(rows=[{"type": "burst"}]))
    assert problems(result) == [("burst", "config")]


def test_every_mistake_is_named_at_once():
    config = {"cooldown_s": -1, "min_oom_count": "3", "size": 5}
    result = decide(case(shrink_to_fit=config))
    assert set(problems(result)) == {
        ("shrink_to_fit", key)
        for key in ("cooldown_s", "min_oom_count", "size", "max_replica_size")
    }


def test_an_unknown_size_is_told_what_sizes_there_are():
    entry = decide(case(target_size={"target_size": "7cc"}))["problems"][0]
    assert entry["value"] == "7cc"
    assert "25cc, 50cc, 100cc" in entry["message"]


def test_where_no_size_is_known_none_can_be_wanted():
    result = decide(case(sizes=[], target_size=GOOD["target_size"]))
    assert problems(result) == [("target_size", "target_size")]


def test_a_strategy_that_does_not_exist_is_named():
    result = decide(case(shrink={}, target_size=GOOD["target_size"]))
    assert problems(result) == [("shrink", "type")]
    assert "shrink_to_fit" in result["problems"][0]["message"]
    assert creates(result) == {"r_50cc": "50cc"}


def rows(*given: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [
        {"type": "target_size", "config": {"target_size": size}, "updated_at": at}
        for size, at in given
    ]


@pytest.mark.parametrize(
    "given",
    [
        rows(("25cc", ago(10)), ("50cc", ago(5)), ("100cc", ago(20))),
        rows(("50cc", ago(5)), ("25cc", None)),
        rows(("25cc", None), ("50cc", ago(99999))),
        rows(("25cc", "2026-01-15T12:30:00+01:00"), ("50cc", "2026-01-15T11:45:00+00:00")),
        rows(("50cc", None), ("50cc", None)),
    ],
)
def test_of_several_rows_the_newest_holds_and_a_warning_is_given(given):
    result = decide(case(rows=given))
    assert creates(result) == {"r_50cc": "50cc"}
    assert problems(result) == [("target_size", "updated_at")]


@pytest.mark.parametrize("at", [None, ago(5)])
def test_of_several_rows_equally_new_none_holds(at):
    result = decide(case(rows=rows(("25cc", at), ("50cc", at))))
    assert acts(result) == []
    assert problems(result) == [("target_size", "updated_at")]


def test_an_older_row_may_be_as_wrong_as_it_likes():
    given = [{"type": "target_size", "config": 5, "updated_at": ago(9)}, *rows(("50cc", ago(5)))]
    assert creates(decide(case(rows=given))) == {"r_50cc": "50cc"}
