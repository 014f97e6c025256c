"""Run configs of the restart jobs: the options of the command line, under the same names."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from caretaker.decommission.model import Goal
from caretaker.decommission.policy import RestartPolicy
from caretaker.errors import InvalidSettingError

#: How CrateDB is spoken to: by exec in its pods, by its address, or by the address where it leads
#: to the same cluster.
SQL_WAYS = ("auto", "exec", "address")

_NAMESPACE = "Namespace; empty for that of the context."
_CONTEXT = "Context of the kubeconfig; empty for CARETAKER_KUBE_CONTEXT or the current one."
_SQL = (
    "exec: in the pods; address: CRATE_CONNECTION_STRING; auto: the address where it leads to the "
    "same cluster, else exec."
)


class _Limits(dg.Config):
    """What every restart may be told. Dagster does not check ranges; the first step does."""

    timeout_s: float | None = Field(
        default=None, description="Seconds a drain may take; empty: what the hook says, or 720."
    )
    dc_util_pattern: str | None = Field(
        default=None, description="Regular expression for what else counts as dc_util."
    )
    container: str = Field(default="crate", description="Name of the CrateDB container.")
    allocation_mode: str | None = Field(
        default=None,
        description="all, primaries or new_primaries during a drain; empty: primaries.",
    )
    min_availability: str = Field(
        default="PRIMARIES", description="What a drain of ours keeps: PRIMARIES or FULL."
    )
    delete_when: str = Field(
        default="drained", description="drained: in the 5 s before the process ends; or exited."
    )
    recreate_pod: bool = Field(
        default=False, description="Insist on a new pod where the process ended before."
    )
    force_delete: bool = Field(
        default=False, description="Force-delete a pod stuck in Terminating, its node being out."
    )
    expected_nodes: int | None = Field(
        default=None, description="Refuse unless so many nodes are present."
    )
    require_window: bool = Field(
        default=False, description="Refuse where no maintenance window is configured."
    )
    settle_s: float = Field(default=30.0, description="Quiet seconds between two pods.")
    stable_s: float = Field(
        default=10.0, description="Seconds all must look well where no absence was seen."
    )
    hang_after_s: float = Field(
        default=20.0, description="Seconds after which an empty node that stays is a hang."
    )
    statement_timeout_s: float = Field(default=60.0, description="Deadline of a statement.")
    decommission_timeout_s: float = Field(
        default=1200.0, description="Deadline of ALTER CLUSTER DECOMMISSION, which blocks."
    )
    ready_margin_s: float = Field(
        default=300.0, description="Seconds beyond the drain's timeout for the pod's return."
    )
    terminating_margin_s: float = Field(
        default=60.0, description="Seconds past its grace after which a pod is stuck."
    )
    prepare_timeout_s: float = Field(
        default=180.0, description="Seconds to wait for CrateDB to take the set-up."
    )
    restore_timeout_s: float = Field(
        default=300.0, description="Seconds to try to put settings back before calling a human."
    )
    rest_timeout_s: float = Field(
        default=1800.0, description="Seconds to wait for the cluster to come to rest."
    )
    namespace: str = Field(default="", description=_NAMESPACE)
    context: str = Field(default="", description=_CONTEXT)
    sql: str = Field(default="auto", description=_SQL)
    windows: str | None = Field(
        default=None, description="TOML file with maintenance windows by cluster."
    )
    dry_run: bool = Field(default=False, description="Only say what would be done, in order.")

    def _policy(self, goal: Goal) -> RestartPolicy:
        if self.sql not in SQL_WAYS:
            raise InvalidSettingError("sql", self.sql, ", ".join(SQL_WAYS))
        given = {key: value for key, value in self.model_dump().items() if key in _OF_A_POLICY}
        return RestartPolicy.checked(**given, goal=goal)


class PodDecommissionConfig(_Limits):
    """Take one node out; its pod is made anew by its StatefulSet."""

    pod: str = Field(description="Name of the pod.")

    def policy(self) -> RestartPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return self._policy(Goal.DECOMMISSION)


class PodStepConfig(_Limits):
    """What the first step of either job about one pod is given."""

    pod: str = Field(description="Name of the pod.")
    goal: str = Field(default=Goal.RESTART.value, description="restart or decommission.")

    def policy(self) -> RestartPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return self._policy(Goal(self.goal))


class PodRestartConfig(_Limits):
    """Restart one pod, and see it and its cluster well again."""

    pod: str = Field(description="Name of the pod.")

    def policy(self) -> RestartPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return self._policy(Goal.RESTART)


class RollingRestartConfig(_Limits):
    """Restart clusters, pod by pod; or finish what another run began."""

    clusters: list[str] = Field(
        default=[], description="Names of clusters or StatefulSets, or only `all`."
    )
    pods: list[str] | None = Field(default=None, description="Only these pods; empty for all.")
    only_cordoned: bool = Field(
        default=False, description="Only pods on machines that are cordoned or suspended."
    )
    ticket_id: int | None = Field(
        default=None, description="Take over this restart of a dead run, and begin nothing else."
    )

    def policy(self) -> RestartPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return self._policy(Goal.RESTART)


_OF_A_POLICY = frozenset(RestartPolicy.__dataclass_fields__) - {"goal"}
