"""Seeing the pod and its node come back, once the old process is gone or on its way out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from caretaker.decommission.events import EventName
from caretaker.decommission.facts import steady_s
from caretaker.decommission.model import CrateSeen, DeleteWhen, Goal, MinAvailability
from caretaker.decommission.payment import pay_back
from caretaker.decommission.steps import DeletePod, Step
from caretaker.decommission.strategy import SHORT_GRACE_S
from caretaker.decommission.ticket import DecommissionState
from caretaker.decommission.turn import (
    AWAY_FOR_GOOD_S,
    DELETE_WITHIN_S,
    Turn,
    delete,
    pay_while_away,
    since_s,
)

#: `state.waiting.reason` of a container that the kubelet does not restart at once.
BACK_OFF = "CrashLoopBackOff"

#: Exit code of a process that a TERM has ended.
_ENDED_BY_TERM = 143

#: A force delete that left no trace is asked for again, not in every look.
_FORCE_AGAIN_S = 30.0

#: For so long the delete of an ended pod comes before its settings: a moment later its container
#: runs again. One that nobody takes by then must not keep allocation restricted.
_DELETE_FIRST_S = 15.0


def see_return(turn: Turn) -> Step:
    """Put settings back, make the pod anew where that is safe, and wait for pod, node and GREEN."""
    pod, policy = turn.pod, turn.policy
    if pod.out_at is None:
        return _terminating(turn)
    hurry = pod.deleted_at is None and turn.now < turn.plus(pod.out_at, _DELETE_FIRST_S)
    if hurry and _should_delete(turn):
        return delete(turn, SHORT_GRACE_S, "its process has ended and its node is out")
    paid = pay_back(turn.seen, turn.ticket, policy, turn.now)
    turn.ticket = paid.ticket
    turn.events += paid.events
    if paid.action is not None:
        return turn.step(paid.action)
    in_time = turn.now < return_ends_by(turn) and not turn.ticket.stop
    if in_time and _should_delete(turn):
        return delete(turn, SHORT_GRACE_S, "its process has ended and its node is out")
    if policy.goal is Goal.DECOMMISSION or turn.ticket.stop:
        return _complete(turn)
    return _await_return(turn)


def _terminating(turn: Turn) -> Step:
    """Deleted and still running: in its preStop hook, in its last seconds, or stuck."""
    turn.enter(DecommissionState.DELETING)
    body, pod, policy = turn.body, turn.pod, turn.policy
    if body.pod is None or body.pod.deletion_at is None:
        raise AssertionError("asked only of a pod that is on its way out")
    if (paid := pay_while_away(turn)) is not None:
        return paid
    late_s = since_s(body.pod.deletion_at, turn.now)
    stuck = late_s > policy.terminating_margin_s
    since = pod.deleted_at or pod.began_at or turn.now
    grace_ends_at = body.pod.deletion_at + timedelta(seconds=policy.terminating_margin_s)
    until = max(return_ends_by(turn), grace_ends_at)
    away = turn.seen.crate is not None and body.node is None
    # One look may miss a node that lives, and two processes would run at once.
    out = away and since_s(pod.away_since, turn.now) >= AWAY_FOR_GOOD_S
    recently = pod.forced_at is not None and since_s(pod.forced_at, turn.now) < _FORCE_AGAIN_S
    if stuck and policy.force_delete and out and not recently and turn.now < until:
        turn.change(forced_at=turn.now)
        turn.note(f"pod {pod.name} was stuck in Terminating and was force-deleted")
        action = DeletePod(pod.name, pod.uid, 0, force=True)
        turn.tell(
            EventName.DELETE,
            warning=True,
            grace_s=0,
            force=True,
            reason="stuck in Terminating, and the operator asked for it",
        )
        return turn.step(action, DELETE_WITHIN_S)
    far = f"its grace ends in {-late_s:.0f} s" if late_s < 0 else f"{late_s:.0f} s past its grace"
    if stuck:
        told = "; ".join(body.pod.events[:3]) or "no events"
        held = ", ".join(body.pod.finalizers)
        told += f"; finalizers: {held}" if held else ""
        why_not = "" if policy.force_delete else "; --force-delete would end it"
        if policy.force_delete and body.node is not None:
            why_not = "; not force-deleted, because its node is still in the cluster"
        far = f"stuck in Terminating, {far} ({told}{why_not})"
        if not pod.stuck_told:
            turn.change(stuck_told=True)
            turn.tell(EventName.STUCK, warning=True, since_s=late_s, reason=f"{told}{why_not}")
    return turn.wait(f"pod {pod.name} to end", far, since, until)


def _should_delete(turn: Turn) -> bool:
    """Whether the ended pod is to be made anew; never one whose data nobody else has.

    Where its deletion is not asked for, the kubelet restarts it in place; but a back-off (10 s and
    more, with exit code 0, too) is ended by a delete at once (seen live). A container that runs
    again is left alone: killed half-way into the cluster, it is RED a second time (seen live).
    """
    pod, body, crate, policy = turn.pod, turn.body, turn.seen.crate, turn.policy
    if turn.managed or body.pod is None or body.replaced or body.pod.deletion_at is not None:
        return False
    if body.running or pod.delete_refused or crate is None or body.node is not None:
        return False
    if pod.data_was_away or crate.missing_shards != 0:
        return False
    backs_off = body.pod.container is not None and body.pod.container.waiting == BACK_OFF
    return policy.delete_when is DeleteWhen.EXITED or policy.recreate_pod or backs_off


def _await_return(turn: Turn) -> Step:
    body, pod, crate, policy = turn.body, turn.pod, turn.seen.crate, turn.policy
    since = pod.out_at or turn.now
    until = return_ends_by(turn)
    well = body.back and crate is not None and _is_green(turn, crate)
    if body.in_place and body.back and not pod.restarted_in_place and body.pod is not None:
        turn.change(restarted_in_place=True)
        container = body.pod.container
        turn.tell(EventName.REJOINED, restart_count=container.restart_count if container else None)
        if policy.recreate_pod:
            turn.note("it had come back in place before its pod could be deleted: not made anew")
    if not well:
        turn.change(well_since=None, well_seen_at=None)
        turn.enter(
            DecommissionState.AWAITING_GREEN if body.back else DecommissionState.AWAITING_POD
        )
        what, far = _what_is_missing(turn)
        return turn.wait(what, far, since, until)
    begin, well_s = steady_s(pod.well_since, pod.well_seen_at, turn.now)
    turn.change(well_since=begin, well_seen_at=turn.now)
    turn.enter(DecommissionState.AWAITING_GREEN)
    # "New UID, Ready, GREEN, three nodes" were all true while the old process answered (live).
    if pod.absent_at is None and well_s < policy.stable_s:
        far = f"all is well for {well_s:.0f} s of {policy.stable_s:.0f} s"
        later = until + timedelta(seconds=2 * policy.stable_s)
        return turn.wait("it to stay so", far, since, later)
    return _complete(turn)


def _what_is_missing(turn: Turn) -> tuple[str, str]:
    body, pod, crate = turn.body, turn.pod, turn.seen.crate
    if body.pod is None:
        return f"a new pod {pod.name}", "there is none yet"
    if body.leaving or not (body.replaced or body.in_place):
        state = body.pod.container.waiting if body.pod.container is not None else ""
        return f"pod {pod.name} to change", body.ended + (f", {state}" if state else "")
    if not body.back and body.node is None and body.pod.ready:
        far = turn.seen.crate_error if crate is None else f"{len(crate.nodes)} nodes are there"
        return f"node {pod.node_name} to be back in sys.nodes", far
    if not body.back:
        waiting = body.pod.container.waiting if body.pod.container is not None else "no status yet"
        far = f"it is {body.pod.phase}, {'Ready' if body.pod.ready else 'not Ready'}"
        return f"pod {pod.name} to be Ready", f"{far}, {waiting}" if waiting else far
    if crate is None:
        return "CrateDB to answer", turn.seen.crate_error
    far = (
        f"it is {crate.health}, {len(crate.nodes)} of {turn.ticket.expected_nodes} nodes, "
        f"{crate.missing_shards} shards missing, {crate.underreplicated_shards} under-replicated"
    )
    return "the cluster to be GREEN", far


def _is_green(turn: Turn, crate: CrateSeen) -> bool:
    return (
        crate.health == "GREEN"
        and crate.missing_shards == 0
        and crate.underreplicated_shards == 0
        and crate.master_node is not None
        and len(crate.nodes) == turn.ticket.expected_nodes
    )


def _complete(turn: Turn) -> Step:
    pod, body = turn.pod, turn.body
    uid = body.pod.uid if body.pod is not None else ""
    in_place = body.in_place
    turn.change(ended_at=turn.now, uid_after=uid, restarted_in_place=in_place)
    if turn.ticket.stop:
        return turn.fail(turn.ticket.stop)
    if pod.delete_refused and not body.replaced:
        return turn.fail(f"Failed to delete pod: {pod.delete_refused}")
    if pod.data_was_away:
        return turn.fail(
            f"node {pod.node_name} left before it was drained: shards were missing while it was "
            "away, so no further pod is restarted"
        )
    if turn.managed and pod.min_availability is not MinAvailability.NONE and pod.exit_code:
        # dc_util waits until the process has ended by itself, with 0; a TERM (143) or KILL (137)
        # came because the hook had failed or was cut off.
        return turn.fail(
            f"its preStop hook did not drain node {pod.node_name}: the process ended with exit "
            f"code {pod.exit_code}, so no further pod is restarted"
        )
    if pod.exit_code not in {None, 0} and not _told_to_end(turn):
        turn.note(f"the process ended with exit code {pod.exit_code}")
    began = pod.began_at or turn.now
    turn.tell(
        EventName.COMPLETED,
        strategy=pod.strategy.value,
        duration_s=(turn.now - began).total_seconds(),
        restarted_in_place=in_place,
    )
    turn.change(state=DecommissionState.COMPLETED)
    turn.ticket = replace(turn.ticket, quiet_since=None, quiet_seen_at=None, resting_since=turn.now)
    return turn.on()


def _told_to_end(turn: Turn) -> bool:
    """Whether the process ended by the TERM of our delete, which is sent to a drained node.

    A delete without that proof, of a drain that hangs, has a note of its own.
    """
    pod = turn.pod
    if turn.managed or pod.exit_code != _ENDED_BY_TERM or pod.delete_refused:
        return False
    return pod.deleted_at is not None and pod.out_at is not None and pod.deleted_at < pod.out_at


def return_ends_by(turn: Turn) -> datetime:
    """`pod_ready_timeout` after the delete or the end of the process, whichever came last.

    Until the process has ended, for as long as its hook may drain, whatever `--timeout` is.
    """
    pod, policy = turn.pod, turn.policy
    moments = (pod.out_at, pod.deleted_at, pod.began_at)
    at = max((each for each in moments if each is not None), default=turn.now)
    limit_s = pod.drain_limit_s if pod.out_at is None else pod.timeout_s
    return turn.plus(at, limit_s + policy.ready_margin_s)
