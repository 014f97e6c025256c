"""Cases as the op builds them, and what becomes of a cluster when a decision is carried out."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

from caretaker.strategies.decide import decide

NOW = "2026-01-15T12:00:00+00:00"
SIZES = ["25cc", "50cc", "100cc", "200cc", "400cc", "800cc"]
DAY_S = 86400.0

BUSY = {"last_at": NOW, "running": 1}
IDLE = {"last_at": "2026-01-14T12:00:00+00:00", "running": 0}
NEVER = {"last_at": None, "running": 0}


def ago(seconds: float, now: str = NOW) -> str:
    """Return the time so many seconds before `now`."""
    return (datetime.fromisoformat(now) - timedelta(seconds=seconds)).isoformat()


def replica(
    name: str,
    size: Any = "25cc",
    ready: Any = True,
    oom: Any = 0,
    crash: Any = 0,
    age_s: Any = DAY_S,
    **more: Any,
) -> dict[str, Any]:
    """Return a replica with its signals under the key that `case` takes away."""
    row = {
        "id": f"u-{name}",
        "name": name,
        "size": size,
        "created_at": None if age_s is None else ago(age_s),
        "internal": False,
        "pending": False,
        "signals": {"ready": ready, "oom_count": oom, "crash_count": crash},
    }
    return {**row, **more}


def case(
    *replicas: dict[str, Any],
    activity: Any = BUSY,
    sizes: Any = None,
    state: Any = None,
    limits: Any = None,
    cluster: Any = None,
    rows: Any = None,
    **configs: Any,
) -> dict[str, Any]:
    """Return a case; strategies by name, `rows` for those that a name cannot say."""
    rows = rows or []
    rows += [
        {"type": name, "config": config, "updated_at": None} for name, config in configs.items()
    ]
    there = [{key: row[key] for key in row if key != "signals"} for row in replicas]
    signals = {row["name"]: row["signals"] for row in replicas if "signals" in row}
    return copy.deepcopy(
        {
            "now": NOW,
            "sizes": SIZES if sizes is None else sizes,
            "cluster": {
                "id": "u7",
                "name": "prod",
                "managed": False,
                "size": None,
                "replication_factor": None,
                "schedule": "manual",
                "replicas": there,
                **(cluster or {}),
            },
            "strategies": rows,
            "signals": {"activity": activity, "replicas": signals},
            "state": {
                name: {"version": 1, "payload": payload} for name, payload in (state or {}).items()
            },
            "limits": limits or {},
        }
    )


def managed(size: Any = "50cc", factor: Any = 2, **given: Any) -> dict[str, Any]:
    """Return a case of a managed cluster with its replicas r1 to rN."""
    rows = [replica(f"r{number}", size) for number in range(1, factor + 1)]
    cluster = {"managed": True, "size": size, "replication_factor": factor}
    return case(*rows, **{**given, "cluster": {**cluster, **given.get("cluster", {})}})


def acts(result: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """Return the actions as (op, replica, size)."""
    return [(one["op"], one["replica"], one["size"]) for one in result["actions"]]


def creates(result: dict[str, Any]) -> dict[str, str]:
    """Return size by name of what is created."""
    return {one["replica"]: one["size"] for one in result["actions"] if one["op"] == "create"}


def drops(result: dict[str, Any]) -> set[str]:
    """Return the names of what is dropped."""
    return {one["replica"] for one in result["actions"] if one["op"] == "drop"}


def held(result: dict[str, Any], strategy: str | None) -> str:
    """Return why a strategy did not do what it wanted, in one text."""
    return "; ".join(one["reason"] for one in result["held"] if one["strategy"] == strategy)


def problems(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the problems as (strategy, key)."""
    return [(one["strategy"], one["key"]) for one in result["problems"]]


def payload(result: dict[str, Any], strategy: str) -> dict[str, Any]:
    """Return what a strategy is to remember."""
    remembered: dict[str, Any] = result["state"][strategy]["payload"]
    return remembered


def after(
    before: dict[str, Any],
    result: dict[str, Any],
    *,
    seconds: float = 300,
    executed: int | None = None,
    signals: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the case of the next cycle: the first `executed` actions done, new signals by size.

    State is written as the op writes it: after everything all of it, after a part only that of
    the strategies that had an executed action.
    """
    following = copy.deepcopy(before)
    cluster, actions = following["cluster"], result["actions"]
    done = actions if executed is None else actions[:executed]
    for number, action in enumerate(done):
        carry_out(following, action, f"u-{before['now']}-{number}", signals or {})
    names = {action["strategy"] for action in done}
    whole = len(done) == len(actions)
    following["state"].update(
        {name: entry for name, entry in result["state"].items() if whole or name in names}
    )
    following["now"] = ago(-seconds, before["now"])
    there = {one["name"] for one in cluster["replicas"]}
    shown = following["signals"]["replicas"]
    following["signals"]["replicas"] = {name: shown[name] for name in shown if name in there}
    return following


def carry_out(
    following: dict[str, Any],
    action: dict[str, Any],
    replica_id: str,
    signals: dict[str, dict[str, Any]],
) -> None:
    """Change the cluster as Materialize would; a drop of what is not there is an error."""
    cluster, shown = following["cluster"], following["signals"]["replicas"]
    there = {one["name"]: one for one in cluster["replicas"]}
    if action["op"] == "drop":
        cluster["replicas"].remove(there[action["replica"]])
        return
    born = {"created_at": following["now"], "internal": False, "pending": False}
    if action["op"] == "create":
        name, size = action["replica"], action["size"]
        assert name not in there
        cluster["replicas"].append({"id": replica_id, "name": name, "size": size, **born})
        shown[name] = signals.get(size)
        return
    if action["size"] is not None:
        cluster["size"] = action["size"]
    else:
        cluster["replication_factor"] = int(action["sql"].split("FACTOR ")[1].rstrip(")"))
    cluster["replicas"] = [
        {"id": f"{replica_id}-{n}", "name": f"r{n}", "size": cluster["size"], **born}
        for n in range(1, cluster["replication_factor"] + 1)
    ]


def live(
    first: dict[str, Any], cycles: int, signals: dict[str, dict[str, Any]], seconds: float = 300
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Decide and carry out, cycle after cycle; return each case with its result."""
    lived = []
    now = first
    for _ in range(cycles):
        result = decide(now)
        lived.append((now, result))
        now = after(now, result, signals=signals, seconds=seconds)
    return lived


READY = {"ready": True, "oom_count": 0, "crash_count": 0}
HYDRATING = {"ready": False, "oom_count": 0, "crash_count": 0}
