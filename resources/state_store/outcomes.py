"""Outcomes: how resets ended, and what that means for the next ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Subquery, and_, case, delete, func, insert, select

from caretaker.translog.model import Target
from caretaker.translog.outcome import ResetOutcome, ResetResult
from resources.state_store.database import Part
from resources.state_store.rows import Attempts, OutcomeRow, target_columns, target_of
from resources.state_store.tables import clearances, outcomes

#: Ended before anything was changed: neither an attempt nor a cure.
NOT_ATTEMPTED = (ResetOutcome.SKIPPED, ResetOutcome.REFUSED)

_WAS_ATTEMPTED = outcomes.c.outcome.not_in(NOT_ATTEMPTED)

#: Degraded means that the translog was still too large, or a replica missing, at the end.
_WAS_CURED = and_(outcomes.c.outcome == ResetOutcome.COMPLETED, outcomes.c.degraded.is_(False))

_KEY = ("cluster_id", "schema_name", "table_name", "partition_ident")

_PLAIN = (
    "cluster_id",
    "ticket_id",
    "run_id",
    "cause",
    "state",
    "outcome",
    "reason",
    "degraded",
    "original_replicas",
    "final_replicas",
    "worst_bytes",
    "threshold_bytes",
    "lease_wait_s",
    "duration_s",
    "seconds_at_zero",
    "started_at",
    "ended_at",
    "statements",
)


class Outcomes(Part):
    """The history, and the two questions that detection asks of it."""

    def record_outcome(self, cluster_id: str, run_id: str, result: ResetResult) -> OutcomeRow:
        """Record one that had no ticket, such as a skipped table; return it with its id.

        With a ticket, `close_ticket` does both at once.
        """
        row = OutcomeRow.of_result(result, cluster_id=cluster_id, run_id=run_id, now=self._now())
        with self._database.write(repeatable=False) as connection:
            return insert_outcome(connection, row)

    def outcomes(
        self, cluster_id: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> list[OutcomeRow]:
        """Return outcomes that ended at or after `since`, newest first."""
        query = (
            select(outcomes).order_by(outcomes.c.ended_at.desc(), outcomes.c.id.desc()).limit(limit)
        )
        if cluster_id is not None:
            query = query.where(outcomes.c.cluster_id == cluster_id)
        if since is not None:
            query = query.where(outcomes.c.ended_at >= since)
        with self._database.read() as connection:
            return [
                OutcomeRow(
                    id=row["id"], target=target_of(row), **{name: row[name] for name in _PLAIN}
                )
                for row in connection.execute(query).mappings()
            ]

    def last_attempts(self, cluster_id: str) -> dict[tuple[str, str, str], Attempts]:
        """Return, by target key, when each was last reset and how often without cure since.

        Counted from the last cure, or from where an operator cleared it; skipped and refused
        ones do not count, a degraded COMPLETED is no cure.
        """
        cured = _last_cures(cluster_id)
        counts = and_(
            outcomes.c.id > func.coalesce(cured.c.id, 0),
            outcomes.c.id > func.coalesce(clearances.c.cleared_outcome_id, 0),
        )
        joined = outcomes.outerjoin(
            cured, and_(*(outcomes.c[name] == cured.c[name] for name in _KEY[1:]))
        ).outerjoin(clearances, and_(*(outcomes.c[name] == clearances.c[name] for name in _KEY)))
        names = [outcomes.c[name] for name in _KEY[1:]]
        query = (
            select(
                *names,
                func.max(outcomes.c.ended_at).label("last_ended_at"),
                func.sum(case((counts, 1), else_=0)).label("uncured"),
            )
            .select_from(joined)
            .where(outcomes.c.cluster_id == cluster_id, _WAS_ATTEMPTED)
            .group_by(*names)
        )
        with self._database.read() as connection:
            return {
                (row["schema_name"], row["table_name"], row["partition_ident"]): Attempts(
                    row["last_ended_at"], int(row["uncured"])
                )
                for row in connection.execute(query).mappings()
            }

    def clear_set_aside(self, cluster_id: str, target: Target) -> None:
        """Forgive a target its failures so far; the cool-off since its last reset stays."""
        names = {"cluster_id": cluster_id, **target_columns(target)}
        newest = select(func.coalesce(func.max(outcomes.c.id), 0)).where(
            *(outcomes.c[name] == names[name] for name in _KEY)
        )
        with self._database.write() as connection:
            connection.execute(
                delete(clearances).where(*(clearances.c[name] == names[name] for name in _KEY))
            )
            # Up to an id and not a time: a reset that ends in this very moment still counts.
            connection.execute(
                insert(clearances).values(
                    **names,
                    cleared_outcome_id=newest.scalar_subquery(),
                    cleared_at=self._now(),
                )
            )


def insert_outcome(connection: Connection, outcome: OutcomeRow) -> OutcomeRow:
    """Write an outcome as part of a transaction and return it with its id."""
    columns = {name: getattr(outcome, name) for name in _PLAIN} | target_columns(outcome.target)
    made = connection.execute(insert(outcomes).values(columns).returning(outcomes.c.id))
    return replace(outcome, id=made.scalar_one())


def _last_cures(cluster_id: str) -> Subquery:
    names = [outcomes.c[name] for name in _KEY[1:]]
    return (
        select(*names, func.max(outcomes.c.id).label("id"))
        .where(outcomes.c.cluster_id == cluster_id, _WAS_CURED)
        .group_by(*names)
        .subquery()
    )
