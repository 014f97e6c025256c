"""One look at a cluster's tables, and what a reset would make of it now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from caretaker.translog.detect import (
    Finding,
    History,
    Selection,
    find_oversized,
    select,
    threshold_bytes,
)
from caretaker.translog.model import ResetTicket, TableObservation, Target, target_key
from caretaker.translog.plan import worst_replica_bytes
from caretaker.translog.policy import ResetPolicy
from resources.state_store.store import StateStore


@dataclass(frozen=True, slots=True)
class Size:
    """The worst started replica of a table or partition, against what it may hold, in bytes."""

    target: Target
    worst_bytes: int
    threshold_bytes: int

    @property
    def percentage(self) -> float:
        """The one in % of the other."""
        return self.worst_bytes * 100 / self.threshold_bytes


@dataclass(frozen=True)
class Look:
    """What was seen, and judged.

    Attributes:
        sizes: Of every table and partition, worst percentage first.
        findings: Those above their threshold, worst first.
        selection: Which of these a reset would take, and why not the others.
        open_tickets: Of this cluster.
        replica_bytes: Uncommitted bytes of all started replicas together.
    """

    cluster_id: str
    cluster_name: str
    at: datetime
    sizes: Sequence[Size]
    findings: Sequence[Finding]
    selection: Selection
    open_tickets: Sequence[ResetTicket]
    replica_bytes: int

    @property
    def worst(self) -> Size | None:
        """The table nearest to its threshold, or furthest above it; None where there is none."""
        return self.sizes[0] if self.sizes else None


def judge(
    cluster_id: str,
    cluster_name: str,
    tables: Sequence[TableObservation],
    store: StateStore,
    policy: ResetPolicy,
    at: datetime,
) -> Look:
    """Return what a reset with this policy would find and choose, as `translog_reset` would."""
    findings = find_oversized(tables)
    open_tickets = store.open_tickets(cluster_id)
    attempts = store.last_attempts(cluster_id)
    return Look(
        cluster_id=cluster_id,
        cluster_name=cluster_name,
        at=at,
        sizes=sorted(map(_size, tables), key=lambda size: -size.percentage),
        findings=findings,
        selection=select(
            findings,
            policy,
            now=at,
            history={key: History(*past) for key, past in attempts.items()},
            held={target_key(ticket.target) for ticket in open_tickets},
        ),
        open_tickets=open_tickets,
        replica_bytes=sum(
            copy.uncommitted_bytes or 0
            for table in tables
            for copy in table.copies
            if copy.started and not copy.primary
        ),
    )


def _size(table: TableObservation) -> Size:
    return Size(table.target, worst_replica_bytes(table), threshold_bytes(table))
