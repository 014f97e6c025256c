"""shrink_to_fit (priority 1): every size up to a maximum, then the smallest that holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from caretaker.strategies.draft import Draft, names
from caretaker.strategies.fields import (
    Field,
    UnreadableError,
    count_field,
    remembered_count,
    remembered_object,
    remembered_text_or_null,
    remembered_time,
    seconds_field,
    size_field,
    some_seconds_field,
)
from caretaker.strategies.late import PENDING_TIMEOUT_S, drop_late
from caretaker.strategies.model import Case, Dropped, Json, Planned, Replica
from caretaker.strategies.moments import AN_AWARE_TIME, later, moment
from caretaker.strategies.sizes import Sizes

NAME = "shrink_to_fit"

FIELDS = {
    "max_replica_size": Field(size_field, required=True),
    "min_oom_count": Field(count_field),
    "min_crash_count": Field(count_field),
    "oom_ttl_s": Field(some_seconds_field),
    "pending_timeout_s": Field(some_seconds_field),
    "cooldown_s": Field(seconds_field),
}

_REMEMBERED_SIZES = 1000


@dataclass(slots=True)
class ShrinkToFitConfig:
    """What the operator wants.

    Attributes:
        min_oom_count, min_crash_count: From so many in the look-back on it is crash-looping.
        oom_ttl_s: Seconds for which a size that ran out of memory is not tried again.
    """

    max_replica_size: str
    min_oom_count: int = 1
    min_crash_count: int = 1
    oom_ttl_s: float = 86400.0
    pending_timeout_s: float = PENDING_TIMEOUT_S
    cooldown_s: float = 0.0
    updated_at: datetime | None = None

    def unfit(self, case: Case) -> tuple[str, object, str] | None:
        """Return the key, the value and the reason why this cannot work on this cluster."""
        if case.cluster.managed:
            message = "shrink_to_fit cannot apply to a managed cluster: its replicas have one size"
            return "managed", True, message
        return None

    def loops(self, one: Replica) -> bool:
        """Whether a replica is known to crash again and again.

        The reason for an end is best effort, so restarts count like running out of memory.
        """
        return (one.oom_count is not None and one.oom_count >= self.min_oom_count) or (
            one.crash_count is not None and one.crash_count >= self.min_crash_count
        )

    def holds(self, one: Replica) -> bool:
        """Whether a replica is known to be ready and not to crash."""
        known = one.oom_count is not None and one.crash_count is not None
        return bool(one.ready) and not one.pending and known and not self.loops(one)


@dataclass(slots=True)
class ShrinkToFitMemory:
    """What is remembered.

    Attributes:
        oom_sizes: Sizes that could not hold what they must, and until when they are not tried.
        replicas: Ours, by name, until they are ready; the id once it was seen.
        untried: Sizes that there was no room for, or that were created and not seen yet.
        trying: What this decision chooses from; not stored.
    """

    last_decision_ts: datetime | None = None
    last_scale_action: tuple[datetime, int, int] | None = None
    oom_sizes: dict[str, datetime] = field(default_factory=dict)
    replicas: dict[str, str | None] = field(default_factory=dict)
    untried: list[str] = field(default_factory=list)
    trying: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, payload: Json) -> ShrinkToFitMemory:
        """Return what a payload says; UnreadableError where it is none of ours."""
        memory = cls(last_decision_ts=remembered_time(payload, "last_decision_ts"))
        if (stored := remembered_object(payload, "last_scale_action")) is not None:
            timestamp = remembered_time(stored, "timestamp")
            if timestamp is None:
                raise UnreadableError("last_scale_action.timestamp", None, AN_AWARE_TIME)
            added = remembered_count(stored, "replicas_added")
            memory.last_scale_action = (
                timestamp,
                added,
                remembered_count(stored, "replicas_removed"),
            )
        for size, until in (remembered_object(payload, "oom_sizes") or {}).items():
            if (at := moment(until)) is None:
                raise UnreadableError("oom_sizes", until, AN_AWARE_TIME)
            memory.oom_sizes[size] = at
        replicas = remembered_object(payload, "replicas") or {}
        memory.replicas = {name: remembered_text_or_null(replicas, name) for name in replicas}
        untried = payload.get("untried") or []
        if not isinstance(untried, list) or not all(isinstance(size, str) for size in untried):
            raise UnreadableError("untried", untried, "a list of sizes")
        memory.untried = untried[:_REMEMBERED_SIZES]
        return memory

    def payload(self) -> Json:
        """Return what is stored."""
        stored: Json = {
            "last_decision_ts": self.last_decision_ts and self.last_decision_ts.isoformat(),
            "last_scale_action": None,
            "oom_sizes": {size: until.isoformat() for size, until in self.oom_sizes.items()},
        }
        if self.last_scale_action:
            timestamp, added, removed = self.last_scale_action
            stored["last_scale_action"] = {
                "timestamp": timestamp.isoformat(),
                "replicas_added": added,
                "replicas_removed": removed,
            }
        if self.replicas:
            stored["replicas"] = dict(self.replicas)
        if self.untried:
            stored["untried"] = list(self.untried)
        return stored


def look(memory: ShrinkToFitMemory, case: Case) -> None:
    """Adopt the ids of ours, forget those that are gone, and sizes whose time is over."""
    if memory.oom_sizes:
        memory.oom_sizes = {
            size: until for size, until in memory.oom_sizes.items() if until > case.now
        }
    if memory.replicas:
        ours = memory.replicas
        seen = [
            one
            for one in case.cluster.replicas
            if one.name in ours and ours[one.name] in (None, one.id)
        ]
        # Once it was ready it is not late any more, whatever happens to it.
        memory.replicas = {one.name: one.id for one in seen if not one.ready}
        tried = {one.size for one in seen if ours[one.name] is None}
        memory.untried = [size for size in memory.untried if size not in tried]


def propose(draft: Draft, config: ShrinkToFitConfig, memory: ShrinkToFitMemory) -> None:
    """Nothing there: every size. Crash-looping: gone. A smaller one holds: the larger gone."""
    # Remembered for longer than that is only what was written under another clock or config.
    latest = later(draft.case.now, config.oom_ttl_s)
    memory.oom_sizes = {size: until for size, until in memory.oom_sizes.items() if until <= latest}
    for planned in list(draft.planned.values()):
        if planned.size in memory.oom_sizes:
            until = memory.oom_sizes[planned.size].isoformat()
            draft.veto(planned.name, f"{planned.size} could not hold it; not before {until}")
    standing = draft.standing()
    if not standing and not draft.planned:
        _create_all(draft, config, memory)
        return
    _keep_what_holds(draft, config, standing)
    sound = _drop_looping(draft, config, draft.standing())
    _drop_larger(draft, config, sound)
    ours = [one for one in draft.standing() if one.name in memory.replicas]
    # The largest last: if none gets ready, it is the one to stay.
    ours.sort(key=lambda one: (_rank(one, draft.case.sizes), one.name))
    drop_late(draft, NAME, ours, config.pending_timeout_s)
    _try_more(draft, config, memory)


def _create_all(draft: Draft, config: ShrinkToFitConfig, memory: ShrinkToFitMemory) -> None:
    """Want every size, the largest first: where there is room for few, these are safe."""
    sizes = draft.case.sizes
    wanted = sizes.names[: sizes.rank[config.max_replica_size] + 1]
    left = [size for size in wanted if size not in memory.oom_sizes] or list(wanted[-1:])
    memory.trying = left
    for size in reversed(left):
        reason = f"no replica: trying all sizes up to {config.max_replica_size}"
        draft.create(NAME, f"{draft.case.cluster.name}_{size}", size, reason)


def _keep_what_holds(draft: Draft, config: ShrinkToFitConfig, standing: list[Replica]) -> None:
    """Take back drops of what holds where only crash-looping replicas would remain."""
    if not standing or not all(config.loops(one) for one in standing):
        return
    for dropped in list(draft.dropped.values()):
        one = dropped.replica
        if not config.loops(one) and one.name not in draft.planned:
            draft.keep(one.name)
            draft.hold(dropped.strategy, f"{one.name} stays: {names(standing)} is crash-looping")


def _drop_looping(
    draft: Draft, config: ShrinkToFitConfig, standing: list[Replica]
) -> list[Replica]:
    """Want crash-looping replicas gone, and return the others; the largest stays if all are."""
    looping = [one for one in standing if config.loops(one)]
    sound = [one for one in standing if not config.loops(one)]
    looping.sort(key=lambda one: (_rank(one, draft.case.sizes), one.name))
    if not sound and looping:
        last = looping.pop()
        draft.hold(NAME, f"{last.name} is crash-looping, and stays: it is the last replica")
    for one in looping:
        reason = f"{one.name} ({one.size}) is crash-looping: "
        reason += f"{_number(one.oom_count)} out of memory, {_number(one.crash_count)} crashes"
        draft.drop(NAME, one, reason, failed=True)
    return sound


def _drop_larger(draft: Draft, config: ShrinkToFitConfig, sound: list[Replica]) -> None:
    sizes = draft.case.sizes
    ranked = [one for one in sound if one.size in sizes.rank]
    holding = [one for one in ranked if config.holds(one)]
    if not holding:
        unknown = [one for one in sound if one.ready is None or _counts_unknown(one)]
        if unknown and len(sound) > 1:
            draft.hold(NAME, f"whether it is ready and sound is unknown of: {names(unknown)}")
        return
    smallest = min(holding, key=lambda one: (_rank(one, sizes), one.name))
    rank = _rank(smallest, sizes)
    why = f"{smallest.name} ({smallest.size}) is ready and sound, and smaller"
    for one in ranked:
        if _rank(one, sizes) > rank:
            draft.drop(NAME, one, why)
    for planned in list(draft.planned.values()):
        if sizes.rank[planned.size] > rank:
            draft.veto(planned.name, why)


def _try_more(draft: Draft, config: ShrinkToFitConfig, memory: ShrinkToFitMemory) -> None:
    """Try the sizes that there was no room for, once what there was room for has converged.

    The smallest first and the rest spread evenly, so that few rounds find the smallest that holds.
    """
    standing = draft.standing()
    if not memory.untried or draft.dropped or draft.planned or len(standing) != 1:
        return
    sizes, last = draft.case.sizes, standing[0]
    if not config.holds(last) or last.size not in sizes.rank:
        return
    rank = sizes.rank[last.size]
    left = [size for size in memory.untried if sizes.rank.get(size, rank) < rank]
    left = sorted(
        (size for size in left if size not in memory.oom_sizes), key=sizes.rank.__getitem__
    )
    memory.trying = left
    room = max(1, draft.case.limits.max_replicas - len(draft.case.cluster.replicas))
    for size in _spread(left, room):
        reason = f"{last.name} ({last.size}) holds: trying smaller sizes"
        draft.create(NAME, f"{draft.case.cluster.name}_{size}", size, reason)


def _spread(sizes: Sequence[str], count: int) -> list[str]:
    """Return the first of `sizes` and others evenly between, `count` in all.

    >>> _spread("abcdefgh", 3), _spread("ab", 5)
    (['a', 'c', 'f'], ['a', 'b'])
    """
    if count >= len(sizes):
        return list(sizes)
    return [sizes[number * len(sizes) // count] for number in range(count)]


def record(
    memory: ShrinkToFitMemory,
    config: ShrinkToFitConfig,
    case: Case,
    planned: Sequence[Planned],
    dropped: Sequence[Dropped],
) -> None:
    """Remember what was created and dropped, once it has been executed."""
    memory.last_scale_action = case.now, len(planned), len(dropped)
    rank = case.sizes.rank
    for drop in dropped:
        memory.replicas.pop(drop.replica.name, None)
        size = drop.replica.size
        if drop.failed and size is not None:
            memory.oom_sizes[size] = later(case.now, config.oom_ttl_s)
            # What is smaller still would not hold it either.
            smallest = rank.get(size, -1)
            memory.untried = [one for one in memory.untried if rank.get(one, -1) > smallest]
    if planned:
        memory.replicas.update((create.name, None) for create in planned)
        # Those that are created now, too, until they are seen: not all of them may come to be.
        memory.untried = list(memory.trying)


def _rank(one: Replica, sizes: Sizes) -> int:
    # Of unknown size it is nobody's to judge: never the smaller one, and the last to go.
    return len(sizes.names) if one.size is None else sizes.rank.get(one.size, len(sizes.names))


def _counts_unknown(one: Replica) -> bool:
    return one.oom_count is None or one.crash_count is None


def _number(count: int | None) -> str:
    return "an unknown number" if count is None else str(count)
