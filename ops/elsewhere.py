"""Where a table may be that is not what it was: dropped, renamed, or swapped with another.

A ticket knows its table by name. `ALTER CLUSTER SWAP TABLE` and `RENAME` take the shards away
from under it, and what was set to 0 stands at 0 under another name.
"""

from __future__ import annotations

from caretaker.errors import CaretakerError, NotRestoredError, RefusedError
from caretaker.translog.model import PartitionRef, ResetTicket, TableObservation, target_key
from ops.hands import Hands
from ops.restoring import GONE

Strays = list[TableObservation]


def strays(hands: Hands, ticket: ResetTicket, shards: int | None = None) -> Strays:
    """Return what stands at 0, is like the ticket's table, and has no ticket of its own.

    Like it: a table where it is one, a partition of the same values where it is one; and of the
    same number of shards, where that is known. Raises CaretakerError.
    """
    tables = hands.reading(lambda: hands.crate.observe_tables(copies=False))
    if isinstance(tables, CaretakerError):
        raise tables
    known = {target_key(other.target) for other in hands.store.open_tickets(ticket.cluster_id)}
    known.add(target_key(ticket.target))
    return [
        table
        for table in tables
        if table.number_of_replicas == "0"
        and target_key(table.target) not in known
        and _values(table) == _values(ticket)
        and shards in {None, table.number_of_shards}
    ]


def named(found: Strays) -> str:
    """Name what was found, a few of many."""
    names = [str(table.target) for table in found]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - "a few"
    return f"{', '.join(names[:3])}{more}"


def is_dropped(hands: Hands, ticket: ResetTicket, error: NotRestoredError) -> bool:
    """Whether the table is gone for good, so that nothing is owed any more.

    To be believed: an earlier run was refused, too; it is the master that says so, to a user who
    sees everything by right, because a lost privilege looks the same; and nothing stands at 0 that
    may be the same table under another name.
    """
    refused = error.__cause__
    if not ticket.attempts or not isinstance(refused, RefusedError) or refused.code not in GONE:
        return False
    try:
        cluster = hands.crate.observe_cluster()
        sees_all = cluster.superuser is True and cluster.master_node is not None
        if not sees_all or cluster.id != ticket.cluster_id:
            return False
        return hands.catalog(ticket.target) is None and not strays(hands, ticket)
    except CaretakerError:
        return False


def _values(of: TableObservation | ResetTicket) -> object:
    return of.target.values if isinstance(of.target, PartitionRef) else None
