"""Whose turn it is: highest ordinal first, the elected master last, whoever it is by then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caretaker.decommission.model import CrateSeen, KubeSeen, Observation, PodSeen, runs_in
from caretaker.decommission.ticket import DecommissionState, PodProgress, RestartTicket


def in_turn(pods: Iterable[PodSeen]) -> list[PodSeen]:
    """Return pods in the order of their turn: StatefulSets by name, highest ordinal first."""
    return sorted(pods, key=lambda pod: (pod.statefulset, -pod.ordinal, pod.name))


def next_pod(pending: Sequence[PodProgress], crate: CrateSeen) -> PodProgress | None:
    """Return whose turn it is; the elected master's pod only when no other is left.

    Each change of master is an election, and until the last pod there is only one of them.
    """
    for progress in pending:
        if not is_master(progress.name, crate):
            return progress
    return pending[0] if pending else None


def is_master(pod: str, crate: CrateSeen) -> bool:
    """Whether the elected master runs in that pod."""
    return any(node.id == crate.master_node and runs_in(node, pod) for node in crate.nodes)


def poll_order(ticket: RestartTicket, seen: Observation) -> list[str]:
    """Return the pods through which CrateDB is best asked, best first.

    Asking *through* a node while another restarts can spoil that node's own later drain (a CrateDB
    bug, seen live: its count of active requests stays above 0). So: those whose turn is over, then
    those whose turn is not in this restart, then those whose turn comes last; never the current.
    """
    if seen.kube is None:
        return []
    current = ticket.current.name if ticket.current is not None else None
    waiting = {pod.name: position for position, pod in enumerate(ticket.pods, start=1)}
    over = {
        pod.name
        for pod in ticket.pods
        if pod.state in {DecommissionState.COMPLETED, DecommissionState.SKIPPED}
    }
    usable = [pod.name for pod in _usable(seen.kube) if pod.name != current]
    return sorted(
        usable, key=lambda name: (0 if name in over else 1, -waiting.get(name, 1_000_000), name)
    )


def _usable(kube: KubeSeen) -> list[PodSeen]:
    return [pod for pod in kube.pods if pod.deletion_at is None and pod.ready]
