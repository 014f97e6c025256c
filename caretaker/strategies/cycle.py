"""One look at a whole environment, and what shall be done about it: plain, JSON both ways."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from caretaker.errors import CaseError, InvalidSettingError
from caretaker.strategies.decide import decide
from caretaker.strategies.model import Json
from caretaker.strategies.policy import StrategiesPolicy
from caretaker.strategies.shown import shown


@dataclass(slots=True)
class Observed:
    """Everything that was read, once, for all clusters.

    Attributes:
        now: The server's time, as a case has it.
        environment: What the lock on this environment is named after.
        serving: The cluster that our own session needs, or None: its tables are elsewhere.
        sizes: Rows of `mz_cluster_replica_sizes`, or those of the sizes the operator named.
        clusters: By name, each as in a case, with its replicas.
        signals: By cluster id, as in a case.
        strategies: By cluster id, the rows of `mz_cluster_strategies`, as in a case.
        state: By cluster id and strategy, as in a case.
        written_at: The newest time that anything in `state` was written at.
        held: By cluster id, why a cluster is not touched in this cycle: somebody else is at it.
        settled: What became of actions whose end nobody had written down.
        warnings: For people: relations that are not there, rights that are missing.
    """

    now: str
    version: str
    environment: str
    role: str
    serving: str | None = None
    sizes: list[Json] = field(default_factory=list)
    clusters: list[Json] = field(default_factory=list)
    signals: dict[str, Json] = field(default_factory=dict)
    strategies: dict[str, list[Json]] = field(default_factory=dict)
    state: dict[str, dict[str, Json]] = field(default_factory=dict)
    written_at: str | None = None
    held: dict[str, str] = field(default_factory=dict)
    settled: list[Json] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """Return it as JSON holds it."""
        # Not asdict, which copies every value of ten thousand clusters.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave."""
        return cls(**given)


