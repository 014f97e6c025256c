"""What is known about a cluster and its replicas; None wherever a signal is unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from caretaker.strategies.sizes import Sizes

#: JSON: what the outside sees of an action, a problem, a reason to hold.
Json = dict[str, Any]

#: More replicas than any cluster has.
MAX_FACTOR = 10_000


@dataclass(slots=True)
class Replica:
    """A replica as the catalog and the signals show it.

    Attributes:
        size: None where the catalog has none: such a replica is nobody's to judge.
        created_at: None is an unknown age, not a great one.
        internal: Somebody else's, for support; it serves nobody and is never touched.
        pending: Part of a reconfiguration that is under way; never touched.
        ready: Online with everything hydrated that it must hold; None is unknown.
        oom_count, crash_count: In the look-back of the signals; None is unknown.
    """

    id: str
    name: str
    size: str | None
    created_at: datetime | None
    internal: bool = False
    pending: bool = False
    ready: bool | None = None
    oom_count: int | None = None
    crash_count: int | None = None


class Activity(NamedTuple):
    """When a cluster was last used; None for `last_at` is known: never in the look-back."""

    last_at: datetime | None
    running: int


class Limits(NamedTuple):
    """What the operator allows on a cluster, at every moment."""

    min_ready: int = 1
    max_replicas: int = 5
    max_credits_per_hour: float | None = None
    allow_downtime: bool = False


@dataclass(slots=True)
class Cluster:
    """A cluster; `size` and `replication_factor` are those of a managed one."""

    id: str
    name: str
    managed: bool = False
    size: str | None = None
    replication_factor: int | None = None
    schedule: str = "manual"
    pending: bool = False
    auto_scaling: bool = False
    serves_us: bool = False
    replicas: list[Replica] = field(default_factory=list)


class ConfigRow(NamedTuple):
    """A row of `mz_cluster_strategies`, its config not yet looked at."""

    type: str
    config: object
    updated_at: datetime | None


@dataclass(slots=True)
class Case:
    """Everything that a decision may depend on.

    Attributes:
        activity: None is unknown.
        state: What each strategy remembers, not yet looked at.
    """

    now: datetime
    sizes: Sizes
    cluster: Cluster
    rows: list[ConfigRow]
    activity: Activity | None
    state: dict[str, Json]
    limits: Limits


class Planned(NamedTuple):
    """A replica to create; `replaces` where one of its name goes first, by the operator's leave."""

    name: str
    size: str
    strategy: str
    reason: str
    replaces: bool = False


class Dropped(NamedTuple):
    """A replica to drop; `failed` where it never got ready, or could not hold what it must."""

    replica: Replica
    strategy: str
    reason: str
    failed: bool = False


def problem(strategy: str | None, key: str | None, value: object, message: str) -> Json:
    """Return an entry of `problems`."""
    return {"strategy": strategy, "key": key, "value": value, "message": message}
