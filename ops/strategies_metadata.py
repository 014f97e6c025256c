"""What pages of the strategies wing show: clusters as they are, as wanted, and what was done."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from caretaker.identifiers import quote_identifier
from caretaker.strategies.cycle import ClusterPlan, Observed, Plan
from caretaker.strategies.model import Json
from ops.pictures import embedded
from ops.shown import clipped, named, table
from ops.strategies_pictures import DRAWN_BACK, Life, credits_used, replicas_picture

SIGNALS = dg.AssetKey("cluster_signals")
DESIRED = dg.AssetKey("cluster_desired_state")
ACTIONS = dg.AssetKey("cluster_actions")

CONFIGS_ARE_VALID = "configs_are_valid"
CREDITS_UNDER_BUDGET = "credits_under_budget"
NO_FLAPPING = "no_flapping"

#: Changes of one cluster within an hour from which on somebody should look: a wake-up with a burst
#: and the suspension after it are four.
MOST_CHANGES_AN_HOUR = 20
HOUR, DAY = timedelta(hours=1), timedelta(hours=24)

_MOST_SHOWN = 12

_TIME = re.compile(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)")

#: Problems that are about what became of a replica or of our memory, not about a row of a config.
_NOT_OF_A_CONFIG = frozenset({None, "pending_timeout_s", "pending_target_replica"})
#: A problem of rows that does not switch a strategy off.
_ONLY_A_WARNING = "updated_at"


@dataclass(frozen=True, slots=True)
class Done:
    """An action that was tried, as the audit has it.

    Attributes:
        executed: None where nobody has written down yet how it ended.
        credits_delta: Of an hour; None where the price is unknown.
    """

    cluster: str
    sql: str
    strategy: str
    reason: str
    credits_delta: float | None
    executed: bool | None
    error: str | None
    at: datetime


# --- cluster_signals ------------------------------------------------------------------------------


def signals_metadata(observed: Observed) -> dict[str, Any]:
    """Return what is known of each cluster of users, and what is not."""
    clusters = [one for one in observed.clusters if one["id"].startswith("u")]
    kept = [one for one in clusters if one["id"] in observed.strategies]
    rows = [_signal_row(one, observed) for one in sorted(clusters, key=lambda one: one["name"])]
    replicas = [one for cluster in clusters for one in cluster["replicas"]]
    ready = sum(_ready(cluster, observed) for cluster in clusters)
    suspended = [one["name"] for one in kept if not one["replicas"]]
    unknown = [row["cluster"] for row in rows if row["unknown"]]
    told = {
        "clusters": f"{len(clusters):,}, {len(kept):,} with a strategy",
        "suspended": named(suspended) or "none",
        "something is unknown of": named(unknown) or "none",
    }
    if observed.warnings:
        told["warnings"] = clipped("; ".join(observed.warnings), 900)
    return {
        **told,
        "signals": table(rows, _SIGNAL_COLUMNS, _SIGNAL_WORDS, _MOST_SHOWN),
        "replicas": len(replicas),
        "replicas ready": ready,
        "clusters suspended": len(suspended),
        "clusters with unknown signals": len(unknown),
        "credits per hour": round(sum(_price(one, observed.sizes) for one in replicas), 3),
    }


def _signal_row(cluster: Json, observed: Observed) -> dict[str, Any]:
    found = observed.signals.get(cluster["id"], {})
    of_replicas = found.get("replicas") or {}
    signals = [of_replicas.get(one["name"]) or {} for one in cluster["replicas"]]
    activity = found.get("activity")
    missing = [
        words
        for key, words in (("ready", "readiness"), ("oom_count", "crashes"))
        if any(one.get(key) is None for one in signals)
    ]
    return {
        "cluster": cluster["name"],
        "replicas": f"{_ready(cluster, observed)} of {len(signals)} ready",
        "last used": _used(activity),
        "OOM": sum(one.get("oom_count") or 0 for one in signals),
        "restarts": sum(one.get("crash_count") or 0 for one in signals),
        "unknown": ", ".join(([] if activity is not None else ["activity"]) + missing),
    }


def _ready(cluster: Json, observed: Observed) -> int:
    of_replicas = observed.signals.get(cluster["id"], {}).get("replicas") or {}
    names = [one["name"] for one in cluster["replicas"]]
    return sum((of_replicas.get(name) or {}).get("ready") is True for name in names)


def _used(activity: Json | None) -> str:
    if activity is None:
        return "unknown"
    if activity["running"]:
        return f"now, by {activity['running']}"
    last_at = activity["last_at"]
    return _moment(datetime.fromisoformat(last_at)) if last_at else "not lately"


_SIGNAL_COLUMNS = {
    "cluster": "string",
    "replicas": "string",
    "last used": "string",
    "OOM": "int",
    "restarts": "int",
    "unknown": "string",
}
_SIGNAL_WORDS = {
    "replicas": "Ready: online, and all hydrated that it must hold.",
    "last used": "By a statement of anybody but us (UTC); running statements and subscriptions.",
    "OOM": "Replicas' ends for want of memory, in the look-back.",
    "restarts": "Replicas' ends for any reason, in the look-back.",
    "unknown": "What could not be read. Nothing is ever taken away because of that.",
}


# --- cluster_desired_state ------------------------------------------------------------------------


def desired_metadata(plan: Plan) -> dict[str, Any]:
    """Return what the strategies want of each cluster, why, and what they did not get."""
    actions = list(plan.actions())
    rows = [_desired_row(one) for one in sorted(plan.clusters, key=lambda one: one.name)]
    delta = plan.credits_per_hour_delta
    told: dict[str, Any] = {
        "to do": _to_do(plan) if actions else "nothing: every cluster is as it should be",
        "clusters": table(rows, _DESIRED_COLUMNS, _DESIRED_WORDS, _MOST_SHOWN),
    }
    if actions:
        told["actions"] = table(
            [
                {
                    "action": _short(each.cluster.name, each.action["sql"]),
                    "reason": _narrow(f"{each.action['strategy']}: {each.action['reason']}"),
                    "credits/h": _signed(each.action["credits_per_hour_delta"]),
                }
                for each in actions
            ],
            _ACTION_COLUMNS,
            _ACTION_WORDS,
            _MOST_SHOWN,
        )
    if plan.problems:
        told["problems"] = clipped("; ".join(map(_problem, plan.problems)), 900)
    return {
        **told,
        "actions to do": len(actions),
        "held": len(plan.held),
        "strategies with a problem": len(plan.problems),
        "credits per hour": round(sum(map(_cost_now, plan.clusters)), 3),
        "credits per hour, wanted": round(sum(map(_cost_wanted, plan.clusters)), 3),
        **({} if delta is None else {"change in credits per hour": round(delta, 3)}),
    }


def _to_do(plan: Plan) -> str:
    clusters = [one.name for one in plan.clusters if one.actions]
    count = sum(len(one.actions) for one in plan.clusters)
    return (
        f"{count:,} action{'s'[: count > 1]} on {named(clusters)}: "
        f"{_signed(plan.credits_per_hour_delta)} credits/h"
    )


def _desired_row(one: ClusterPlan) -> dict[str, Any]:
    there = {each["name"]: each["size"] for each in one.case["cluster"]["replicas"]}
    waits = [f"{each['strategy']}: {each['reason']}" for each in one.result["held"]]
    skipped = one.result["skipped"]
    has, wanted = _replicas(there), _replicas(one.result["desired"])
    return {
        "cluster": one.name,
        "replicas": has if skipped or has == wanted else f"{has} → {wanted}",
        "held": skipped or _narrow("; ".join(waits)),
    }


def _replicas(sizes: Json) -> str:
    return ", ".join(f"{name} ({size})" for name, size in sorted(sizes.items())) or "none"


def configs_check(plan: Plan) -> dict[str, Any]:
    """Return what `configs_are_valid` says, as an asset check's own arguments."""
    wrong = [
        each
        for each in plan.problems
        if each["key"] not in _NOT_OF_A_CONFIG and not each["key"].startswith("state.")
    ]
    serious = any(each["key"] != _ONLY_A_WARNING for each in wrong)
    metadata: dict[str, Any] = {"rows with a problem": len(wrong)}
    if wrong:
        metadata["problems"] = table(
            [
                {
                    "cluster": each["cluster"],
                    "strategy": each["strategy"],
                    "key": each["key"],
                    "problem": each["message"],
                }
                for each in wrong
            ],
            dict.fromkeys(("cluster", "strategy", "key", "problem"), "string"),
            {},
        )
    return {
        "passed": not wrong,
        "severity": dg.AssetCheckSeverity.ERROR if serious else dg.AssetCheckSeverity.WARN,
        "description": clipped("; ".join(map(_problem, wrong)), 900)
        or "Every row of mz_cluster_strategies can be read.",
        "metadata": metadata,
    }


