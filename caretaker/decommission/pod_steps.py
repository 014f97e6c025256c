"""What is next for the one pod that is under way.

Every branch is taken from what is now and from the ticket, never from where the last step was: a
run that was killed after any of them goes on here. The order of the branches is the plan.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from caretaker.decommission.draining import prepare, watch_drain
from caretaker.decommission.preflight import Candidate, judge, said
from caretaker.decommission.returning import return_ends_by, see_return
from caretaker.decommission.steps import LOOK_SOON_S, Await, Step
from caretaker.decommission.ticket import PodProgress
from caretaker.decommission.turn import Turn, delete

#: A delete that left shows in a look by then: watches are asked anew after 10 s of silence.
SHOWS_WITHIN_S = 15.0

#: An API server ends what it has not answered after 60 s (its `--request-timeout`), so a delete
#: that we gave up earlier has landed by then, or never will.
LANDS_WITHIN_S = 60.0


def pod_step(turn: Turn, candidate: Candidate | None = None) -> Step:
    """Return what is next for the pod under way.

    `candidate` is given when all checks were made on this very observation.
    """
    body, pod = turn.body, turn.pod
    if not pod.touched and not body.ended:
        return prepare(turn, candidate)
    if pod.out_at is not None or body.leaving:
        return see_return(turn)
    return _delete_again(turn) if turn.managed else watch_drain(turn)


def delete_to_land(pod: PodProgress, now: datetime, how_far: str) -> Await | None:
    """Return the wait for a delete that nobody answered; None: it lands no more."""
    if pod.delete_lost_at is None:
        return None
    until = pod.delete_lost_at + timedelta(seconds=LANDS_WITHIN_S + SHOWS_WITHIN_S)
    what = f"a delete of pod {pod.name} that was never answered to land, or not to"
    return Await(what, how_far, pod.delete_lost_at, until) if now < until else None


def _delete_again(turn: Turn) -> Step:
    """A managed pod whose delete was remembered and has left no trace: it may never have left."""
    pod = turn.pod
    if pod.delete_refused:
        return turn.fail(f"Failed to delete pod: {pod.delete_refused}")
    since = pod.deleted_at or turn.now
    if turn.body.pod is None:
        far = f"pod {pod.name} is none of its StatefulSet's any more"
        return turn.wait(f"node {pod.node_name} to leave", far, since, return_ends_by(turn))
    until = turn.plus(since, turn.policy.prepare_timeout_s)
    if turn.now < turn.plus(since, SHOWS_WITHIN_S):
        return turn.wait(f"the delete of pod {pod.name} to show", "", since, until, LOOK_SOON_S)
    if turn.ticket.stop:
        return turn.fail(turn.ticket.stop)
    verdict = judge(turn.seen, turn.ticket, pod.name, turn.policy)
    if isinstance(verdict, list):
        # Even one that does not pass: a DECOMMISSION that runs is the hook's own, and its end is
        # waited for before anything is put back.
        return turn.wait("the cluster to be fit again", said(verdict), since, until)
    if turn.now >= until:
        return turn.fail("Failed to delete pod: Kubernetes took no delete")
    return delete(turn, pod.grace_s, "its preStop hook drains the node")
