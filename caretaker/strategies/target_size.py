"""target_size (priority 0): one replica of this size, and none of another once it is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from caretaker.strategies.draft import Draft
from caretaker.strategies.fields import (
    Field,
    UnreadableError,
    name_field,
    remembered_object,
    remembered_text,
    remembered_time,
    seconds_field,
    size_field,
    some_seconds_field,
)
from caretaker.strategies.late import PENDING_TIMEOUT_S, GivenUp, drop_late, given_up_of, held_back
from caretaker.strategies.model import Case, Dropped, Json, Planned, Replica
from caretaker.strategies.moments import AN_AWARE_TIME, seconds
from caretaker.strategies.statements import why_unwritable

NAME = "target_size"

FIELDS = {
    "target_size": Field(size_field, required=True),
    "replica_name": Field(name_field),
    "pending_timeout_s": Field(some_seconds_field),
    "cooldown_s": Field(seconds_field),
}


@dataclass(slots=True)
class TargetSizeConfig:
    """What the operator wants.

    Attributes:
        replica_name: Of a replica that is created; `r_<size>` where none is given.
        pending_timeout_s: Seconds that a created replica has to appear, and to get ready.
    """

    target_size: str
    replica_name: str | None = None
    pending_timeout_s: float = PENDING_TIMEOUT_S
    cooldown_s: float = 0.0
    updated_at: datetime | None = None

    @property
    def name(self) -> str:
        """The name of the replica, where it is free."""
        return self.replica_name or f"r_{self.target_size}"

    def unfit(self, case: Case) -> tuple[str, object, str] | None:
        """Return the key, the value and the reason why this cannot work on this cluster."""
        if not case.cluster.managed and (reason := why_unwritable(self.name)):
            message = f"the replica's name {self.name[:80]!r} {reason}: set replica_name"
            return "target_size", self.target_size, message
        return None


@dataclass(slots=True)
class Pending:
    """A replica that was created and has not been seen yet; on a managed cluster a new size.

    Attributes:
        replaces: One of its name was to go first; that may be all that was done.
    """

    name: str
    size: str
    created_at: datetime
    replaces: bool = False

    def payload(self) -> Json:
        """Return what is stored."""
        stored: Json = {"name": self.name, "size": self.size}
        stored["created_at"] = self.created_at.isoformat()
        if self.replaces:
            stored["replaces"] = True
        return stored


@dataclass(slots=True)
class TargetSizeMemory:
    """What is remembered.

    Attributes:
        target_replica: The (name, id) that a pending one became, until it is ready.
    """

    last_decision_ts: datetime | None = None
    pending: Pending | None = None
    target_replica: tuple[str, str] | None = None
    given_up: GivenUp | None = None

    @classmethod
    def read(cls, payload: Json) -> TargetSizeMemory:
        """Return what a payload says; UnreadableError where it is none of ours."""
        memory = cls(last_decision_ts=remembered_time(payload, "last_decision_ts"))
        if (stored := remembered_object(payload, "pending_target_replica")) is not None:
            created_at = remembered_time(stored, "created_at")
            if created_at is None:
                raise UnreadableError("pending_target_replica.created_at", None, AN_AWARE_TIME)
            name, size = remembered_text(stored, "name"), remembered_text(stored, "size")
            replaces = stored.get("replaces") is True
            memory.pending = Pending(name, size, created_at, replaces)
        if (stored := remembered_object(payload, "target_replica")) is not None:
            memory.target_replica = remembered_text(stored, "name"), remembered_text(stored, "id")
        memory.given_up = given_up_of(payload)
        return memory

    def payload(self) -> Json:
        """Return what is stored."""
        stored: Json = {
            "last_decision_ts": self.last_decision_ts and self.last_decision_ts.isoformat(),
            "pending_target_replica": self.pending and self.pending.payload(),
        }
        if self.target_replica:
            name, replica_id = self.target_replica
            stored["target_replica"] = {"name": name, "id": replica_id}
        if self.given_up:
            stored["given_up"] = self.given_up.payload()
        return stored


def look(memory: TargetSizeMemory, case: Case) -> None:
    """Bring the memory up to date with what is there now."""
    by_name = {one.name: one for one in case.cluster.replicas}
    if memory.pending and (seen := by_name.get(memory.pending.name)):
        if seen.size == memory.pending.size:
            memory.target_replica = seen.name, seen.id
        memory.pending = None
    if memory.target_replica:
        name, replica_id = memory.target_replica
        # Once it was ready it is not late any more, whatever happens to it.
        if name not in by_name or by_name[name].id != replica_id or by_name[name].ready:
            memory.target_replica = None


def propose(draft: Draft, config: TargetSizeConfig, memory: TargetSizeMemory) -> None:
    """Missing: create it. Ready, and others there: drop the others."""
    standing = draft.standing()
    fitting = [one for one in standing if one.size == config.target_size]
    others = [one for one in standing if one.size != config.target_size]
    if not fitting:
        draft.superseded.update(one.name for one in others)
        _create(draft, config, memory, others)
        return
    memory.pending = None
    ready = next((one for one in fitting if one.ready and not one.pending), None)
    if ready is None:
        draft.superseded.update(one.name for one in others)
        ours = [one for one in fitting if (one.name, one.id) == memory.target_replica]
        drop_late(draft, NAME, ours, config.pending_timeout_s)
        if others and any(one.ready is None for one in fitting):
            draft.hold(NAME, f"whether a replica of {config.target_size} is ready is unknown")
        return
    for one in others:
        if one.size is None:
            draft.hold(NAME, f"{one.name} stays: its size is unknown")
        else:
            reason = f"{ready.name} of the target size {config.target_size} is ready"
            draft.drop(NAME, one, reason)


def _create(
    draft: Draft, config: TargetSizeConfig, memory: TargetSizeMemory, others: list[Replica]
) -> None:
    size = config.target_size
    if awaited(draft, config, memory):
        return
    if others and held_back(draft, NAME, memory.given_up, size, config.updated_at):
        return
    reason = f"there is no replica of the target size {size}"
    named_so = draft.kept.get(config.name)
    downtime = named_so is not None and draft.case.limits.allow_downtime
    if downtime and draft.case.cluster.serves_us:
        draft.hold(NAME, f"no downtime for {config.name}: the cluster serves our own session")
        downtime = False
    if named_so is not None and downtime:
        draft.replace(NAME, named_so, size, reason)
    else:
        draft.create(NAME, config.name, size, reason)


def awaited(draft: Draft, config: TargetSizeConfig, memory: TargetSizeMemory) -> bool:
    """Whether what was created is still to appear; too late, it is given up and reported."""
    pending = memory.pending
    if pending is None or pending.size != config.target_size or pending.replaces:
        return False
    waited_s = seconds(pending.created_at, draft.case.now)
    if abs(waited_s) < config.pending_timeout_s:
        draft.hold(NAME, f"waiting for {pending.name} ({pending.size}), sent {waited_s:g} s ago")
        return True
    message = f"{pending.name} ({pending.size}) did not appear: given up after {waited_s:g} s"
    draft.report(NAME, "pending_target_replica", pending.name, message)
    memory.pending = None
    return False


def record(
    memory: TargetSizeMemory,
    _config: TargetSizeConfig,
    case: Case,
    planned: Sequence[Planned],
    dropped: Sequence[Dropped],
) -> None:
    """Remember what was created and dropped, once it has been executed."""
    for drop in dropped:
        if drop.failed and drop.replica.size is not None:
            memory.given_up = GivenUp(drop.replica.size, case.now)
            memory.target_replica = None
    for create in planned:
        memory.pending = Pending(create.name, create.size, case.now, create.replaces)
