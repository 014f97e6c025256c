"""Managed clusters: Materialize keeps their replicas, and takes a size and a number from us."""

from __future__ import annotations

from caretaker.strategies import idle_suspend, target_size
from caretaker.strategies.draft import Draft
from caretaker.strategies.guard import no_room
from caretaker.strategies.idle_suspend import IdleSuspendConfig, IdleSuspendMemory, Use
from caretaker.strategies.late import held_back
from caretaker.strategies.model import Json
from caretaker.strategies.statements import set_replication_factor, set_size
from caretaker.strategies.target_size import Pending, TargetSizeConfig, TargetSizeMemory


class Managed:
    """The size and the number of replicas that a managed cluster shall have."""

    def __init__(self, draft: Draft) -> None:
        cluster = draft.case.cluster
        self.draft = draft
        self.name = cluster.name
        # The case has both of a managed cluster, or is malformed.
        self.size = cluster.size or ""
        self.factor = cluster.replication_factor or 0
        self.actions: list[Json] = []

    def desired(self) -> dict[str, str | None]:
        """Return name and size of every replica that there will be."""
        internal = [one for one in self.draft.case.cluster.replicas if one.internal]
        wanted: dict[str, str | None] = {f"r{n}": self.size for n in range(1, self.factor + 1)}
        wanted.update((one.name, one.size) for one in internal)
        return wanted

    def resize(self, config: TargetSizeConfig, memory: TargetSizeMemory) -> None:
        """Have Materialize change the size: the old replicas go once the new ones are ready."""
        draft, size = self.draft, config.target_size
        if size == self.size:
            memory.pending = None
        if config.replica_name is not None:
            ignored = "replica_name is ignored: a managed cluster names its replicas itself"
            draft.hold(target_size.NAME, ignored)
        if size == self.size:
            return
        if (resting := draft.resting.get(target_size.NAME)) and self.factor:
            draft.hold(target_size.NAME, resting)
            return
        if target_size.awaited(draft, config, memory):
            return
        if held_back(draft, target_size.NAME, memory.given_up, size, config.updated_at):
            return
        both = self.factor * 2
        if self.factor and (why := no_room(draft, both, self._total(self.factor, size))):
            draft.hold(target_size.NAME, f"{self.size} is not changed to {size}: {why}")
            return
        reason = f"the cluster's size is {self.size}, the target size {size}"
        delta = _difference(self._price(size), self._price(self.size), self.factor)
        sql = set_size(self.name, size, config.pending_timeout_s)
        self.size = size
        memory.pending = Pending(self.name, size, draft.case.now)
        self._alter(target_size.NAME, size, sql, reason, delta)

    def suspend_or_resume(
        self, config: IdleSuspendConfig, memory: IdleSuspendMemory, use: Use
    ) -> None:
        """Idle: no replicas. In use again: as many as there were."""
        draft, case = self.draft, self.draft.case
        if use is Use.IDLE and self.factor:
            memory.replication_factor = self.factor
            delta = _difference(0.0, self._price(self.size), self.factor)
            self.factor = 0
            why = idle_suspend.reason(case, config.idle_after_s)
            self._alter_factor(0, why, delta)
        elif use is Use.ACTIVE and not self.factor:
            wanted = memory.replication_factor or 1
            factor = next((n for n in range(wanted, 0, -1) if not self._too_many(n)), 0)
            if factor < wanted:
                why = f"not {wanted} replicas: {self._too_many(wanted)}"
                draft.hold(idle_suspend.NAME, why)
            if factor:
                memory.replication_factor = None
                self.factor = factor
                price = self._price(self.size)
                self._alter_factor(factor, "in use again", _difference(price, 0.0, factor))

    def _alter_factor(self, factor: int, reason: str, delta: float | None) -> None:
        sql = set_replication_factor(self.name, factor)
        self._alter(idle_suspend.NAME, None, sql, reason, delta)

    def _alter(
        self, strategy: str, size: str | None, sql: str, reason: str, delta: float | None
    ) -> None:
        self.actions.append(
            {
                "op": "alter",
                "replica": None,
                "size": size,
                "sql": sql,
                "strategy": strategy,
                "reason": reason,
                "credits_per_hour_delta": delta,
            }
        )

    def _too_many(self, factor: int) -> str:
        price = self._price(self.size)
        return no_room(self.draft, factor, None if price is None else price * factor)

    def _total(self, factor: int, size: str) -> float | None:
        prices = self._price(size), self._price(self.size)
        return None if None in prices else sum(price or 0.0 for price in prices) * factor

    def _price(self, size: str) -> float | None:
        return self.draft.case.sizes.credits_per_hour(size)


def in_use(draft: Draft, config: IdleSuspendConfig) -> Use:
    """Return whether the cluster is in use, or is to be treated as if it were."""
    case = draft.case
    found = idle_suspend.use(case, config.idle_after_s)
    if found is Use.UNKNOWN:
        draft.hold(idle_suspend.NAME, "whether the cluster is in use is unknown")
    if found is Use.IDLE and case.cluster.replication_factor:
        blocked = idle_suspend.why_not_now(case, config.idle_after_s)
        if not blocked and not any(not one.internal for one in case.cluster.replicas):
            blocked = "idle, but the age of its replicas is unknown"
        if blocked := blocked or draft.resting.get(idle_suspend.NAME, ""):
            draft.hold(idle_suspend.NAME, blocked)
            return Use.UNKNOWN
    return found


def _difference(after: float | None, before: float | None, factor: int) -> float | None:
    if after is None or before is None:
        return None
    return round((after - before) * factor, 9) + 0.0


def manage(
    draft: Draft,
    target: tuple[TargetSizeConfig, TargetSizeMemory] | None,
    idle: tuple[IdleSuspendConfig, IdleSuspendMemory] | None,
) -> Managed:
    """Decide for a managed cluster; nothing changes about one that is and stays suspended."""
    managed = Managed(draft)
    use = in_use(draft, idle[0]) if idle else Use.ACTIVE
    if target and (use is not Use.IDLE or not idle):
        managed.resize(*target)
    elif target and target[0].target_size != managed.size:
        draft.hold(target_size.NAME, f"the size stays {managed.size} while the cluster is idle")
    if idle:
        managed.suspend_or_resume(*idle, use)
    return managed
