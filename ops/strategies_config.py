"""Run configs of the strategies jobs: the options of the command line, under the same names."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field

from caretaker.strategies.policy import CRASH_LOOKBACK_S, StrategiesPolicy

_MODE = "dry_run: only say what would be done; apply: do it."
_CLUSTER = "Regular expression that must be found in a cluster's name; empty for every cluster."


class ClusterStrategiesConfig(dg.Config):
    """What a cycle may do. Dagster does not check ranges; the first step does, naming the key."""

    mode: str = Field(default="dry_run", description=_MODE)
    cluster: str | None = Field(default=None, description=_CLUSTER)
    replica_sizes: list[str] = Field(
        default=[], description="Sizes that may be used; none given: all that Materialize offers."
    )
    min_ready: int = Field(default=1, description="Ready replicas that a cluster always keeps.")
    max_replicas: int = Field(
        default=5, description="Replicas of a cluster at any moment, at most."
    )
    max_credits_per_hour: float | None = Field(
        default=None, description="Credits per hour of a cluster at any moment, at most."
    )
    allow_downtime: bool = Field(
        default=False, description="A replica may go before its successor is there."
    )
    overrides: dict[str, Any] = Field(
        default={},
        description="The four limits above for single clusters, by name: {prod: {min_ready: 2}}.",
    )
    crash_lookback_s: float = Field(
        default=CRASH_LOOKBACK_S,
        description="Seconds for which a crash is held against a replica.",
    )

    def policy(self) -> StrategiesPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return StrategiesPolicy.checked(**self.model_dump())


class WipeStrategyStateConfig(dg.Config):
    """Which strategies forget what they remember."""

    cluster: str | None = Field(default=None, description=_CLUSTER)
    recreate: bool = Field(
        default=False,
        description="Drop and make again the tables of state, and of the audit where it has"
        " another shape; for all clusters.",
    )
    dry_run: bool = Field(default=False, description="Only say how much would be forgotten.")

    def policy(self) -> StrategiesPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        mode = "dry_run" if self.dry_run else "apply"
        return StrategiesPolicy.checked(mode=mode, cluster=self.cluster)
