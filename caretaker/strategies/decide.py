"""What to do about one Materialize cluster now: plain JSON in, plain JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caretaker.errors import CaseError
from caretaker.strategies import idle_suspend, target_size
from caretaker.strategies.case import read_case
from caretaker.strategies.coordinate import (
    STATE_VERSION,
    STRATEGIES,
    Voice,
    coordinate,
    remembered,
    rest,
    voices,
)
from caretaker.strategies.diff import desired, diff
from caretaker.strategies.draft import Draft
from caretaker.strategies.guard import guard
from caretaker.strategies.managed import manage
from caretaker.strategies.model import Case, Cluster, Json
from caretaker.strategies.statements import why_unwritable


def decide(case: Json) -> Json:
    r"""Return what one cluster shall have, the actions that lead there, and what to remember.

    The same case always gives the same result: `now` is part of it, and nothing else is asked.
    A case that is malformed raises CaseError, which names the path; no input raises anything else.
    A config or a remembered state that is wrong is a problem of that strategy alone.

    The keys of the case:
        now: The time, with its offset.
        sizes: Names ranked from small to large, or rows of `mz_cluster_replica_sizes`.
        cluster: `id`, `name`, `replicas` and the rest of a row of `mz_clusters`.
        strategies: Rows of `mz_cluster_strategies`: `type`, `config`, `updated_at`.
        signals: `activity` and, by name, `replicas`; null or absent is unknown.
        state: What was remembered, by strategy.
        limits: `min_ready`, `max_replicas`, `max_credits_per_hour`, `allow_downtime`.

    The keys of the result:
        desired: Size by name, once all actions were executed.
        actions: In the order to run them, each with its own statement, strategy and reason.
        state: To be written once they were executed; after only some of them, for the
            strategies that had one of those.
        held: What a strategy wanted and did not get, and why.
        problems: What a person should put right.
        skipped: Why the whole cluster is left alone, or null.

    >>> prod = {"id": "u7", "name": "prod", "replicas": []}
    >>> row = {"type": "target_size", "config": {"target_size": "50cc"}}
    >>> signals = {"activity": None, "replicas": {}}
    >>> case = {"now": "2026-01-15T12:00:00+00:00", "sizes": ["25cc", "50cc"], "cluster": prod,
    ...         "strategies": [row], "signals": signals}
    >>> [action["sql"] for action in decide(case)["actions"]]
    ['CREATE CLUSTER REPLICA "prod"."r_50cc" (SIZE \'50cc\')']
    """
    try:
        return _decide(read_case(case))
    except RecursionError:
        raise CaseError("case: nested deeper than any that was observed", target="case") from None


def _decide(case: Case) -> Json:
    problems: list[Json] = []
    memories = remembered(case, problems)
    heard = voices(case, memories, problems)
    for strategy in STRATEGIES:
        if strategy.name in memories:
            strategy.look(memories[strategy.name], case)
    draft = Draft(case)
    skipped = why_skipped(case.cluster)
    actions: list[Json] = []
    if skipped:
        wanted = desired(draft)
        draft.held.clear()
    elif case.cluster.managed:
        rest(draft, heard)
        managed = manage(draft, _pair(heard, target_size.NAME), _pair(heard, idle_suspend.NAME))
        wanted, actions = managed.desired(), managed.actions
    else:
        rest(draft, heard)
        coordinate(draft, heard)
        guard(draft)
        wanted, actions = desired(draft), diff(draft)
        _record(draft, heard)
    for name in {action["strategy"] for action in actions}:
        heard[name].memory.last_decision_ts = case.now
    return {
        "desired": wanted,
        "actions": actions,
        "state": _state(case, memories, heard),
        "held": draft.held,
        "problems": problems + draft.problems,
        "skipped": skipped,
    }


def why_skipped(cluster: Cluster) -> str | None:
    """Return why a cluster is left alone altogether, or None."""
    if not cluster.id.startswith("u"):
        return "a system cluster"
    if cluster.schedule != "manual":
        return f"its schedule is {cluster.schedule}, not manual"
    if cluster.pending:
        return "a reconfiguration is pending"
    if cluster.name.endswith("_dbt_deploy"):
        return "a blue/green deployment is under way: *_dbt_deploy"
    if unwritable := why_unwritable(cluster.name):
        return f"its name cannot be written in a statement: it {unwritable}"
    return None


def _pair(heard: Mapping[str, Voice], name: str) -> tuple[Any, Any] | None:
    voice = heard.get(name)
    return (voice.config, voice.memory) if voice else None


def _record(draft: Draft, heard: Mapping[str, Voice]) -> None:
    for name, voice in heard.items():
        planned = [one for one in draft.planned.values() if one.strategy == name]
        dropped = [one for one in draft.dropped.values() if one.strategy == name]
        if planned or dropped:
            voice.strategy.record(voice.memory, voice.config, draft.case, planned, dropped)


def _state(case: Case, memories: Mapping[str, Any], heard: Mapping[str, Voice]) -> Json:
    """Return what is to be remembered: of everyone that remembers anything, in use or not."""
    state = {}
    for strategy in STRATEGIES:
        name = strategy.name
        voice = heard.get(name)
        memory = voice.memory if voice else memories.get(name)
        if memory is None:
            continue
        payload = memory.payload()
        if name in case.state or payload != strategy.memory().payload():
            state[name] = {"version": STATE_VERSION, "payload": payload}
    return state
