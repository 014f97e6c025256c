"""What it takes to decide for 10,000 clusters on one core, and what the seed's way would do.

The clusters are drawn with a fixed seed: most of them settled, as in a fleet that is looked after
every five minutes, or all of them with something to do. Seconds are of this process, the best of
five rounds, garbage collection included; reading the JSON is measured apart. The last workload is a
whole cycle over a lab Materialize (`benchmarks.strategy_cycle`).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks import naive_strategies, strategy_cycle
from caretaker.strategies.decide import decide

Figures = dict[str, float | None]
Json = dict[str, Any]

CLUSTERS = 10_000
ROUNDS = 5

NOW = "2026-01-15T12:00:00+00:00"
BEFORE = "2026-01-15T08:00:00+00:00"
_CC = (25, 50, 100, 200, 300, 400, 600, 800, 1200, 1600, 3200)
SIZES: list[Json] = [
    {
        "size": f"{cc}cc",
        "processes": max(1, cc // 800),
        "workers": max(1, cc // 50),
        "memory_bytes": cc * 2**26,
        "credits_per_hour": cc / 100,
    }
    for cc in _CC
]


def run(*, quick: bool) -> dict[str, Figures]:
    """Return figures by workload: two minutes, `quick` half a one."""
    clusters = CLUSTERS // 10 if quick else CLUSTERS
    of_the_lab = clusters // 10
    return {
        f"decide_{clusters}_clusters": _compare(clusters, busy=0.05),
        f"decide_{clusters}_clusters_all_with_work": _compare(clusters, busy=1.0),
        f"cycle_{of_the_lab}_clusters": strategy_cycle.run(of_the_lab),
    }


def _compare(clusters: int, busy: float) -> Figures:
    written = [json.dumps(case) for case in draw(clusters, busy)]
    # As they are read: each with lists and texts of its own, and nothing shared that is not.
    cases = [json.loads(text) for text in written]
    ours, naive = _seconds(decide, cases), _seconds(naive_strategies.decide, cases)
    results = [decide(case) for case in cases]
    return {
        "ratio_seconds_vs_naive": ours / naive,
        "seconds": ours,
        "clusters_per_s": clusters / ours,
        "naive_seconds": naive,
        "seconds_reading_json": _seconds(json.loads, written),
        "actions": float(sum(len(result["actions"]) for result in results)),
        "unready_clusters_left": float(sum(map(_left_unready, cases, map(_dropped, results)))),
        "naive_unready_clusters_left": float(
            sum(map(_left_unready, cases, map(_dropped_naively, cases)))
        ),
    }


def _seconds(work: Callable[[Any], object], given: list[Any]) -> float:
    """Return processor seconds for all of `given`, the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for one in given:
            work(one)
        rounds.append(time.process_time() - began)
    return min(rounds)


def _left_unready(case: Json, dropped: set[str]) -> bool:
    """Whether a cluster not known to be idle loses its last ready replica."""
    activity, shown = case["signals"]["activity"], case["signals"]["replicas"]
    idle = activity is not None and not activity["running"] and activity["last_at"] == BEFORE
    ready = {name for name, row in shown.items() if row and row["ready"]}
    return bool(ready) and ready <= dropped and not idle


def _dropped(result: Json) -> set[str]:
    return {one["replica"] for one in result["actions"] if one["op"] == "drop"}


def _dropped_naively(case: Json) -> set[str]:
    statements = naive_strategies.decide(case)
    return {one.rpartition(".")[2] for one in statements if one.startswith("DROP")}


def draw(clusters: int, busy: float) -> list[Json]:
    """Return cases; of a share `busy` the replicas are not what the strategies want."""
    dice = random.Random(7)  # noqa: S311 - the same fleet each time, and no secret
    return [_case(number, dice, settled=dice.random() >= busy) for number in range(clusters)]


def _case(number: int, dice: random.Random, *, settled: bool) -> Json:
    size = dice.choice(SIZES[:8])["size"]
    rows, state = _strategies(size, dice)
    there = [size] if settled else [dice.choice(SIZES)["size"] for _ in range(dice.randint(1, 4))]
    replicas = [
        {
            "id": f"u{number}{place}",
            "name": f"r_{one}_{place}",
            "size": one,
            "created_at": BEFORE,
            "internal": False,
            "pending": False,
        }
        for place, one in enumerate(there)
    ]
    sound = {"ready": True, "oom_count": 0, "crash_count": 0}
    shown = [sound] if settled else [sound, sound, {**sound, "ready": False}, None]
    used = {"last_at": NOW, "running": 1}
    activities = [used] if settled else [used, {"last_at": BEFORE, "running": 0}, None]
    return {
        "now": NOW,
        "sizes": SIZES,
        "cluster": {
            "id": f"u{number}",
            "name": f"cluster_{number}",
            "managed": False,
            "size": None,
            "replication_factor": None,
            "schedule": "manual",
            "pending": False,
            "auto_scaling": False,
            "serves_us": False,
            "replicas": replicas,
        },
        "strategies": rows,
        "signals": {
            "activity": dice.choice(activities),
            "replicas": {row["name"]: dice.choice(shown) for row in replicas},
        },
        "state": state,
        "limits": {"min_ready": 1, "max_replicas": 5},
    }


def _strategies(size: str, dice: random.Random) -> tuple[list[Json], Json]:
    """Return the seed's combinations: a baseline with burst and suspension, or shrink_to_fit."""
    configs: Json = {"target_size": {"target_size": size, "cooldown_s": 60}}
    if dice.random() < 1 / 4:
        configs = {"shrink_to_fit": {"max_replica_size": "800cc", "min_oom_count": 2}}
    elif dice.random() < 1 / 2:
        configs["burst"] = {"burst_replica_size": "1600cc", "cooldown_s": 60}
    if dice.random() < 1 / 2:
        configs["idle_suspend"] = {"idle_after_s": 1800}
    rows = [{"type": name, "config": configs[name], "updated_at": BEFORE} for name in configs]
    state = {
        name: {"version": 1, "payload": {"last_decision_ts": BEFORE}}
        for name in configs
        if dice.random() < 1 / 2
    }
    return rows, state
