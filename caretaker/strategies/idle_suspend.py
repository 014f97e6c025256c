"""idle_suspend (priority 3): no replica at all while a cluster is known to be idle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from caretaker.strategies.draft import Draft
from caretaker.strategies.fields import (
    Field,
    UnreadableError,
    remembered_count,
    remembered_time,
    seconds_field,
    some_seconds_field,
)
from caretaker.strategies.model import MAX_FACTOR, Case, Dropped, Json, Planned, Replica
from caretaker.strategies.moments import seconds

NAME = "idle_suspend"

FIELDS = {
    "idle_after_s": Field(some_seconds_field, required=True),
    "cooldown_s": Field(seconds_field),
}


@dataclass(slots=True)
class IdleSuspendConfig:
    """What the operator wants."""

    idle_after_s: float
    cooldown_s: float = 0.0
    updated_at: datetime | None = None

    def unfit(self, _case: Case) -> tuple[str, object, str] | None:
        """Every cluster can be suspended."""
        return None


@dataclass(slots=True)
class IdleSuspendMemory:
    """What is remembered: how many replicas a managed cluster had before it was suspended."""

    last_decision_ts: datetime | None = None
    replication_factor: int | None = None

    @classmethod
    def read(cls, payload: Json) -> IdleSuspendMemory:
        """Return what a payload says; UnreadableError where it is none of ours."""
        memory = cls(last_decision_ts=remembered_time(payload, "last_decision_ts"))
        if payload.get("replication_factor") is not None:
            factor = remembered_count(payload, "replication_factor")
            if not 1 <= factor <= MAX_FACTOR:
                allowed = f"a whole number from 1 to {MAX_FACTOR}"
                raise UnreadableError("replication_factor", factor, allowed)
            memory.replication_factor = factor
        return memory

    def payload(self) -> Json:
        """Return what is stored."""
        return {
            "last_decision_ts": self.last_decision_ts and self.last_decision_ts.isoformat(),
            "replication_factor": self.replication_factor,
        }


def look(_memory: IdleSuspendMemory, _case: Case) -> None:
    """Nothing there changes what is remembered."""


class Use(Enum):
    """Whether a cluster is used."""

    ACTIVE = "active"
    IDLE = "idle"
    UNKNOWN = "unknown"


def use(case: Case, idle_after_s: float) -> Use:
    """Return whether the cluster is in use; what runs now is activity, whenever it began."""
    if case.activity is None:
        return Use.UNKNOWN
    last_at, running = case.activity
    if running or (last_at is not None and seconds(last_at, case.now) <= idle_after_s):
        return Use.ACTIVE
    return Use.IDLE


def why_not_now(case: Case, idle_after_s: float) -> str:
    """Return why a cluster that nobody uses is not suspended yet; '' where it may be."""
    if case.cluster.serves_us:
        return "idle, but it serves our own session, and is never suspended"
    for one in case.cluster.replicas:
        if one.internal:
            continue
        if one.pending:
            return f"idle, but {one.name} is part of a reconfiguration under way"
        if one.created_at is None:
            return f"idle, but the age of {one.name} is unknown"
        if seconds(one.created_at, case.now) < idle_after_s:
            return f"idle, but {one.name} is not {idle_after_s:g} s old yet"
    return ""


def reason(case: Case, idle_after_s: float) -> str:
    """Say since when nobody uses the cluster."""
    last_at = case.activity.last_at if case.activity else None
    since = "in the look-back" if last_at is None else f"since {last_at.isoformat()}"
    return f"no statement {since}, idle after {idle_after_s:g} s"


def propose(draft: Draft, config: IdleSuspendConfig, _memory: IdleSuspendMemory) -> None:
    """Idle: drop all, and create nothing; in use or unknown: the others have the word."""
    case = draft.case
    in_use = use(case, config.idle_after_s)
    if in_use is Use.UNKNOWN:
        draft.hold(NAME, "whether the cluster is in use is unknown")
    if in_use is not Use.IDLE:
        return
    if draft.empty:
        draft.suspended = True
    elif blocked := why_not_now(case, config.idle_after_s) or draft.resting.get(NAME):
        draft.hold(NAME, blocked)
        return
    why = reason(case, config.idle_after_s)
    for name in list(draft.planned):
        draft.veto(name, why)
    for name in list(draft.dropped):
        draft.keep(name)
    for one in _all(draft):
        draft.drop(NAME, one, why)
    draft.suspended = True


def _all(draft: Draft) -> list[Replica]:
    return list(draft.kept.values())


def record(
    _memory: IdleSuspendMemory,
    _config: IdleSuspendConfig,
    _case: Case,
    _planned: Sequence[Planned],
    _dropped: Sequence[Dropped],
) -> None:
    """Remember no more than when."""