def budget_check(plan: Plan) -> dict[str, Any]:
    """Return what `credits_under_budget` says: each cluster against its max_credits_per_hour."""
    over, limited = [], 0
    for one in plan.clusters:
        limit = one.case["limits"]["max_credits_per_hour"]
        if limit is None:
            continue
        limited += 1
        if max(_cost_now(one), _cost_wanted(one)) > limit:
            over.append(f"{one.name} costs {_cost_now(one):g} credits/h of {limit:g}")
    return {
        "passed": not over,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": named(over)
        or (
            f"{limited:,} cluster{'s'[: limited > 1]} with max_credits_per_hour, none above it."
            if limited
            else "No cluster has a max_credits_per_hour."
        ),
        "metadata": {
            "clusters over their budget": len(over),
            "credits per hour": round(sum(map(_cost_now, plan.clusters)), 3),
        },
    }


def _cost_now(one: ClusterPlan) -> float:
    return sum(_price(each, one.case["sizes"]) for each in one.case["cluster"]["replicas"])


def _cost_wanted(one: ClusterPlan) -> float:
    if one.result["skipped"]:
        return _cost_now(one)
    sizes = one.result["desired"].values()
    return sum(_price({"size": size}, one.case["sizes"]) for size in sizes)


def _price(replica: Json, sizes: Sequence[Json]) -> float:
    for row in sizes:
        if row["size"] == replica["size"]:
            return float(row["credits_per_hour"] or 0.0)
    return 0.0


