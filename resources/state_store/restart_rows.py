"""Restarts as the store gives them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from caretaker.decommission.model import ClusterRef
from caretaker.decommission.outcome import DecommissionResult
from caretaker.decommission.ticket import RestartTicket, ticket_from
from caretaker.translog.model import Owner
from resources.state_store.rows import owner_of


@dataclass(frozen=True, slots=True)
class RestartRow:
    """A restart's ticket, whose it is, and what only the store knows about it.

    Attributes:
        document: The ticket as it is stored; `ticket` reads it.
        way: How whoever takes over reaches the cluster: context, sql, the text of the windows.
        next_try_at: When what could not be put back is tried again; nobody is at work till then.
        outcome: None while it is open.
    """

    id: int
    cluster_id: str
    namespace: str
    cluster_name: str
    purpose: str
    document: str
    way: Mapping[str, Any]
    owner: Owner
    epoch: int
    heartbeat_at: datetime
    attempts: int
    last_error: str
    next_try_at: datetime | None
    outcome: str | None
    reason: str
    created_at: datetime
    closed_at: datetime | None

    @property
    def ticket(self) -> RestartTicket:
        """The promise; CaseError where it is none that this version understands."""
        return ticket_from(self.document)

    @property
    def cluster(self) -> ClusterRef:
        """Which cluster."""
        return ClusterRef(self.namespace, self.cluster_name, self.cluster_id)

    @property
    def target(self) -> str:
        """As people read it, in messages about who lives and who does not."""
        return f"restart of {self.namespace}/{self.cluster_name}"


class EffectRow(NamedTuple):
    """Something that was sent; without an end nobody saw its answer."""

    effect: str
    began_at: datetime
    ended_at: datetime | None
    result: str | None
    reason: str | None


class LookRow(NamedTuple):
    """What a restart saw of its cluster from this moment on."""

    at: datetime
    health: str | None
    allocation: str | None
    nodes: int | None
    relocating: int | None
    pod: str
    state: str


@dataclass(frozen=True, slots=True)
class DecommissionRow:
    """How the decommission of one pod ended.

    Attributes:
        refused: A safety check refused it, and nothing was touched.
    """

    run_id: str
    cluster: ClusterRef
    pod_name: str
    strategy: str
    success: bool
    refused: bool
    error: str
    duration_s: float
    restarted_in_place: bool
    started_at: datetime | None
    ended_at: datetime
    restart_id: int | None = field(default=None)

    @classmethod
    def of_result(
        cls, result: DecommissionResult, cluster: ClusterRef, run_id: str, now: datetime
    ) -> DecommissionRow:
        """From what a run reports; one that was never begun counts as refused."""
        return cls(
            run_id=run_id,
            cluster=cluster,
            pod_name=result.pod_name,
            strategy=result.strategy_used,
            success=result.success,
            refused=result.started_at is None and not result.success,
            error=result.error or "",
            duration_s=result.duration,
            restarted_in_place=result.restarted_in_place,
            started_at=result.started_at,
            ended_at=result.completed_at or now,
        )


_PLAIN = (
    "id",
    "cluster_id",
    "namespace",
    "cluster_name",
    "purpose",
    "document",
    "epoch",
    "heartbeat_at",
    "attempts",
    "last_error",
    "next_try_at",
    "outcome",
    "reason",
    "created_at",
    "closed_at",
)


def restart_of(row: RowMapping) -> RestartRow:
    """Return the restart that was stored."""
    plain = {name: row[name] for name in _PLAIN}
    return RestartRow(owner=owner_of(row), way=json.loads(row["way"]), **plain)


def decommission_of(row: RowMapping) -> DecommissionRow:
    """Return the end that was stored."""
    return DecommissionRow(
        cluster=ClusterRef(row["namespace"], row["cluster_name"], row["cluster_id"]),
        duration_s=float(row["duration_s"]),
        **{
            name: row[name]
            for name in (
                "run_id",
                "pod_name",
                "strategy",
                "success",
                "refused",
                "error",
                "restarted_in_place",
                "started_at",
                "ended_at",
                "restart_id",
            )
        },
    )


def decommission_columns(row: DecommissionRow, restart_id: int | None) -> dict[str, Any]:
    """Return its columns."""
    return {
        "restart_id": restart_id,
        "run_id": row.run_id,
        "cluster_id": row.cluster.id,
        "namespace": row.cluster.namespace,
        "cluster_name": row.cluster.name,
        "pod_name": row.pod_name,
        "strategy": row.strategy,
        "success": row.success,
        "refused": row.refused,
        "error": row.error,
        "duration_s": row.duration_s,
        "restarted_in_place": row.restarted_in_place,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def text_of(document: object) -> str:
    """Return JSON in plain ASCII: every encoding, and every character, survives it."""
    return json.dumps(document, separators=(",", ":"))
