"""What holds whatever the case: 2,000 of each; with `--hypothesis-profile=many`, 20,000."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caretaker.errors import CaseError
from caretaker.strategies.decide import decide
from tests.strategies.cases import after, ago, carry_out
from tests.strategies.drawn import (
    HOSTILE,
    NAMES,
    any_json,
    anyones,
    managed,
    of_new_replicas,
    spoiled,
    unmanaged,
)
from tests.strategies.test_guard import PRICED

Case = dict[str, Any]

#: As many as the profile wants, and never fewer than this.
FEWEST = 2000

always = settings(
    max_examples=max(FEWEST, settings().max_examples),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

CREDITS: dict[Any, Any] = {row["size"]: row["credits_per_hour"] for row in PRICED}
_NAME = r'"((?:[^"]|"")*)"'
_SIZE = r"'((?:[^']|'')*)'"
CREATE = re.compile(rf"CREATE CLUSTER REPLICA {_NAME}\.{_NAME} \(SIZE {_SIZE}\)", re.DOTALL)
DROP = re.compile(rf"DROP CLUSTER REPLICA {_NAME}\.{_NAME}", re.DOTALL)
ALTER = re.compile(
    rf"ALTER CLUSTER {_NAME} SET \((?:REPLICATION FACTOR \d+|SIZE = {_SIZE})\)"
    r"(?: WITH \(WAIT UNTIL READY \(TIMEOUT '\d+s', ON TIMEOUT ROLLBACK\)\))?",
    re.DOTALL,
)


def there(case: Case) -> dict[str, Case]:
    return {one["name"]: one for one in case["cluster"]["replicas"]}


def ready(case: Case, name: str) -> bool | None:
    """Whether a replica serves; one that is internal or on its way never counts."""
    row = there(case).get(name, {})
    if row.get("internal") or row.get("pending"):
        return False
    known: bool | None = (case["signals"]["replicas"].get(name) or {}).get("ready")
    return known


def moments(case: Case, result: Case) -> list[tuple[Case, set[str]]]:
    """Return each action with the names that are there once it was executed."""
    present = set(there(case))
    seen = []
    for action in result["actions"]:
        present = set(present)
        if action["op"] == "create":
            assert action["replica"] not in present
            present.add(action["replica"])
        elif action["op"] == "drop":
            present.remove(action["replica"])
        seen.append((action, present))
    return seen


@always
@given(unmanaged())
def test_the_last_ready_replica_is_dropped_by_idle_suspend_alone(case):
    result = decide(case)
    least = case["limits"].get("min_ready", 1)
    before = sum(ready(case, name) is True for name in there(case))
    for action, present in moments(case, result):
        if action["op"] == "drop" and action["strategy"] != "idle_suspend":
            left = sum(ready(case, name) is True for name in present)
            assert left >= min(least, before)
            assert any(not there(case).get(name, {}).get("internal") for name in present)


@always
@given(anyones)
def test_a_cluster_is_suspended_only_when_it_is_known_to_be_idle(case):
    suspended = [one for one in decide(case)["actions"] if one["strategy"] == "idle_suspend"]
    if any(one["op"] == "drop" or "FACTOR 0" in one["sql"] for one in suspended):
        row = next(one for one in case["strategies"] if one["type"] == "idle_suspend")
        limit = ago(row["config"]["idle_after_s"])
        activity = case["signals"]["activity"]
        assert activity is not None
        assert activity["running"] == 0
        assert activity["last_at"] is None or activity["last_at"] < limit
        assert not case["cluster"]["serves_us"]
        for one in there(case).values():
            assert one.get("internal") or (one["created_at"] and one["created_at"] <= limit)


@always
@given(unmanaged())
def test_where_nothing_is_known_nothing_is_dropped(case):
    case["signals"] = {"activity": None, "replicas": {}}
    assert not [one for one in decide(case)["actions"] if one["op"] == "drop"]


@always
@given(unmanaged())
def test_a_drop_rests_on_what_is_known(case):
    """Either the dropped one is known not to serve, or another is known to be ready."""
    for action, present in moments(case, decide(case)):
        if action["op"] == "drop" and action["strategy"] != "idle_suspend":
            useless = ready(case, action["replica"]) is False
            assert useless or any(ready(case, name) is True for name in present)


@always
@given(unmanaged(), st.sampled_from(["ready", "oom_count", "crash_count"]))
def test_what_nobody_knows_of_the_smaller_ones_keeps_the_larger(case, signal):
    """With one signal gone for all, shrink_to_fit cannot call any replica sound."""
    for row in case["signals"]["replicas"].values():
        if row is not None:
            row[signal] = None
    for action in decide(case)["actions"]:
        if action["op"] == "drop" and action["strategy"] == "shrink_to_fit":
            assert "smaller" not in action["reason"]


@always
@given(unmanaged())
def test_no_moment_has_more_replicas_or_credits_than_allowed(case):
    limits = case["limits"]
    most, budget = limits.get("max_replicas", 5), limits.get("max_credits_per_hour")
    sizes = {name: row["size"] for name, row in there(case).items()}
    for action, present in moments(case, decide(case)):
        if action["op"] == "create":
            sizes[action["replica"]] = action["size"]
            assert len(present) <= most
            if budget is not None:
                assert case["sizes"] == PRICED
                assert sum(CREDITS[sizes[name]] for name in present) <= budget + 1e-6


@always
@given(managed())
def test_no_moment_of_a_managed_cluster_has_more_than_allowed(case):
    """While it changes size, old and new replicas both run."""
    factor, most = case["cluster"]["replication_factor"], case["limits"].get("max_replicas", 5)
    for action in decide(case)["actions"]:
        if action["size"] is not None:
            assert factor * 2 <= most or not factor
        else:
            assert int(action["sql"].split("FACTOR ")[1].rstrip(")")) <= most


@always
@given(unmanaged())
def test_every_create_comes_before_every_drop(case):
    ops = [one["op"] for one in decide(case)["actions"]]
    assert ops == sorted(ops)


@always
@given(unmanaged())
def test_what_a_strategy_creates_takes_no_ones_place_in_the_same_cycle(case):
    result = decide(case)
    created = {one["strategy"] for one in result["actions"] if one["op"] == "create"}
    dropped = {one["strategy"] for one in result["actions"] if one["op"] == "drop"}
    assert not created & dropped
    born = {one["replica"] for one in result["actions"] if one["op"] == "create"}
    for action in result["actions"]:
        assert not (action["op"] == "drop" and any(f"{name} " in action["reason"] for name in born))


@always
@given(anyones, st.randoms(use_true_random=False))
def test_the_same_facts_in_any_order_give_the_same_decision(case, random):
    untouched = copy.deepcopy(case)
    result = decide(case)
    assert decide(case) == result
    assert case == untouched
    for rows in (case["cluster"]["replicas"], case["strategies"]):
        random.shuffle(rows)
    again = decide(case)
    for key in ("desired", "actions", "state", "skipped"):
        assert again[key] == result[key]


@always
@given(anyones)
def test_what_is_desired_is_what_the_actions_lead_to(case):
    result = decide(case)
    following = copy.deepcopy(case)
    for action in result["actions"]:
        carry_out(following, action, "new", {})
    if not case["cluster"]["managed"]:
        reached = {one["name"]: one["size"] for one in following["cluster"]["replicas"]}
        assert result["desired"] == reached
    elif result["actions"]:
        assert result["desired"] == {name: one["size"] for name, one in there(following).items()}


@always
@given(anyones)
def test_the_result_and_all_it_remembers_survive_json(case):
    result = decide(case)
    written = json.dumps(result, allow_nan=False)
    assert json.loads(written) == result
    assert decide(json.loads(json.dumps(case))) == result
    following = after(case, result)
    assert decide(json.loads(json.dumps(following))) == decide(following)


@always
@given(unmanaged() | managed(), of_new_replicas)
def test_a_cluster_settles_while_its_signals_stand_still(case, of_new):
    """Decided and carried out six times, a seventh time there is nothing left to do."""
    for row in case["strategies"]:
        row["config"].pop("cooldown_s", None)
        if row["type"] == "idle_suspend":
            # So that nobody falls idle, or gets old enough, in the course of it.
            row["config"]["idle_after_s"] = 7200
    now = case
    acted = []
    for _ in range(7):
        result = decide(now)
        acted.append(result["actions"])
        now = after(now, result, seconds=20, signals=of_new)
    assert acted[-1] == []


@always
@given(anyones, st.integers(0, 999))
def test_a_cooldown_starts_with_an_executed_action_and_with_nothing_else(case, part):
    result = decide(case)
    executed = part % (len(result["actions"]) or 1)
    acting = {one["strategy"] for one in result["actions"]}
    for name, entry in result["state"].items():
        began = entry["payload"]["last_decision_ts"] == case["now"]
        assert began is (name in acting)
    done = {one["strategy"] for one in result["actions"][:executed]}
    following = after(case, result, executed=executed)
    for name in acting - done if result["actions"] else ():
        assert following["state"].get(name) == case["state"].get(name)


@always
@given(unmanaged())
def test_a_strategy_that_rests_does_nothing_but_resume(case):
    for row in case["strategies"]:
        row["config"]["cooldown_s"] = 100
        entry = case["state"].setdefault(row["type"], {"version": 1, "payload": {}})
        entry["payload"]["last_decision_ts"] = ago(99)
    result = decide(case)
    if any(not one["internal"] for one in case["cluster"]["replicas"]):
        assert result["actions"] == []
    else:
        assert all(one["op"] == "create" for one in result["actions"])


@always
@given(
    unmanaged([*NAMES, *HOSTILE]),
    st.sampled_from(["prod", *HOSTILE]),
    st.sampled_from(["50cc", *HOSTILE]),
)
def test_hostile_names_and_sizes_are_quoted_or_refused(case, cluster, size):
    case["cluster"]["name"] = cluster
    case["sizes"] = ["25cc", size, "100cc"] if size != "25cc" else ["25cc", "100cc"]
    for row in case["strategies"]:
        for key in ("target_size", "max_replica_size", "burst_replica_size"):
            if key in row["config"]:
                row["config"][key] = size
    for action in decide(case)["actions"]:
        pattern = {"create": CREATE, "drop": DROP, "alter": ALTER}[action["op"]]
        found = pattern.fullmatch(action["sql"])
        assert found
        texts = [found[1].replace('""', '"'), found[2].replace('""', '"')]
        assert texts == [cluster, action["replica"]]
        assert all(0 < len(text.encode()) <= 255 for text in texts)
        assert not any(ord(one) < 32 or 127 <= ord(one) < 160 for one in action["sql"])
        if action["op"] == "create":
            assert found[3].replace("''", "'") == action["size"]


@always
@given(anyones, st.sampled_from([{"id": "s1"}, {"schedule": "on-refresh"}, {"pending": True}]))
def test_what_is_not_ours_is_never_touched(case, cluster):
    case["cluster"].update(cluster)
    result = decide(case)
    assert result["actions"] == []
    assert result["skipped"]


def outcome(given_case: Any) -> Case | CaseError:
    try:
        return decide(given_case)
    except CaseError as error:
        return error


@always
@given(any_json | spoiled())
def test_no_input_whatever_raises_anything_but_a_case_error(given_case):
    result = outcome(given_case)
    if isinstance(result, CaseError):
        assert str(result).startswith(f"{result.target}: ")
    else:
        json.dumps(result, allow_nan=False)
