"""Ask the cluster and the store whether a table's replicas may be taken away now."""

from __future__ import annotations

from caretaker.errors import CaretakerError
from caretaker.ownership import HEARTBEAT_STALE_AFTER_S
from caretaker.translog.model import ResetState, ResetTicket, target_key
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
        # FAILED alone does not say so: a run that closes its ticket passes through it.
        if ticket.state is ResetState.FAILED and ticket.next_try_at is not None:
            reasons.append(f"{ticket.target} was not restored (ticket {ticket.id})")
        elif ticket.owner.run_id == hands.owner.run_id and _is_at_work(ticket, hands, policy):
            own.add(target_key(ticket.target))
        else:
            reasons.append(
                f"{ticket.target} waits to be restored (ticket {ticket.id} of run "
                f"{ticket.owner.run_id}): caretaker translogs --resume"
            )
    reasons += [
        f"{restart.cluster} is being restarted (ticket r{restart.id} of run "
        f"{restart.owner.run_id}): caretaker tickets"
        for restart in hands.store.open_restarts(cluster_id)
    ]
    if reasons:
        return reasons
    cluster = hands.reading(lambda: hands.crate.observe_cluster(frozenset(own)))
    if isinstance(cluster, CaretakerError):
        return [str(cluster)]
    if cluster.id != cluster_id:
        return [f"this is another cluster ({cluster.id}, not {cluster_id})"]
    return refusals(cluster, policy, own)


def _is_at_work(ticket: ResetTicket, hands: Hands, policy: ResetPolicy) -> bool:
    """Whether a step of this run still has it in hand: one at a time, none has but ours."""
    if policy.concurrent == 1:
        return ticket.id in hands.guard.held
    silent = hands.clock.now() - (ticket.heartbeat_at or ticket.created_at)
    return silent.total_seconds() <= HEARTBEAT_STALE_AFTER_S