_DESIRED_COLUMNS = dict.fromkeys(("cluster", "replicas", "held"), "string")
_DESIRED_WORDS = {
    "replicas": "Those that are there, and those after the actions of this cycle.",
    "held": "What a strategy wanted to and did not do, and why; or why all of it is left alone.",
}
_ACTION_COLUMNS = dict.fromkeys(("action", "reason", "credits/h"), "string")
_ACTION_WORDS = {"credits/h": "How many credits more or less an hour costs after it."}


# --- cluster_actions ------------------------------------------------------------------------------


def actions_metadata(done: Sequence[Done], lives: Sequence[Life], now: datetime) -> dict[str, Any]:
    """Return what was done in the last day, newest first, and what it has cost."""
    failed = [one for one in _within(done, now, DAY) if one.executed is False]
    told: dict[str, Any] = {
        "last hour": _counted(_within(done, now, HOUR)),
        "last 24 h": _counted(_within(done, now, DAY)),
    }
    if failed:
        newest = failed[0]
        told["last failure"] = clipped(f"{newest.cluster}: {newest.sql}: {newest.error}", 900)
    return {
        **told,
        "actions": table(list(map(_done_row, done)), _DONE_COLUMNS, _ACTION_WORDS, _MOST_SHOWN),
        "picture": embedded(
            lambda: replicas_picture(lives, now), "Replicas and credits per hour of each cluster"
        ),
        "24 h: executed": sum(one.executed is True for one in _within(done, now, DAY)),
        "24 h: failed": len(failed),
        "24 h: credits": round(credits_used(lives, now - DRAWN_BACK, now), 3),
        "credits per hour": round(
            sum(one.credits_per_hour or 0.0 for one in lives if one.dropped_at is None), 3
        ),
    }


