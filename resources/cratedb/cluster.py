"""Rows about the cluster as a whole, turned into the observation that preflight judges."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from caretaker.translog.model import MovingShard, Node, UnhealthyTable
from resources.cratedb.tables import Key, Row

#: OPTIMIZE syncs leases since 5.10 (OptimizeTablePlan.java), and older ones are out of support.
OLDEST_VERSION = (5, 10)


def is_too_old(version: str) -> bool:
    """Whether a server's version is one that we were never made for; unknown ones are.

    >>> is_too_old("5.9.12"), is_too_old("5.10.0"), is_too_old("6.4.3-SNAPSHOT")
    (True, False, False)
    """
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return found is None or (int(found[1]), int(found[2])) < OLDEST_VERSION


def nodes(rows: Iterable[Row]) -> tuple[Node, ...]:
    """From NODES; without roles every node counts as one that may hold data."""
    return tuple(
        Node(
            id=row[0],
            name=row[1],
            version=row[2] or "",
            is_data=row[5] is None or "data" in row[5],
            disk_total_bytes=_known(row[3]),
            disk_used_bytes=_known(row[4]),
        )
        for row in rows
    )


def unhealthy(rows: Iterable[Row]) -> tuple[UnhealthyTable, ...]:
    """From UNHEALTHY."""
    return tuple(UnhealthyTable((row[0], row[1], row[2]), *row[3:6]) for row in rows)


def moving(
    rows: Iterable[Row], sick: Iterable[UnhealthyTable], own: frozenset[Key]
) -> tuple[MovingShard, ...]:
    """From MOVING, with the partition of unassigned copies found out where only `own` can be it.

    Such a copy shows no ident. `sys.health` does: where all unhealthy partitions of its table are
    our own, it is one of theirs, and not a reason to stop.
    """
    partitions: dict[tuple[str, str], list[Key]] = defaultdict(list)
    for table in sick:
        partitions[table.target_key[:2]].append(table.target_key)

    def key_of(row: Row) -> Key:
        key = (row[0], row[1], row[2])
        candidates = partitions.get(key[:2], ())
        if not key[2] and candidates and own.issuperset(candidates):
            return candidates[0]
        return key

    return tuple(MovingShard(key_of(row), row[3]) for row in rows)


def health_of_visible(
    master_node: str | None, sick: Sequence[UnhealthyTable], *, sees_everything: bool
) -> str | None:
    """The cluster's health where there is no `sys.cluster_health` (before 6.0).

    Crate's operator does the same: the worst of `sys.health`, and RED without a master. That is
    the truth only for a user who sees every table; for anyone else it is unknown.
    """
    if master_node is None:
        return "RED"
    if not sees_everything:
        return None
    return max((table.health for table in sick), key=_SEVERITY.__getitem__, default="GREEN")


_SEVERITY = defaultdict(lambda: 3, {"GREEN": 1, "YELLOW": 2, "RED": 3})


def _known(size: int | None) -> int | None:
    """CrateDB says -1 where the file system could not be asked."""
    return None if size is None or size < 0 else size
