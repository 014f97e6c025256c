"""What no strategy may do: take the last ready replica, or more room than the operator allows."""

from __future__ import annotations

from caretaker.strategies.draft import Draft
from caretaker.strategies.model import Dropped, Planned, Replica

#: Sums of credits are of floats; nothing is sold in smaller parts than this.
_A_LITTLE = 1e-9


def guard(draft: Draft) -> None:
    """Take back from a draft what the limits forbid."""
    if draft.planned:
        _keep_within_room(draft)
    if draft.dropped and not draft.suspended:
        _keep_enough_ready(draft)


def _keep_within_room(draft: Draft) -> None:
    """Hold what there is no room for, counted after each action: creates come before drops."""
    there = draft.case.cluster.replicas
    count, spent = len(there), _spent(draft, there)
    refused: list[tuple[Planned, str]] = []
    for planned in sorted(draft.planned.values(), key=lambda one: one.replaces):
        more, price = count + 1, draft.case.sizes.credits_per_hour(planned.size)
        total = None if spent is None or price is None else spent + price
        if planned.replaces:
            gone = _spent(draft, [draft.dropped[planned.name].replica])
            more = count
            total = None if total is None or gone is None else total - gone
        if why := no_room(draft, more, total):
            refused.append((planned, why))
        else:
            count, spent = more, total
    for planned, why in refused:
        draft.veto(planned.name, why)
    if refused and not draft.planned and not draft.dropped:
        _make_room(draft, refused[0][0])


def no_room(draft: Draft, count: int, total: float | None) -> str:
    """Return why so many replicas, or so many credits per hour, are too many; '' where not."""
    limits = draft.case.limits
    if count > limits.max_replicas:
        return f"no room: {count} replicas at once, and max_replicas is {limits.max_replicas}"
    most = limits.max_credits_per_hour
    if most is None:
        return ""
    if total is None:
        return f"what it costs is unknown, and max_credits_per_hour is {most:g}"
    if total > most + _A_LITTLE:
        return f"no room: {total:g} credits/h at once, and max_credits_per_hour is {most:g}"
    return ""


def _spent(draft: Draft, replicas: list[Replica]) -> float | None:
    prices = [draft.case.sizes.credits_per_hour(one.size) for one in replicas]
    return None if None in prices else sum(price or 0.0 for price in prices)


def _make_room(draft: Draft, planned: Planned) -> None:
    """Drop what is neither ready nor wanted, in a cycle of its own, if that makes room at all."""
    useless = [
        one
        for name, one in sorted(draft.kept.items())
        if name in draft.superseded and one.ready is False and not one.pending
    ]
    left = list(draft.case.cluster.replicas)
    price = draft.case.sizes.credits_per_hour(planned.size)
    for number, one in enumerate(useless, 1):
        left.remove(one)
        spent = _spent(draft, left)
        total = None if spent is None or price is None else spent + price
        if number < len(draft.kept) and not no_room(draft, len(left) + 1, total):
            for gone in useless[:number]:
                why = f"{gone.name} is neither ready nor wanted: makes room for {planned.name}"
                draft.drop(planned.strategy, gone, why)
            return


def _keep_enough_ready(draft: Draft) -> None:
    """Take back drops from where a ready replica too few would be left, or none at all.

    Readiness that is unknown counts for neither side: such a replica is no ready one that stays,
    and none that may go without one.
    """
    min_ready, downtime = draft.case.limits.min_ready, draft.case.limits.allow_downtime
    serving = [one for one in draft.case.cluster.replicas if not one.internal and not one.pending]
    ready = sum(one.ready is True for one in serving)
    alive = len(serving)
    for dropped in sorted(draft.dropped.values(), key=lambda one: _order(draft, one)):
        one = dropped.replica
        if one.name in draft.planned and downtime:
            continue
        left = ready - (one.ready is True)
        needed = max(min_ready, one.ready is None)
        if alive > 1 and (one.ready is False or left >= needed):
            alive, ready = alive - 1, left
            continue
        draft.keep(one.name)
        if alive == 1:
            why = "it is the last replica"
        else:
            why = f"{left} other{'s' * (left != 1)} ready, and min_ready is {needed}"
        draft.hold(dropped.strategy, f"{one.name} stays: {why}")


def _order(draft: Draft, dropped: Dropped) -> tuple[bool, int, str]:
    """The useless first, then the large: where some must stay, those are ready and small."""
    one = dropped.replica
    rank = draft.case.sizes.rank.get(one.size or "", len(draft.case.sizes.names))
    return one.ready is True, -rank, one.name
