"""Ask the cluster and the store whether a table's replicas may be taken away now."""

from __future__ import annotations

from caretaker.errors import CaretakerError
from caretaker.translog.model import ResetState, target_key
from caretaker.translog.policy import ResetPolicy
from caretaker.translog.preflight import refusals
from ops.hands import Hands


def why_not_to_begin(hands: Hands, cluster_id: str, policy: ResetPolicy) -> list[str]:
    """Return every reason not to begin with a table now; empty means go ahead.

    Tickets of other runs refuse: a table that waits to be restored comes before any other. So
    does one of ours that could not be restored: a cluster that refuses one restore will refuse
    the next.
    """
    own: set[tuple[str, str, str]] = set()
    reasons: list[str] = []
    for ticket in hands.store.open_tickets(cluster_id):
        if ticket.state is ResetState.FAILED:
            reasons.append(f"{ticket.target} was not restored (ticket {ticket.id})")
        elif ticket.owner.run_id == hands.owner.run_id:
            own.add(target_key(ticket.target))
        else:
            reasons.append(
                f"{ticket.target} waits to be restored (ticket {ticket.id} of run "
                f"{ticket.owner.run_id}): caretaker translogs --resume"
            )
    if reasons:
        return reasons
    cluster = hands.reading(lambda: hands.crate.observe_cluster(frozenset(own)))
    if isinstance(cluster, CaretakerError):
        return [str(cluster)]
    if cluster.id != cluster_id:
        return [f"this is another cluster ({cluster.id}, not {cluster_id})"]
    return refusals(cluster, policy, own)


def lost_the_lock(hands: Hands, cluster_id: str) -> list[str]:
    """Return why this run may not go on: it looked dead, and another has the cluster."""
    lock = hands.store.lock(cluster_id)
    if lock is not None and lock.owner.run_id == hands.owner.run_id:
        return []
    holder = f"run {lock.owner.run_id} has it" if lock is not None else "nobody has it"
    return [f"the lock of the cluster is no longer ours: {holder}"]
