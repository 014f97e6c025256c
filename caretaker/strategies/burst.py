"""burst (priority 2): one large replica more, for as long as no other is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from caretaker.strategies.draft import Draft, names
from caretaker.strategies.fields import (
    Field,
    remembered_object,
    remembered_text,
    remembered_text_or_null,
    remembered_time,
    seconds_field,
    size_field,
    some_seconds_field,
)
from caretaker.strategies.late import PENDING_TIMEOUT_S, GivenUp, drop_late, given_up_of, held_back
from caretaker.strategies.model import Case, Dropped, Json, Planned, Replica
from caretaker.strategies.statements import why_unwritable

NAME = "burst"

FIELDS = {
    "burst_replica_size": Field(size_field, required=True),
    "pending_timeout_s": Field(some_seconds_field),
    "cooldown_s": Field(seconds_field),
}


@dataclass(slots=True)
class BurstConfig:
    """What the operator wants."""

    burst_replica_size: str
    pending_timeout_s: float = PENDING_TIMEOUT_S
    cooldown_s: float = 0.0
    updated_at: datetime | None = None

    def unfit(self, case: Case) -> tuple[str, object, str] | None:
        """Return the key, the value and the reason why this cannot work on this cluster."""
        cluster = case.cluster
        if cluster.auto_scaling:
            message = "burst is refused: the cluster has an AUTO SCALING STRATEGY of its own"
            return "auto_scaling", True, message
        if cluster.managed:
            message = "burst cannot apply to a managed cluster: it takes no replicas one by one"
            return "managed", True, message
        if reason := why_unwritable(f"{cluster.name}_burst"):
            message = f"the burst replica's name, {cluster.name[:80]!r} and _burst, {reason}"
            return "burst_replica_size", self.burst_replica_size, message
        return None


@dataclass(slots=True)
class BurstMemory:
    """What is remembered.

    Attributes:
        burst_replica: The replica that is ours, by (name, id); no id until it is seen.
        got_ready: It was, once: it is not late any more, whatever happens to it.
    """

    last_decision_ts: datetime | None = None
    burst_replica: tuple[str, str | None] | None = None
    got_ready: bool = False
    given_up: GivenUp | None = None

    @classmethod
    def read(cls, payload: Json) -> BurstMemory:
        """Return what a payload says; UnreadableError where it is none of ours."""
        memory = cls(last_decision_ts=remembered_time(payload, "last_decision_ts"))
        if (stored := remembered_object(payload, "burst_replica")) is not None:
            replica_id = remembered_text_or_null(stored, "id")
            memory.burst_replica = remembered_text(stored, "name"), replica_id
            memory.got_ready = payload.get("got_ready") is True
        memory.given_up = given_up_of(payload)
        return memory

    def payload(self) -> Json:
        """Return what is stored."""
        stored: Json = {
            "last_decision_ts": self.last_decision_ts and self.last_decision_ts.isoformat(),
            "burst_replica": None,
        }
        if self.burst_replica:
            name, replica_id = self.burst_replica
            stored["burst_replica"] = {"name": name, "id": replica_id}
            if self.got_ready:
                stored["got_ready"] = True
        if self.given_up:
            stored["given_up"] = self.given_up.payload()
        return stored


def look(memory: BurstMemory, case: Case) -> None:
    """Adopt the id of ours when its name appears; forget it when it is gone.

    By its id it is found again whatever it is called by then.
    """
    if memory.burst_replica is None:
        return
    name, replica_id = memory.burst_replica
    for one in case.cluster.replicas:
        if (one.id == replica_id) if replica_id is not None else (one.name == name):
            memory.burst_replica = one.name, one.id
            memory.got_ready = memory.got_ready or one.ready is True
            return
    memory.burst_replica, memory.got_ready = None, False


def propose(draft: Draft, config: BurstConfig, memory: BurstMemory) -> None:
    """Others there and none ready: add one. Another ready: drop it."""
    own = draft.kept.get(draft.bursting) if draft.bursting is not None else None
    others = draft.standing()
    ready = next((one for one in others if one.ready and not one.pending), None)
    if ready is not None:
        if own is not None:
            draft.drop(NAME, own, f"{ready.name} is ready")
        return
    if own is not None:
        if not memory.got_ready:
            drop_late(draft, NAME, [own], config.pending_timeout_s)
        return
    if others or draft.planned:
        _add(draft, config, memory, others)


def _add(draft: Draft, config: BurstConfig, memory: BurstMemory, others: list[Replica]) -> None:
    unknown = [one for one in others if one.ready is None]
    if unknown:
        draft.hold(NAME, f"whether {names(unknown)} is ready is unknown")
        return
    size = config.burst_replica_size
    if held_back(draft, NAME, memory.given_up, size, config.updated_at):
        return
    waiting = [one.name for one in others] + list(draft.planned)
    reason = f"none is ready yet of: {', '.join(waiting)}"
    draft.create(NAME, f"{draft.case.cluster.name}_burst", size, reason)


def record(
    memory: BurstMemory,
    _config: BurstConfig,
    case: Case,
    planned: Sequence[Planned],
    dropped: Sequence[Dropped],
) -> None:
    """Remember what was created and dropped, once it has been executed."""
    for drop in dropped:
        memory.burst_replica, memory.got_ready = None, False
        if drop.failed and drop.replica.size is not None:
            memory.given_up = GivenUp(drop.replica.size, case.now)
    for create in planned:
        memory.burst_replica, memory.got_ready = (create.name, None), False