def flapping_check(done: Sequence[Done], now: datetime) -> dict[str, Any]:
    """Return what `no_flapping` says: which clusters were changed too often within an hour."""
    changes = Counter(one.cluster for one in _within(done, now, HOUR) if one.executed)
    often = [
        f"{cluster} was changed {count:,} times"
        for cluster, count in changes.most_common()
        if count > MOST_CHANGES_AN_HOUR
    ]
    return {
        "passed": not often,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": (
            f"In the last hour {named(often)}: its cooldown_s or idle_after_s may be too short."
            if often
            else f"No cluster was changed more than {MOST_CHANGES_AN_HOUR} times in an hour."
        ),
        "metadata": {
            "most changes of a cluster in an hour": max(changes.values(), default=0),
            "clusters that flap": len(often),
        },
    }


def _within(done: Iterable[Done], now: datetime, span: timedelta) -> list[Done]:
    return [one for one in done if now - one.at <= span]


def _counted(done: Sequence[Done]) -> str:
    executed = sum(one.executed is True for one in done)
    failed = sum(one.executed is False for one in done)
    pending = len(done) - executed - failed
    words = [f"{executed:,} executed", f"{failed:,} not executed"]
    if pending:
        words.append(f"{pending:,} under way")
    return ", ".join(words) if done else "nothing was done"


def _done_row(one: Done) -> dict[str, Any]:
    reason = f"{one.strategy}: {one.reason}"
    if one.executed is None:
        reason = f"under way: {reason}"
    elif not one.executed:
        reason = f"not executed: {one.error or 'nobody knows why'}"
    return {
        "UTC": _moment(one.at),
        "action": _short(one.cluster, one.sql),
        "reason": _narrow(reason),
        "credits/h": _signed(one.credits_delta) if one.executed else "",
    }


_DONE_COLUMNS = dict.fromkeys(("UTC", "action", "reason", "credits/h"), "string")


# --- words ----------------------------------------------------------------------------------------


def _short(cluster: str, sql: str) -> str:
    r"""Return a statement as a narrow column has room for it; the audit has every letter.

    >>> _short("prod", 'CREATE CLUSTER REPLICA "prod"."r_50cc" (SIZE \'50cc\')')
    'prod: create r_50cc (50cc)'
    >>> _short("web", 'ALTER CLUSTER "web" SET (REPLICATION FACTOR 0)')
    'web: alter (replication factor 0)'
    """
    name = quote_identifier(cluster)
    for long, short in (
        (f"CREATE CLUSTER REPLICA {name}.", "create "),
        (f"DROP CLUSTER REPLICA {name}.", "drop "),
        (f"ALTER CLUSTER {name} ", "alter "),
        ("SET (SIZE = ", "("),
        ("(SIZE ", "("),
        ("SET (REPLICATION FACTOR ", "(replication factor "),
    ):
        sql = sql.replace(long, short, 1)
    plain = sql.partition(" WITH (WAIT")[0].replace('"', "").replace("'", "")
    return f"{cluster}: {plain}"


def _narrow(text: str) -> str:
    """Return a sentence with its times of the last day short: a browser breaks none of them.

    >>> _narrow("no statement since 2026-01-15T12:00:00.123456+00:00, idle")
    'no statement since 12:00:00, idle'
    """
    return _TIME.sub(r"\1", text)


def _problem(each: Json) -> str:
    where = f"{each['cluster']}, {each['strategy']}" if each["strategy"] else each["cluster"]
    return f"{where}: {each['message']}"


def _signed(delta: float | None) -> str:
    return "unknown" if delta is None else f"{delta:+g}"


def _moment(moment: datetime) -> str:
    # A blank that does not break: a narrow column would make three lines of it.
    return f"{moment.astimezone(UTC):%d\N{NO-BREAK SPACE}%b %H:%M:%S}"
