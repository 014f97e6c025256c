"""The decision cycle as the seed of this wing sketches it, strategy by strategy.

Config as it comes, one memory a cluster, no guard, no limits, no cooldown, names as they are in
the statements. An unknown signal is none. Here to be measured against, never to be run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

Json = dict[str, Any]


def decide(case: Json) -> list[str]:
    """Return the statements for one cluster."""
    cluster = case["cluster"]
    there = {one["name"]: one["size"] for one in cluster["replicas"]}
    desired = dict(there)
    configs = {row["type"]: row["config"] for row in case["strategies"]}
    sizes = [size if isinstance(size, str) else size["size"] for size in case["sizes"]]
    signals = case["signals"]["replicas"]
    if config := configs.get("target_size"):
        _target_size(desired, config, signals)
    if config := configs.get("shrink_to_fit"):
        _shrink_to_fit(desired, config, signals, sizes)
    if config := configs.get("burst"):
        _burst(desired, config, signals, cluster["name"])
    if config := configs.get("idle_suspend"):
        _idle_suspend(desired, config, case)
    return _diff(cluster["name"], there, desired)


def _ready(signals: Json, name: str) -> bool:
    return bool((signals.get(name) or {}).get("ready"))


def _target_size(desired: dict[str, str], config: Json, signals: Json) -> None:
    wanted = config["target_size"]
    fitting = [name for name, size in desired.items() if size == wanted]
    if not fitting:
        desired[config.get("replica_name", f"r_{wanted}")] = wanted
    elif any(_ready(signals, name) for name in fitting):
        for name in [name for name, size in desired.items() if size != wanted]:
            del desired[name]


def _shrink_to_fit(desired: dict[str, str], config: Json, signals: Json, sizes: list[str]) -> None:
    if not desired:
        for size in sizes[: sizes.index(config["max_replica_size"]) + 1]:
            desired[f"r_{size}"] = size
        return
    for name in list(desired):
        shown = signals.get(name) or {}
        looping = (shown.get("oom_count") or 0) >= config.get("min_oom_count", 1)
        if looping or (shown.get("crash_count") or 0) >= config.get("min_crash_count", 1):
            del desired[name]
    holding = [sizes.index(size) for name, size in desired.items() if _ready(signals, name)]
    if holding:
        for name in [n for n, size in desired.items() if sizes.index(size) > min(holding)]:
            del desired[name]


def _burst(desired: dict[str, str], config: Json, signals: Json, cluster: str) -> None:
    name = f"{cluster}_burst"
    others = [one for one in desired if one != name]
    if any(_ready(signals, one) for one in others):
        desired.pop(name, None)
    elif others:
        desired[name] = config["burst_replica_size"]


def _idle_suspend(desired: dict[str, str], config: Json, case: Json) -> None:
    last_at = (case["signals"]["activity"] or {}).get("last_at")
    now = datetime.fromisoformat(case["now"])
    if (
        last_at is None
        or (now - datetime.fromisoformat(last_at)).total_seconds() > config["idle_after_s"]
    ):
        desired.clear()


def _diff(cluster: str, there: dict[str, str], desired: dict[str, str]) -> list[str]:
    statements = []
    for name, size in desired.items():
        if name not in there:
            statements.append(f"CREATE CLUSTER REPLICA {cluster}.{name} (SIZE '{size}')")
    statements.extend(f"DROP CLUSTER REPLICA {cluster}.{n}" for n in there if n not in desired)
    return statements
