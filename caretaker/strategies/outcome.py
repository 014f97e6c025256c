"""How a cycle ended: of each action whether it was executed, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from caretaker.strategies.cycle import Observed, Plan
from caretaker.strategies.model import Json
from caretaker.strategies.policy import Mode

#: Of an action: what is known of it in the end.
EXECUTED, NOT_EXECUTED, UNKNOWN = "executed", "not_executed", "unknown"


@dataclass(slots=True)
class ActionOutcome:
    """What became of one action.

    Attributes:
        executed: None where nobody knows yet; the next cycle looks.
        error: Why it was not, or what is odd about it; '' where all is well.
    """

    action_id: str
    action: Json
    executed: bool | None
    error: str = ""

    @property
    def word(self) -> str:
        """One word for it."""
        if self.executed is None:
            return UNKNOWN
        return EXECUTED if self.executed else NOT_EXECUTED


@dataclass(slots=True)
class ClusterOutcome:
    """What became of the actions of one cluster.

    Attributes:
        failed: Why an action failed, '' where none did.
        stood_back: Why the rest was left to the next cycle: somebody else was there.
        remembered: Strategies whose state was written.
    """

    id: str
    name: str
    actions: list[ActionOutcome] = field(default_factory=list)
    failed: str = ""
    stood_back: str = ""
    remembered: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything that was planned was executed."""
        return all(one.executed for one in self.actions) and not self.failed and not self.stood_back


@dataclass(slots=True)
class Outcome:
    """How a cycle ended, cluster by cluster; those without actions are not in it.

    Attributes:
        remembered: Rows of state that were written where nothing had to be done.
    """

    clusters: list[ClusterOutcome] = field(default_factory=list)
    remembered: int = 0

    def actions(self) -> Iterator[tuple[ClusterOutcome, ActionOutcome]]:
        """Yield every action with its cluster, in the order of the plan."""
        for cluster in self.clusters:
            for action in cluster.actions:
                yield cluster, action

    @property
    def failures(self) -> list[str]:
        """Why clusters failed, each with its name."""
        return [f"{one.name}: {one.failed}" for one in self.clusters if one.failed]

    @property
    def stood_back(self) -> list[str]:
        """Where we stood back, and why."""
        return [f"{one.name}: {one.stood_back}" for one in self.clusters if one.stood_back]

    def count(self, word: str) -> int:
        """Return how many actions are `executed`, `not_executed` or `unknown`."""
        return sum(action.word == word for _, action in self.actions())

    def as_json(self) -> Json:
        """Return it as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave."""
        clusters = [
            ClusterOutcome(**{**one, "actions": [ActionOutcome(**a) for a in one["actions"]]})
            for one in given["clusters"]
        ]
        return cls(clusters, given["remembered"])


def report(mode: Mode, observed: Observed, planned: Plan, outcome: Outcome) -> Json:
    """Return what a cycle is told to people and scripts as, in one object.

    Of each action `state` is `planned` in a dry run, else `executed`, `not_executed` or `unknown`.
    """
    ended = {
        (cluster.id, number): action
        for cluster in outcome.clusters
        for number, action in enumerate(cluster.actions)
    }
    actions = []
    for cluster in planned.clusters:
        for number, action in enumerate(cluster.actions):
            end = ended.get((cluster.id, number))
            actions.append(
                {
                    "cluster": cluster.name,
                    "cluster_id": cluster.id,
                    **action,
                    "state": end.word if end else "planned",
                    "error": (end.error or None) if end else None,
                }
            )
    return {
        "mode": mode.value,
        "now": planned.now,
        "version": observed.version,
        "environment": observed.environment,
        "clusters": len(planned.clusters),
        "actions": actions,
        "credits_per_hour_delta": planned.credits_per_hour_delta,
        "held": planned.held,
        "problems": planned.problems,
        "skipped": [
            {"cluster": one.name, "reason": one.result["skipped"]}
            for one in planned.clusters
            if one.result["skipped"]
        ],
        "settled": observed.settled,
        "warnings": planned.warnings,
        "failures": outcome.failures,
        "stood_back": outcome.stood_back,
        "remembered": outcome.remembered,
    }
