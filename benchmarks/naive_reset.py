"""The loop that a script would have: a query for each table, the leases compared as at first.

After the seeds of this project: one look at `sys.shards`, then for each table its threshold, its
replicas, SET 0, leases until the largest count equals the number of primaries, SET back. No ticket,
no preflight, no read-back, no way to resume. Here to be measured against, never to be run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LADDER_S = (10, 15, 30, 45, 60, 90, 135, 200, 300, 450, 720)
DEFAULT_FLUSH_THRESHOLD = 512 * 1024 * 1024

_SICK = """
SELECT schema_name, table_name, partition_ident, max(translog_stats['uncommitted_size'])
FROM sys.shards WHERE "primary" = false AND routing_state = 'STARTED'
GROUP BY schema_name, table_name, partition_ident
"""
_THRESHOLD = """
SELECT settings['translog']['flush_threshold_size'], number_of_replicas, number_of_shards
FROM information_schema.tables WHERE table_schema = ? AND table_name = ?
"""
_LEASES = """
SELECT array_length(retention_leases['leases'], 1) FROM sys.shards
WHERE schema_name = ? AND table_name = ? AND partition_ident = ?
"""


@dataclass(frozen=True)
class Sick:
    """A table that the loop would reset."""

    schema: str
    name: str
    ident: str
    replicas: str
    primaries: int

    @property
    def quoted(self) -> str:
        """The name as a statement has it."""
        return f'"{self.schema}"."{self.name}"'


def find(cursor: Any) -> list[Sick]:
    """Return the sick tables, asking once for each table there is."""
    found = []
    for schema, name, ident, worst in _rows(cursor, _SICK):
        threshold, replicas, primaries = _rows(cursor, _THRESHOLD, (schema, name))[0]
        if worst > 2 * 1.1 * (threshold or DEFAULT_FLUSH_THRESHOLD):
            found.append(Sick(schema, name, ident, replicas, primaries))
    return found


def reset(cursor: Any, sick: Sick) -> None:
    """Take the replicas away, wait for the leases as the first version did, give them back."""
    cursor.execute(f'ALTER TABLE {sick.quoted} SET ("number_of_replicas" = 0)')
    for pause in LADDER_S:
        leases = _rows(cursor, _LEASES, (sick.schema, sick.name, sick.ident))
        if max(count or 0 for (count,) in leases) == sick.primaries:
            break
        time.sleep(pause)
    cursor.execute(f'ALTER TABLE {sick.quoted} SET ("number_of_replicas" = ?)', (sick.replicas,))


def _rows(cursor: Any, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    cursor.execute(statement, values)
    rows: list[Any] = cursor.fetchall()
    return rows
