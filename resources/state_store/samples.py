"""Samples: how large the worst translogs were, for trends and the hours left."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, select

from caretaker.translog.model import Target
from resources.state_store.database import Part
from resources.state_store.rows import SampleRow, target_columns, target_of
from resources.state_store.tables import samples


class Samples(Part):
    """One row a target and moment; a moment told twice keeps what was said first."""

    def add_samples(
        self, cluster_id: str, at: datetime, rows: Iterable[tuple[Target, int, int]]
    ) -> None:
        """Record (target, worst_bytes, threshold_bytes) as of `at`."""
        columns = [
            {
                "cluster_id": cluster_id,
                "at": at,
                "worst_bytes": worst,
                "threshold_bytes": threshold,
                **target_columns(target),
            }
            for target, worst, threshold in rows
        ]
        if not columns:
            return
        with self._database.write() as connection:
            connection.execute(self._database.insert_if_absent(samples), columns)

    def samples(self, cluster_id: str, since: datetime) -> list[SampleRow]:
        """Return what was recorded at or after `since`, oldest first."""
        query = (
            select(samples)
            .where(samples.c.cluster_id == cluster_id, samples.c.at >= since)
            .order_by(
                samples.c.at,
                samples.c.schema_name,
                samples.c.table_name,
                samples.c.partition_ident,
            )
        )
        with self._database.read() as connection:
            return [
                SampleRow(target_of(row), row["at"], row["worst_bytes"], row["threshold_bytes"])
                for row in connection.execute(query).mappings()
            ]

    def prune_samples(self, before: datetime) -> int:
        """Forget those older than `before`, of all clusters; return how many."""
        with self._database.write() as connection:
            return connection.execute(delete(samples).where(samples.c.at < before)).rowcount
