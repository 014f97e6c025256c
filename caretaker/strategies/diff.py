"""From what is wanted to what is done, in the order to do it."""

from __future__ import annotations

from caretaker.strategies.draft import Draft
from caretaker.strategies.model import Dropped, Json, Planned
from caretaker.strategies.statements import create_replica, drop_replica


def diff(draft: Draft) -> list[Json]:
    """Return the actions: every create before any drop, but where one replaces the other."""
    actions = [_create(draft, one) for one in draft.planned.values() if not one.replaces]
    replaced = [one for one in draft.planned.values() if one.replaces]
    for planned in replaced:
        actions.append(_drop(draft, draft.dropped[planned.name]))
        actions.append(_create(draft, planned))
    drops = [one for name, one in draft.dropped.items() if name not in draft.planned]
    drops.sort(key=lambda one: (one.replica.ready is True, one.replica.name))
    actions.extend(_drop(draft, one) for one in drops)
    return actions


def desired(draft: Draft) -> dict[str, str | None]:
    """Return name and size of every replica that there will be."""
    there = draft.case.cluster.replicas
    wanted = {one.name: one.size for one in there if one.name not in draft.dropped}
    wanted.update((one.name, one.size) for one in draft.planned.values())
    return wanted


def _create(draft: Draft, planned: Planned) -> Json:
    return {
        "op": "create",
        "replica": planned.name,
        "size": planned.size,
        "sql": create_replica(draft.case.cluster.name, planned.name, planned.size),
        "strategy": planned.strategy,
        "reason": planned.reason,
        "credits_per_hour_delta": draft.case.sizes.credits_per_hour(planned.size),
    }


def _drop(draft: Draft, dropped: Dropped) -> Json:
    replica = dropped.replica
    price = draft.case.sizes.credits_per_hour(replica.size)
    return {
        "op": "drop",
        "replica": replica.name,
        "size": replica.size,
        "sql": drop_replica(draft.case.cluster.name, replica.name),
        "strategy": dropped.strategy,
        "reason": dropped.reason,
        "credits_per_hour_delta": None if price is None else 0.0 - price,
    }
