"""What an observation says about the pod that is under way, and what the ticket learns from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from caretaker.decommission.model import (
    CallState,
    CrateSeen,
    DrainCall,
    KubeSeen,
    MinAvailability,
    NodeSeen,
    Observation,
    PodSeen,
)
from caretaker.decommission.preflight import can_lose
from caretaker.decommission.ticket import Drain, PodProgress, RestartTicket

#: Two looks further apart than this say nothing about the time between them.
LONGEST_GAP_S = 15.0


@dataclass(frozen=True, slots=True)
class Body:
    """The pod and its node, as they are, against the incarnation that was to go.

    Attributes:
        pod: None where the API knows none of that name.
        node: None where it is not in `sys.nodes`, or CrateDB was not seen.
        gone: The API knows no pod of that name, and its node is known to be out of the cluster. A
            pod that only left its StatefulSet, or was force-deleted, may still run.
        replaced: The pod has another UID.
        in_place: The same pod, its container started again (exit code 0 of PID 1 is enough: live).
    """

    pod: PodSeen | None
    node: NodeSeen | None
    replaced: bool
    in_place: bool
    gone: bool = False

    @property
    def running(self) -> bool:
        """The container runs, whichever incarnation."""
        return (
            self.pod is not None and self.pod.container is not None and (self.pod.container.running)
        )

    @property
    def leaving(self) -> bool:
        """Deleted, by whomever, and still there: in preStop it looks healthy (live)."""
        return self.pod is not None and not self.replaced and self.pod.deletion_at is not None

    @property
    def ended(self) -> str:
        """How the old process is known to have ended; '' while it is not."""
        if self.pod is None:
            return "its pod is gone" if self.gone else ""
        if self.replaced:
            return "its pod is a new one"
        if self.in_place:
            return "its container was restarted in place"
        if self.pod.container is not None and not self.pod.container.running:
            code = self.pod.container.exit_code
            return f"its container has ended with exit code {code}"
        return ""

    @property
    def back(self) -> bool:
        """A changed pod that is Running and Ready, not on its way out, its node in the cluster."""
        return (
            self.pod is not None
            and (self.replaced or self.in_place)
            and self.pod.deletion_at is None
            and self.pod.phase == "Running"
            and self.pod.ready
            and self.running
            and self.node is not None
        )


def body_of(progress: PodProgress, seen: Observation) -> Body:
    """Return the facts about a pod; `seen.kube` must be there."""
    pod = seen.kube.pod(progress.name) if seen.kube is not None else None
    node = None
    if seen.crate is not None:
        node = seen.crate.node(name=progress.node_name, pod=progress.name)
    same = pod is not None and pod.uid == progress.uid
    in_place = (
        same
        and pod is not None
        and pod.container is not None
        and pod.container.restart_count > progress.restart_count
    )
    gone = pod is None and seen.crate is not None and node is None
    replaced = pod is not None and not same
    return Body(pod, node, replaced=replaced, in_place=in_place, gone=gone)


def not_out_yet(ticket: RestartTicket, seen: Observation) -> PodProgress | None:
    """Return a pod that was sent on its way out and has not ended; None where there is none.

    The one under way, or one that was given up while it was Terminating.
    """
    for progress in ticket.pods:
        if not progress.touched or progress.out_at is not None:
            continue
        body = body_of(progress, seen)
        if not body.ended and (body.leaving or progress == ticket.current):
            return progress
    return None


def stayed(progress: PodProgress, seen: Observation) -> bool:
    """Whether a pod is seen to be the one that was to go, not on its way: its hook never ran."""
    body = body_of(progress, seen)
    return body.pod is not None and progress.out_at is None and not body.leaving and not body.ended


def drained(progress: PodProgress, node: NodeSeen, crate: CrateSeen) -> bool:
    """Whether it is proven that a node may go: nothing (PRIMARIES: no primary) is left on it.

    The statement's return is no proof (rowcount 1 of a drain that was given up, too), and neither
    is the cluster's colour: a vacuous drain is GREEN (both seen live).
    """
    left = node.copies if progress.min_availability is MinAvailability.FULL else node.primaries
    return left == 0 and can_lose(crate, node) is True


def noted(seen: Observation, ticket: RestartTicket, now: datetime) -> RestartTicket:
    """Return the ticket with what this look adds to what must be remembered."""
    progress = ticket.current or ticket.given_up
    if progress is None:
        return ticket
    body = body_of(progress, seen)
    if seen.kube is not None and progress.out_at is None and body.ended:
        progress = replace(progress, out_at=now, exit_code=_exit_code(progress, seen.kube))
    if body.replaced and body.pod is not None:
        progress = replace(progress, uid_after=body.pod.uid)
    away = seen.crate is not None and body.node is None
    if progress.touched and away:
        since, _ = steady_s(progress.away_since, progress.away_seen_at, now)
        progress = replace(progress, away_since=since, away_seen_at=now)
    elif seen.crate is not None:
        progress = replace(progress, away_since=None, away_seen_at=None)
    if progress.touched and away and progress.absent_at is None:
        progress = replace(progress, absent_at=now)
    if progress.touched and away and seen.crate is not None and (seen.crate.missing_shards or 0):
        progress = replace(progress, data_was_away=True)
    if progress.drain is not None and _never_left(progress.drain, seen.call):
        progress = progress.as_before_its_drain()
    if progress.drain is not None:
        drain = _noted_drain(progress, progress.drain, seen, body, now)
        progress = replace(progress, drain=drain)
    return ticket.with_pod(progress)


def _exit_code(progress: PodProgress, kube: KubeSeen) -> int | None:
    """Return how the old process has ended; None where nobody saw it."""
    for pod in (*kube.pods, *kube.gone):
        seen = pod.container if pod.uid == progress.uid else None
        # Of one that runs, the code is that of a run before: an old crash.
        if seen is not None and (not seen.running or seen.restart_count > progress.restart_count):
            return seen.exit_code
    return None


def _never_left(drain: Drain, call: DrainCall | None) -> bool:
    """Whether the only DECOMMISSION of a pod is known not to have been sent."""
    first = drain.sent_at == drain.last_sent_at
    return (
        first
        and call is not None
        and call.state is CallState.NOT_SENT
        and call.sent_at == drain.sent_at
    )


def _noted_drain(
    progress: PodProgress, drain: Drain, seen: Observation, body: Body, now: datetime
) -> Drain:
    call = seen.call
    if call is not None and call.sent_at == drain.last_sent_at:
        if call.state is CallState.RETURNED and drain.returned_at is None:
            drain = replace(drain, returned_at=call.at or now)
        if call.state is CallState.UNKNOWN and drain.lost_at is None:
            drain = replace(drain, lost_at=call.at or now)
        if call.state is CallState.NOT_SENT:
            drain = drain.not_sent_again()
        if call.state is CallState.REFUSED:
            drain = replace(drain, refused=call.reason or "refused")
    node = body.node
    serving = node is not None and node.draining is False and progress.out_at is None
    if not serving:
        drain = replace(drain, serving_since=None)
    elif drain.serving_since is None:
        drain = replace(drain, serving_since=now)
    if drain.returned_at is None or node is None or node.jobs:
        drain = replace(drain, idle_since=None)
    elif drain.idle_since is None:
        drain = replace(drain, idle_since=now)
    waits_for_nobody = call is None or call.state is not CallState.RUNNING
    if (
        drain.returned_at is None
        and waits_for_nobody
        and node is not None
        and node.draining is True
        and seen.crate is not None
        and drained(progress, node, seen.crate)
    ):
        # Nobody is left who could tell of its return; an empty node that refuses requests does.
        drain = replace(drain, returned_at=now)
    return drain


def steady_s(
    since: datetime | None, seen_at: datetime | None, now: datetime
) -> tuple[datetime, float]:
    """Return from when on something has been true that is true now, and for how many seconds.

    What nobody looked at for a while was not seen to be true meanwhile: it begins anew.
    """
    unwatched = seen_at is None or now - seen_at > timedelta(seconds=LONGEST_GAP_S)
    if since is None or unwatched or since > now:
        return now, 0.0
    return since, (now - since).total_seconds()
