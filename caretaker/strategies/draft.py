"""What the strategies want so far: each finds what the earlier ones want, and changes it."""

from __future__ import annotations

from collections.abc import Iterable

from caretaker.strategies.model import Case, Dropped, Json, Planned, Replica, problem
from caretaker.strategies.statements import free_name, why_unwritable


class Draft:
    """A cluster's replicas as wanted, on their way from strategy to strategy.

    Attributes:
        kept: Replicas there are and that nobody wants to drop; internal ones are in no list.
        planned: Replicas to create, by name, in the order they are wanted.
        dropped: Replicas to drop, by name.
        superseded: Names kept only until a successor is ready.
        bursting: The replica that the burst strategy added, which is its own to drop.
        resting: What each strategy's cooldown says while it lasts.
        suspended: Idle, and everything dropped or to be dropped.
    """

    __slots__ = (
        "bursting",
        "case",
        "dropped",
        "held",
        "kept",
        "planned",
        "problems",
        "resting",
        "superseded",
        "suspended",
    )

    def __init__(self, case: Case) -> None:
        self.case = case
        self.kept = {one.name: one for one in case.cluster.replicas if not one.internal}
        self.planned: dict[str, Planned] = {}
        self.dropped: dict[str, Dropped] = {}
        self.superseded: set[str] = set()
        self.bursting: str | None = None
        self.resting: dict[str, str] = {}
        self.suspended = False
        self.held: list[Json] = []
        self.problems: list[Json] = []
        for one in case.cluster.replicas:
            if one.internal or one.pending:
                kind = "internal" if one.internal else "pending"
                self.hold(None, f"{one.name} is {kind}: left alone")

    @property
    def empty(self) -> bool:
        """Whether nothing is there that could serve: whatever is created then, resumes."""
        return not self.kept and not self.dropped

    def standing(self) -> list[Replica]:
        """Return the replicas kept, without the one that burst answers for."""
        return [one for one in self.kept.values() if one.name != self.bursting]

    def create(self, strategy: str, base: str, size: str, reason: str) -> None:
        """Plan a replica called `base`, or `base_2` where that is taken."""
        if not self.empty and self._rests(strategy):
            return
        taken = {one.name for one in self.case.cluster.replicas}
        taken.update(self.planned)
        name = free_name(base, taken)
        if name is None:
            self.hold(strategy, f"no name is left for a replica of {size}: {base} {_TOO_LONG}")
            return
        self.planned[name] = Planned(name, size, strategy, reason)

    def drop(self, strategy: str, replica: Replica, reason: str, *, failed: bool = False) -> None:
        """Want a replica gone, unless it may not be touched."""
        if replica.pending:
            return
        if unwritable := why_unwritable(replica.name):
            self.hold(strategy, f"{replica.name!r} cannot be named in a statement: {unwritable}")
        elif not self._rests(strategy):
            del self.kept[replica.name]
            self.dropped[replica.name] = Dropped(replica, strategy, reason, failed)

    def replace(self, strategy: str, replica: Replica, size: str, reason: str) -> None:
        """Want a replica dropped and created anew, its name kept: downtime, by leave."""
        self.drop(strategy, replica, f"{reason}; downtime is allowed")
        if replica.name in self.dropped:
            name = replica.name
            self.planned[name] = Planned(name, size, strategy, reason, replaces=True)

    def veto(self, name: str, reason: str) -> None:
        """Take back what is only planned; nothing is removed by it, so no cooldown delays it."""
        planned = self.planned.pop(name)
        self.hold(planned.strategy, f"{name} ({planned.size}) is not created: {reason}")
        if planned.replaces:
            self.keep(name)

    def keep(self, name: str) -> None:
        """Take back the drop of a replica."""
        self.kept[name] = self.dropped.pop(name).replica

    def hold(self, strategy: str | None, reason: str) -> None:
        """Say what a strategy wanted to and did not, once."""
        entry = {"strategy": strategy, "reason": reason}
        if entry not in self.held:
            self.held.append(entry)

    def report(self, strategy: str, key: str, value: object, message: str) -> None:
        """Say that something is wrong which a person should see."""
        self.problems.append(problem(strategy, key, value, message))

    def _rests(self, strategy: str) -> bool:
        resting = self.resting.get(strategy)
        if resting:
            self.hold(strategy, resting)
        return resting is not None


_TOO_LONG = "cannot be written as a name"


def names(replicas: Iterable[Replica]) -> str:
    """Return replicas as a sentence has them.

    >>> names([])
    'none'
    """
    return ", ".join(sorted(one.name for one in replicas)) or "none"
