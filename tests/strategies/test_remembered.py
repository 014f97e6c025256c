"""What is remembered survives JSON; what cannot be read is forgotten, reported and harms nobody."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from caretaker.strategies.decide import decide
from tests.strategies.cases import NOW, acts, ago, case, creates, payload, problems, replica

CONFIGS: dict[str, Any] = {
    "target_size": {"target_size": "50cc"},
    "shrink_to_fit": {"max_replica_size": "200cc"},
    "burst": {"burst_replica_size": "800cc"},
    "idle_suspend": {"idle_after_s": 60},
}

WHOLE: dict[str, dict[str, Any]] = {
    "target_size": {
        "last_decision_ts": ago(60),
        "pending_target_replica": None,
        "given_up": {"size": "50cc", "at": ago(60)},
    },
    "shrink_to_fit": {
        "last_decision_ts": ago(60),
        "last_scale_action": {"timestamp": ago(60), "replicas_added": 0, "replicas_removed": 1},
        "oom_sizes": {"25cc": ago(-60)},
        "replicas": {"r1": "u-r1"},
        "untried": ["25cc"],
    },
    "burst": {
        "last_decision_ts": ago(60),
        "burst_replica": {"name": "r2", "id": "u-r2"},
        "got_ready": True,
        "given_up": {"size": "800cc", "at": ago(60)},
    },
    "idle_suspend": {"last_decision_ts": ago(60), "replication_factor": 3},
}

NO_TIMES = ["yesterday", 5, "2026-01-15T12:00:00", [], True, "0001-01-01T00:00:00+23:59", math.nan]

NO_PENDING: list[Any] = [
    "r1",
    [],
    {},
    {"name": "r1", "size": "50cc"},
    {"name": 5, "size": "50cc", "created_at": NOW},
    {"name": "r1", "size": None, "created_at": NOW},
    {"name": "r1", "size": "50cc", "created_at": "soon"},
]

WRONG: list[tuple[str, dict[str, Any]]] = [
    *((name, {"last_decision_ts": value}) for name in CONFIGS for value in NO_TIMES),
    *(("target_size", {"pending_target_replica": value}) for value in NO_PENDING),
    ("target_size", {"target_replica": {"name": "r1"}}),
    ("target_size", {"given_up": {"size": "50cc"}}),
    ("burst", {"given_up": {"at": NOW}}),
    ("shrink_to_fit", {"last_scale_action": {"timestamp": NOW}}),
    ("shrink_to_fit", {"last_scale_action": {"replicas_added": 1, "replicas_removed": 1}}),
    ("shrink_to_fit", {"oom_sizes": {"25cc": "later"}}),
    ("shrink_to_fit", {"oom_sizes": ["25cc"]}),
    ("shrink_to_fit", {"replicas": {"r1": 5}}),
    ("shrink_to_fit", {"untried": "25cc"}),
    ("shrink_to_fit", {"untried": [25]}),
    ("burst", {"burst_replica": "prod_burst"}),
    ("burst", {"burst_replica": {"id": "u1"}}),
    ("burst", {"burst_replica": {"name": "prod_burst", "id": 7}}),
    *(("idle_suspend", {"replication_factor": value}) for value in (0, -1, 2.5, "3", 10**9, True)),
]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_remembered_is_kept_as_it_was(name):
    there = [replica(*one, ready=False, age_s=60) for one in (("r1", "25cc"), ("r2", "800cc"))]
    given = {name: WHOLE[name]}
    result = decide(case(*there, state=given, **{name: CONFIGS[name]}, limits={"max_replicas": 2}))
    assert payload(result, name) == WHOLE[name]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["problems"] == []


@pytest.mark.parametrize(("name", "given"), WRONG)
def test_a_payload_that_cannot_be_read_starts_afresh_and_is_reported(name, given):
    state = {name: {**WHOLE[name], **given}}
    result = decide(case(replica("r1", "50cc", ready=False), state=state, **{name: CONFIGS[name]}))
    assert [one["strategy"] for one in result["problems"]] == [name]
    assert result["problems"][0]["key"].startswith("state.")
    assert name in result["state"]
    assert not {"given_up", "untried"} & set(payload(result, name))
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_another_version_starts_afresh_and_is_reported(name, version):
    given = case(state={name: WHOLE[name]}, **{name: CONFIGS[name]})
    given["state"][name]["version"] = version
    result = decide(given)
    assert problems(result) == [(name, "state.version")]
    assert result["state"][name]["version"] == 1


@pytest.mark.parametrize("given", [None, "{}", [], 5])
def test_a_payload_that_is_no_object_starts_afresh(given):
    first = case(target_size=CONFIGS["target_size"])
    first["state"] = {"target_size": {"version": 1, "payload": given}}
    result = decide(first)
    assert problems(result) == [("target_size", "state.payload")]
    assert creates(result) == {"r_50cc": "50cc"}


def test_a_broken_memory_of_one_strategy_is_not_another_ones():
    state = {"target_size": {"last_decision_ts": 5}, "burst": WHOLE["burst"]}
    configs = {name: CONFIGS[name] for name in ("target_size", "burst")}
    result = decide(case(replica("r2", "800cc"), state=state, **configs))
    assert payload(result, "burst") == WHOLE["burst"]


def test_nothing_done_and_nothing_to_remember_writes_nothing():
    assert decide(case(replica("r1", "50cc"), **CONFIGS))["state"] == {}


def test_what_a_strategy_remembers_outlives_its_config():
    """Ownership and cooldowns are there again when the operator mends the config."""
    for configs in ({}, {"burst": {"burst_replica_size": "7cc"}}):
        result = decide(case(replica("r2", "800cc"), state={"burst": WHOLE["burst"]}, **configs))
        assert payload(result, "burst") == WHOLE["burst"]


def test_broken_memory_of_a_strategy_that_is_not_configured_is_nobodys_problem():
    result = decide(
        case(state={"burst": {"burst_replica": 5}}, target_size={"target_size": "50cc"})
    )
    assert result["problems"] == []
    assert set(result["state"]) == {"target_size"}


def test_a_null_entry_is_as_good_as_none():
    first = case(target_size=CONFIGS["target_size"])
    first["state"] = {"target_size": None}
    assert acts(decide(first)) == [("create", "r_50cc", "50cc")]