@dataclass(slots=True)
class ClusterPlan:
    """What was decided for one cluster, and from what.

    Attributes:
        case, result: As `decide` takes and returns them; `result` of a cluster that could not be
            judged has it under `skipped`.
    """

    case: Json
    result: Json

    def as_json(self) -> Json:
        """Return it as JSON holds it."""
        return {"case": self.case, "result": self.result}

    @property
    def id(self) -> str:
        """The cluster's id."""
        return str(self.case["cluster"]["id"])

    @property
    def name(self) -> str:
        """The cluster's name."""
        return str(self.case["cluster"]["name"])

    @property
    def actions(self) -> list[Json]:
        """What is to be done, in order."""
        return list(self.result["actions"])

    @property
    def waits(self) -> bool:
        """Whether an action of it may take half an hour: a managed cluster changes its size."""
        return any(one["op"] == "alter" and one["size"] is not None for one in self.actions)

    @property
    def hash(self) -> str:
        """Names the case, for the audit: the same decision from the same case."""
        text = json.dumps(self.case, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class PlannedAction(NamedTuple):
    """An action and whose it is."""

    cluster: ClusterPlan
    action: Json


@dataclass(slots=True)
class Plan:
    """What shall be done in this cycle, cluster by cluster, in the order to do it.

    Attributes:
        clusters: Those with strategies; those whose actions wait for Materialize come last.
        warnings: Those of the observation, and of what was asked.
    """

    now: str
    clusters: list[ClusterPlan] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def actions(self) -> Iterator[PlannedAction]:
        """Yield every action, in the order to run them."""
        for one in self.clusters:
            for action in one.actions:
                yield PlannedAction(one, action)

    @property
    def problems(self) -> list[Json]:
        """What a person should put right, each with its cluster."""
        return [{"cluster": c.name, **p} for c in self.clusters for p in c.result["problems"]]

    @property
    def held(self) -> list[Json]:
        """What strategies wanted and did not get, each with its cluster."""
        return [{"cluster": c.name, **h} for c in self.clusters for h in c.result["held"]]

    @property
    def credits_per_hour_delta(self) -> float | None:
        """What all actions together change; None where a price is unknown."""
        deltas = [one.action["credits_per_hour_delta"] for one in self.actions()]
        return None if None in deltas else round(sum(deltas), 9) + 0.0

    def as_json(self) -> Json:
        """Return it as JSON holds it."""
        clusters = [one.as_json() for one in self.clusters]
        return {"now": self.now, "clusters": clusters, "warnings": self.warnings}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave."""
        clusters = [ClusterPlan(**one) for one in given["clusters"]]
        return cls(given["now"], clusters, list(given["warnings"]))


def case_of(observed: Observed, cluster: Json, policy: StrategiesPolicy) -> Json:
    """Return the case of one cluster: all that its decision depends on."""
    found = observed.signals.get(cluster["id"], {"activity": None, "replicas": {}})
    return {
        "now": observed.now,
        "sizes": observed.sizes,
        "cluster": {**cluster, "serves_us": cluster["name"] == observed.serving},
        "strategies": observed.strategies.get(cluster["id"], []),
        "signals": found,
        "state": observed.state.get(cluster["id"], {}),
        "limits": policy.limits(cluster["name"]),
    }


def decide_all(observed: Observed, policy: StrategiesPolicy) -> list[ClusterPlan]:
    """Return the decision for each cluster that has strategies and that the policy concerns."""
    return [
        _decided(observed, cluster, policy)
        for cluster in observed.clusters
        if cluster["id"] in observed.strategies and policy.concerns(cluster["name"])
    ]


def _decided(observed: Observed, cluster: Json, policy: StrategiesPolicy) -> ClusterPlan:
    case = case_of(observed, cluster, policy)
    try:
        result = decide(case)
    except CaseError as error:
        # One cluster that cannot be judged says nothing of the others.
        message = f"this cluster cannot be judged: {error}"
        result = {
            "desired": {one["name"]: one["size"] for one in cluster["replicas"]},
            "actions": [],
            "state": {},
            "held": [],
            "problems": [{"strategy": None, "key": None, "value": None, "message": message}],
            "skipped": message,
        }
    if result["actions"] and (why := observed.held.get(cluster["id"])):
        taken = dict.fromkeys(one["strategy"] for one in result["actions"])
        result["held"] += [{"strategy": strategy, "reason": why} for strategy in taken]
        result |= {"actions": [], "state": {}, "desired": {}, "skipped": why}
    return ClusterPlan(case, result)


def plan_of(decided: Sequence[ClusterPlan], observed: Observed, policy: StrategiesPolicy) -> Plan:
    """Return the plan: the quick ones first, then those that wait for Materialize; by name."""
    ordered = sorted(decided, key=lambda one: (one.waits, one.name))
    return Plan(observed.now, ordered, [*observed.warnings, *_warnings(decided, observed, policy)])


def plan(observed: Observed, policy: StrategiesPolicy) -> Plan:
    """Decide for every cluster, and return what shall be done; nothing else is asked."""
    return plan_of(decide_all(observed, policy), observed, policy)


def _warnings(
    decided: Sequence[ClusterPlan], observed: Observed, policy: StrategiesPolicy
) -> Iterator[str]:
    ids = {cluster["id"] for cluster in observed.clusters}
    for stranger in sorted(set(observed.strategies) - ids):
        yield f"there are strategies for cluster {shown(stranger)}, and no such cluster"
    named = {cluster["name"] for cluster in observed.clusters}
    if policy.cluster and not any(policy.concerns(name) for name in named):
        yield f"no cluster's name matches {shown(policy.cluster)}"
    elif not decided:
        yield "no cluster has a strategy: insert rows into mz_cluster_strategies"
    for name in sorted(set(policy.overrides) - named):
        yield f"overrides name cluster {shown(name)}, and there is no such cluster"


def usable_sizes(sizes: Sequence[Json], wanted: Sequence[str]) -> list[Json]:
    """Return the rows of the sizes that the operator named; InvalidSettingError for an unknown one.

    >>> usable_sizes([{"size": "25cc"}, {"size": "50cc"}], ["50cc"])
    [{'size': '50cc'}]
    """
    if not wanted:
        return list(sizes)
    known = {row["size"]: row for row in sizes}
    for size in wanted:
        if size not in known:
            allowed = f"one of {', '.join(list(known)[:50]) or 'the sizes, and none is known'}"
            raise InvalidSettingError("replica_sizes", size, allowed)
    return [known[size] for size in wanted]
