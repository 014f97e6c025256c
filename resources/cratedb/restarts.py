"""One look at a cluster whose nodes are to be restarted, all of it through one node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from caretaker.decommission.cluster_settings import KEYS
from caretaker.decommission.model import CrateSeen, NodeSeen, SoleCopy
from caretaker.errors import RefusedError, TransientError
from resources.cratedb import cluster as cluster_rows
from resources.cratedb.client import CrateDBClient
from resources.cratedb.placement import Place, Rules, barred
from resources.cratedb.tables import Key
from resources.sql import cratedb as sql
from resources.sql.cratedb import Statement

Row = tuple[Any, ...]

_NO_RELATION = 4041
_NO_COLUMN = 4043


@dataclass(frozen=True, slots=True)
class Slow:
    """What moves slowly, and is asked for before a decision only.

    Attributes:
        snapshots: In `sys.snapshots`, running.
        visible_primaries, expected_primaries: In `sys.shards`, and in the catalog.
        barred: Ids of nodes that a table's own settings keep its shards away from, by schema,
            table and partition ident; only those that do.
        barred_to_all: Those that the cluster's settings keep every shard away from.
    """

    superuser: bool | None
    snapshots: int
    visible_primaries: int
    expected_primaries: int
    barred: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    barred_to_all: tuple[str, ...] = ()


def slow_look(crate: CrateDBClient) -> Slow:
    """Ask for what moves slowly."""
    user = one(crate, sql.RESTART_CLUSTER)[-1]
    _, primaries = one(crate, sql.SHARD_COUNTS)
    relations = crate.read(Statement(sql.VISIBLE_RELATIONS))
    return Slow(
        superuser=_superuser(crate, user),
        snapshots=one(crate, sql.RUNNING_SNAPSHOTS)[0],
        visible_primaries=primaries,
        expected_primaries=sum(row[1] or 0 for row in relations),
        barred=_barred(crate),
        barred_to_all=_barred_to_all(crate),
    )


def look(crate: CrateDBClient, own_node: str = "", slow: Slow | None = None) -> CrateSeen:
    """Return the cluster as it is now.

    Args:
        crate: Asked through one node where that matters.
        own_node: The node whose DECOMMISSION is ours; '' where none is.
        slow: What was learnt a moment ago; asked for again where it is None.

    Raises:
        TransientError: It did not answer.
        RefusedError: It said no.

    """
    cluster_id, _, master, *values, watermark, user = one(crate, sql.RESTART_CLUSTER)
    slow = slow or slow_look(crate)
    copies = {row[0]: row for row in crate.read(Statement(sql.COPIES_BY_NODE))}
    own = sql.decommission(own_node).sql if own_node else ""
    jobs = {row[0]: row for row in crate.read(Statement(sql.JOBS_BY_NODE, (own,)))}
    health, missing, underreplicated = _health(crate, master, slow)
    sole = crate.read(Statement(sql.SOLE_COPIES))
    return CrateSeen(
        cluster_id=cluster_id,
        nodes=tuple(_nodes(_node_rows(crate), copies, jobs)),
        master_node=master,
        health=health,
        missing_shards=missing,
        underreplicated_shards=underreplicated,
        relocating=sum(row[3] for row in copies.values()),
        initializing=sum(row[4] for row in copies.values()),
        settings=dict(zip(KEYS, values, strict=True)),
        sole=tuple(_sole(row, slow) for row in sole),
        running_snapshots=max(slow.snapshots, sum(row[3] for row in jobs.values())),
        decommissions=sum(row[1] - row[2] for row in jobs.values()),
        low_watermark=watermark,
        user=user,
        visible_primaries=slow.visible_primaries,
        expected_primaries=slow.expected_primaries,
    )


def takes_requests(crate: CrateDBClient) -> bool | None:
    """Whether the one node behind this client serves; None where nobody can tell.

    A draining one closes every new request with a bare 500, "disconnected".
    """
    try:
        crate.read(Statement(sql.ARE_YOU_THERE))
    except TransientError as error:
        return False if "is shutting down" in str(error) else None
    except RefusedError:
        return None
    return True


def one(crate: CrateDBClient, text: str) -> Row:
    """Return the row of a question that has exactly one."""
    rows = crate.read(Statement(text))
    if not rows:
        raise TransientError(f"CrateDB answered without a row: {' '.join(text.split()):.80}")
    return rows[0]


def _node_rows(crate: CrateDBClient) -> list[Row]:
    try:
        return crate.read(Statement(sql.RESTART_NODES))
    except RefusedError as error:
        if error.code != _NO_COLUMN:
            raise
        return crate.read(Statement(sql.RESTART_NODES_WITHOUT_ROLES))


def _nodes(
    rows: Iterable[Row], copies: dict[str | None, Row], jobs: dict[str | None, Row]
) -> Iterable[NodeSeen]:
    held: dict[str | None, Row] = defaultdict(lambda: (None, 0, 0, 0, 0), copies)
    busy: dict[str | None, Row] = defaultdict(lambda: (None, 0, 0, 0, 0), jobs)
    for node_id, name, hostname, total, used, roles in rows:
        yield NodeSeen(
            id=node_id,
            name=name,
            hostname=hostname or "",
            is_data=roles is None or "data" in roles,
            primaries=held[node_id][2],
            copies=held[node_id][1],
            jobs=busy[node_id][4],
            disk_total_bytes=total,
            disk_used_bytes=used,
        )


def _sole(row: Row, slow: Slow) -> SoleCopy:
    schema, table, ident, shard, node = row
    told = f"{schema}.{table}" + (f" ({ident})" if ident else "")
    away = (*slow.barred.get((schema, table, ident), ()), *slow.barred_to_all)
    return SoleCopy(told, shard, node or "", away)


def _barred(crate: CrateDBClient) -> dict[Key, tuple[str, ...]]:
    """Ask where tables may not go; for most clusters that is one or two cheap questions."""
    rows = [*crate.read(Statement(sql.TABLE_PLACEMENT))]
    rows += crate.read(Statement(sql.PARTITION_PLACEMENT))
    rules = {(row[0], row[1], row[2]): Rules.of(row[3]) for row in rows}
    rules = {key: each for key, each in rules.items() if each.matters}
    if not rules:
        return {}
    places = _places(crate)
    copies: dict[Key, dict[str, int]] = defaultdict(dict)
    if any(each.limit >= 0 for each in rules.values()):
        for schema, table, ident, node, count in crate.read(Statement(sql.COPIES_BY_TABLE)):
            copies[schema, table, ident][node or ""] = count
    return {key: barred(each, places, copies[key]) for key, each in rules.items()}


def _barred_to_all(crate: CrateDBClient) -> tuple[str, ...]:
    # Its `enable` is what a drain sets and a pre-check judges: not a matter of places.
    rules = replace(Rules.of(one(crate, sql.CLUSTER_PLACEMENT)[0]), enable="all")
    if not rules.matters:
        return ()
    copies = {row[0] or "": row[1] for row in crate.read(Statement(sql.COPIES_BY_NODE))}
    return barred(rules, _places(crate), copies)


def _places(crate: CrateDBClient) -> list[Place]:
    return [
        Place(row[0], row[1], row[2] or "", row[3] or {})
        for row in crate.read(Statement(sql.NODE_PLACES))
    ]


def _health(
    crate: CrateDBClient, master: str | None, slow: Slow
) -> tuple[str | None, int | None, int | None]:
    try:
        health, missing, underreplicated = one(crate, sql.CLUSTER_HEALTH)
    except RefusedError as error:
        if error.code != _NO_RELATION:
            raise
    else:
        return health, missing, underreplicated
    # Before 6.0 there is no such table: the worst of what a superuser sees.
    sick = cluster_rows.unhealthy(crate.read(Statement(sql.UNHEALTHY)))
    word = cluster_rows.health_of_visible(master, sick, sees_everything=slow.superuser is True)
    if word is None:
        return None, None, None
    return (
        word,
        sum(each.missing_shards or 0 for each in sick),
        sum(each.underreplicated_shards or 0 for each in sick),
    )


def _superuser(crate: CrateDBClient, user: str) -> bool | None:
    try:
        rows = crate.read(Statement(sql.SUPERUSER, (user,)))
    except RefusedError:
        return None
    return bool(rows[0][0]) if rows else None
