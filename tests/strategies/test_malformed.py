"""A case that is no case is refused with the path of what is wrong with it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from caretaker.errors import CaseError
from caretaker.strategies.decide import decide
from tests.strategies.cases import NOW, acts, case, creates, managed, replica
from tests.strategies.test_guard import PRICED

REPLICA = ("cluster", "replicas", 0)
SIGNAL = ("signals", "replicas", "r1")

WRONG: list[tuple[tuple[Any, ...], str, list[Any]]] = [
    (("now",), "now", [None, 5, "", "noon", "2026-01-15T12:00:00", "0001-01-01T00:00:00+00:00"]),
    (("sizes",), "sizes", [None, {}, "25cc", 5]),
    (("sizes", 1), "sizes[1]", [None, 5, {}, ["50cc"], ""]),
    (("sizes", 1), "sizes[1]", ["25cc"]),
    (("cluster",), "cluster", [None, [], "prod"]),
    (("cluster", "id"), "cluster.id", [None, 7, ""]),
    (("cluster", "name"), "cluster.name", [None, 7, ""]),
    (("cluster", "managed"), "cluster.managed", ["false", 0]),
    (("cluster", "size"), "cluster.size", [25]),
    (("cluster", "replication_factor"), "cluster.replication_factor", ["2", -1, 1.5, True, 10**9]),
    (("cluster", "schedule"), "cluster.schedule", [5]),
    (("cluster", "pending"), "cluster.pending", ["no"]),
    (("cluster", "auto_scaling"), "cluster.auto_scaling", [{}]),
    (("cluster", "serves_us"), "cluster.serves_us", [1]),
    (("cluster", "replicas"), "cluster.replicas", [None, {}]),
    (REPLICA, "cluster.replicas[0]", [None, "r1", []]),
    ((*REPLICA, "id"), "cluster.replicas[0].id", [None, 12, ""]),
    ((*REPLICA, "id"), "cluster.replicas[1].id", ["u-r2"]),
    ((*REPLICA, "name"), "cluster.replicas[0].name", [None, 1, ""]),
    ((*REPLICA, "name"), "cluster.replicas[1].name", ["r2"]),
    ((*REPLICA, "size"), "cluster.replicas[0].size", [25, []]),
    ((*REPLICA, "created_at"), "cluster.replicas[0].created_at", [0, "then", "2026-01-15"]),
    ((*REPLICA, "internal"), "cluster.replicas[0].internal", ["t", 0]),
    ((*REPLICA, "pending"), "cluster.replicas[0].pending", [1]),
    (("strategies",), "strategies", [None, {}, "burst"]),
    (("strategies", 0), "strategies[0]", [None, "burst", []]),
    (("strategies", 0, "type"), "strategies[0].type", [None, 5, ""]),
    (("strategies", 0, "updated_at"), "strategies[0].updated_at", [5, "now"]),
    (("signals",), "signals", [None, []]),
    (("signals", "activity"), "signals.activity", [[], "busy", 5, True]),
    (("signals", "activity", "last_at"), "signals.activity.last_at", [5, "noon"]),
    (("signals", "activity", "running"), "signals.activity.running", ["1", -1, 0.5, True]),
    (("signals", "replicas"), "signals.replicas", [[], "r1"]),
    (SIGNAL, "signals.replicas.r1", [[], True]),
    ((*SIGNAL, "ready"), "signals.replicas.r1.ready", [1, "true"]),
    ((*SIGNAL, "oom_count"), "signals.replicas.r1.oom_count", [-1, 1.0, "1", True, math.nan]),
    ((*SIGNAL, "crash_count"), "signals.replicas.r1.crash_count", [-1, 10**400]),
    (("state",), "state", [[], "x"]),
    (("state", "burst"), "state.burst", [[], 5]),
    (("limits",), "limits", [[], 5]),
    (("limits", "min_ready"), "limits.min_ready", [-1, "1", 1.0, True]),
    (("limits", "max_replicas"), "limits.max_replicas", [-1, math.inf]),
    (
        ("limits", "max_credits_per_hour"),
        "limits.max_credits_per_hour",
        [-1, math.nan, math.inf, "5", True, 10**400],
    ),
    (("limits", "allow_downtime"), "limits.allow_downtime", ["yes", 1]),
    (("limits", "max_replica"), "limits.max_replica", [3]),
    (("limit",), "limit", [{}]),
]


def whole() -> dict[str, Any]:
    return case(replica("r1"), replica("r2"), burst={"burst_replica_size": "50cc"})


def put(given: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(given)
    *way, last = path
    inner = changed
    for key in way:
        inner = inner[key]
    inner[last] = value
    return dict(changed)


@pytest.mark.parametrize(
    ("path", "named", "value"),
    [(path, named, value) for path, named, values in WRONG for value in values],
    ids=lambda value: repr(value)[:40] if not isinstance(value, int) or value < 10**9 else "huge",
)
def test_what_is_wrong_is_named_by_its_path(path, named, value):
    with pytest.raises(CaseError) as caught:
        decide(put(whole(), path, value))
    assert str(caught.value).startswith(f"{named}: found ")
    assert caught.value.target == named


@pytest.mark.parametrize(
    "path",
    [
        ("now",),
        ("sizes",),
        ("cluster",),
        ("cluster", "id"),
        ("cluster", "name"),
        ("cluster", "replicas"),
        ("strategies",),
        ("signals",),
        (*REPLICA, "id"),
        (*REPLICA, "name"),
        ("strategies", 0, "type"),
    ],
)
def test_what_is_missing_is_named_by_its_path(path):
    given: Any = whole()
    inner = given
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    with pytest.raises(CaseError, match=f"{path[-1]}: found"):
        decide(given)


@pytest.mark.parametrize("given", [None, 5, "case", [], True, math.nan])
def test_what_is_no_object_at_all_is_refused(given):
    with pytest.raises(CaseError, match=r"^case: found"):
        decide(given)


@pytest.mark.parametrize("key", ["size", "replication_factor"])
def test_a_managed_cluster_has_a_size_and_a_number_of_replicas(key):
    with pytest.raises(CaseError, match=f"cluster.{key}"):
        decide(put(managed(), ("cluster", key), None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 5),
        ("size", ""),
        ("size", "25cc"),
        ("processes", "1"),
        ("processes", 1.0),
        ("workers", True),
        ("memory_bytes", -1),
        ("credits_per_hour", "0.5"),
        ("credits_per_hour", None),
        ("credits_per_hour", math.nan),
        ("credits_per_hour", math.inf),
        ("credits_per_hour", -0.5),
    ],
)
def test_a_size_of_the_catalog_is_whole(key, value):
    """Seen right before, such a row must not be taken for what it equals: 1 is 1.0 is true."""
    decide(case(sizes=PRICED))
    with pytest.raises(CaseError) as caught:
        decide(put(case(sizes=PRICED), ("sizes", 1, key), value))
    assert caught.value.target == f"sizes[1].{key}"


def test_sizes_are_ranked_by_credits_then_memory_then_workers_then_name():
    def size(name: str, *numbers: float) -> dict[str, Any]:
        keys = ("credits_per_hour", "processes", "memory_bytes", "workers")
        return {"size": name, **dict(zip(keys, numbers, strict=True))}

    ranked = [
        size("z", 0.5, 1, 100, 1),
        size("y", 1, 1, 10, 1),
        size("x", 1, 2, 10, 1),
        size("w", 1, 1, 20, 4),
        size("m.1", 2, 1, 1, 1),
        size("m.2", 2, 1, 1, 1),
    ]
    config = {"max_replica_size": "m.2"}
    result = decide(case(sizes=ranked[::-1], shrink_to_fit=config, limits={"max_replicas": 9}))
    assert [one["size"] for one in result["actions"]] == ["m.2", "m.1", "w", "x", "y", "z"]


def test_more_columns_than_asked_for_are_no_mistake():
    given = case({**replica("r1"), "owner": "u1"}, target_size={"target_size": "50cc"})
    given["cluster"]["disk"] = True
    given["sizes"] = [{**size, "disk_bytes": None} for size in PRICED]
    assert acts(decide(given)) == [("create", "r_50cc", "50cc")]


def test_what_is_optional_may_be_missing_or_null():
    given = {
        "now": NOW.replace("+00:00", "Z"),
        "sizes": ["50cc"],
        "cluster": {"id": "u1", "name": "c", "replicas": [{"id": "u2", "name": "r"}]},
        "strategies": [{"type": "target_size", "config": {"target_size": "50cc"}}],
        "signals": {},
    }
    assert acts(decide(given)) == [("create", "r_50cc", "50cc")]
    limits = dict.fromkeys(("min_ready", "max_replicas", "max_credits_per_hour", "allow_downtime"))
    assert decide({**given, "state": None, "limits": limits}) == decide(given)


def test_nesting_without_end_is_refused():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CaseError):
        decide({**whole(), "sizes": deep})
    given = {**whole(), "strategies": [{"type": "burst", "config": {"burst_replica_size": deep}}]}
    assert decide(given)["problems"][0]["key"] == "burst_replica_size"
    again = [{"type": "burst", "config": {"x": copy_of}} for copy_of in (deep, [deep])]
    with pytest.raises(CaseError, match="nested"):
        decide({**whole(), "strategies": again})


def test_the_memory_of_a_size_without_a_limit_is_the_largest_there_is():
    row = {"size": "25cc", "processes": 1, "workers": 1, "credits_per_hour": 1}
    sizes = [{**row, "memory_bytes": 2**64 - 1}]
    assert creates(decide(case(sizes=sizes, target_size={"target_size": "25cc"})))
