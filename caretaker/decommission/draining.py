"""Taking the node out: settings, the drain, and what becomes of it on the server.

The server drains on whatever becomes of our statement (seen live), so what counts is the node: what
is left on it, whether it takes requests, whether it is there at all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from caretaker.decommission.cluster_settings import TIMEOUT, same_value
from caretaker.decommission.events import EventName
from caretaker.decommission.facts import drained
from caretaker.decommission.model import CallState, CrateSeen, DeleteWhen, MinAvailability
from caretaker.decommission.preflight import Candidate, Refusal, can_lose, judge, said
from caretaker.decommission.putting_back import (
    SHORT_TIMEOUT,
    changed_by_others,
    setup,
    touching,
    wanted,
)
from caretaker.decommission.steps import (
    LOOK_AGAIN_S,
    LOOK_SOON_S,
    Await,
    DecommissionNode,
    SetGlobal,
    Step,
)
from caretaker.decommission.strategy import SHORT_GRACE_S
from caretaker.decommission.ticket import DecommissionState, Drain
from caretaker.decommission.turn import (
    BEGIN_WITHIN_S,
    DELETE_WITHIN_S,
    Turn,
    delete,
    pay_while_away,
    since_s,
    tell_statement,
)

#: A node is believed to serve again, or a call to be lost, after this: pods report late.
_BELIEVED_AFTER_S = 5.0
_GIVEN_UP_AFTER_S = 10.0

#: Whoever returned so long ago may have been given up since, where nobody can ask the node.
_RETURN_IS_FRESH_S = 60.0

#: What CrateDB takes at most beyond twice its timeout (source).
_SERVER_MARGIN_S = 15.0


def prepare(turn: Turn, candidate: Candidate | None) -> Step:
    """Set what the drain needs, check once more that it is safe, and send it."""
    pod, policy, crate = turn.pod, turn.policy, turn.seen.crate
    if turn.ticket.stop:
        return turn.fail(turn.ticket.stop)
    since = pod.began_at or turn.now
    until = turn.plus(since, policy.prepare_timeout_s)
    if crate is None:
        return turn.wait("CrateDB to answer", turn.seen.crate_error, since, until)
    others = changed_by_others(turn.ticket, crate.settings)
    if others:
        return turn.fail(f"somebody works on this cluster: {'; '.join(others)}")
    if not turn.managed:
        left = setup(policy, pod.timeout_s, crate.settings)
        if left:
            action = left[0]
            if turn.now >= until:
                return turn.fail(f"{action.key} could not be set to {action.value!r}")
            turn.enter(DecommissionState.PREPARING)
            turn.ticket = touching(turn.ticket, action)
            tell_statement(turn, action)
            return turn.step(action)
    if candidate is None:
        verdict = judge(turn.seen, turn.ticket, pod.name, policy)
        if isinstance(verdict, list):
            if not all(refusal.passing for refusal in verdict):
                return turn.fail(f"not safe any more: {said(verdict)}")
            return turn.wait("the cluster to be fit again", said(verdict), since, until)
    if turn.now >= until:
        return turn.fail(
            f"nothing could be sent in {(turn.now - since).total_seconds():.0f} s: each time the "
            f"look behind it was older than {BEGIN_WITHIN_S:.0f} s by then, or nobody took it"
        )
    if turn.managed:
        return delete(turn, pod.grace_s, "its preStop hook drains the node")
    return _send_drain(turn)


def _send_drain(turn: Turn) -> Step:
    pod, now = turn.pod, turn.now
    again = pod.drain is not None
    if pod.drain is None:
        drain = Drain(sent_at=now, last_sent_at=now)
    else:
        drain = replace(
            pod.drain,
            last_sent_at=now,
            returned_at=None,
            lost_at=None,
            serving_since=None,
            refused="",
        )
    turn.enter(DecommissionState.DRAINING)
    turn.change(drain=drain)
    of = len(wanted(turn.policy, pod.timeout_s)) + 1
    action = DecommissionNode(
        node_name=pod.node_name,
        pod=pod.name,
        uid=pod.uid,
        restart_count=pod.restart_count,
        sent_at=now,
        timeout_s=turn.policy.decommission_timeout_s,
        number=of,
        of=of,
        again=again,
    )
    tell_statement(turn, action)
    node = turn.body.node
    # One of which nobody knows whether it drains may be about to end, and to come back.
    hurry = again and (node is None or node.draining is not False)
    return turn.step(action, DELETE_WITHIN_S if hurry else BEGIN_WITHIN_S)


def watch_drain(turn: Turn) -> Step:
    """Watch the server's drain: it goes on whatever became of our statement (seen live)."""
    pod, crate = turn.pod, turn.seen.crate
    drain = pod.drain
    if drain is None:
        raise AssertionError("a manual pod is touched by its drain")
    turn.enter(DecommissionState.DRAINING)
    until = _drain_ends_by(turn, drain)
    what = f"node {pod.node_name} to be drained and its process to end"
    if crate is None:
        return _watch(turn, drain, what, f"CrateDB does not answer ({turn.seen.crate_error})")
    node = turn.body.node
    if node is None:
        paid = pay_while_away(turn)
        far = "it has left the cluster, its container still runs"
        return paid or _watch(turn, drain, what, far)
    if turn.now >= until:
        return _watch(turn, drain, what, "its node is still there")
    if drain.refused and drain.sent_at == drain.last_sent_at:
        return turn.fail(f"DECOMMISSION was refused: {drain.refused}")
    served_s = since_s(drain.serving_since, turn.now)
    if drain.returned_at is not None:
        if served_s >= _GIVEN_UP_AFTER_S:
            return turn.fail(
                f"node {pod.node_name} serves again: the server has given its drain up (rowcount 1 "
                "all the same), because of an active query or its own time-out"
            )
        return _returned(turn, drain, what, crate)
    left = node.copies if pod.min_availability is MinAvailability.FULL else node.primaries
    kind = "shards" if pod.min_availability is MinAvailability.FULL else "primaries"
    far = f"{left if left is not None else 'an unknown number of'} {kind} left on it"
    call = turn.seen.call
    nobody_waits = call is None or call.state is not CallState.RUNNING
    if nobody_waits and node.draining is not True:
        return _perhaps_again(turn, drain, what, far)
    return _watch(turn, drain, what, far)


def _returned(turn: Turn, drain: Drain, what: str, crate: CrateSeen) -> Step:
    """The statement has come back: delete in the 5 s that are left, or see the process end."""
    pod, policy, node = turn.pod, turn.policy, turn.body.node
    if node is None or drain.returned_at is None:
        raise AssertionError("asked only of a node that is there")
    proven = drained(pod, node, crate) and _still_draining(turn, drain)
    # Queries that still run on it would be cut: its process waits for them, and ends by itself.
    free = proven and not node.jobs
    if free and policy.delete_when is DeleteWhen.DRAINED and not pod.delete_refused:
        took = (drain.returned_at - drain.sent_at).total_seconds()
        if pod.deleted_at is None:
            turn.tell(EventName.DRAINED, node=pod.node_name, elapsed_s=took)
        return delete(turn, SHORT_GRACE_S, "its node is drained and would exit in a moment")
    moments = (drain.idle_since, drain.shortened_at)
    idle_since = max((each for each in moments if each is not None), default=turn.now)
    safe = can_lose(crate, node) is True and node.draining is not False
    idle = drain.idle_since is not None and safe
    if idle and since_s(idle_since, turn.now) >= policy.hang_after_s:
        cut_already = drain.shortened_at is not None and same_value(
            TIMEOUT, crate.settings.get(TIMEOUT), SHORT_TIMEOUT
        )
        if not cut_already:
            turn.change(drain=replace(drain, shortened_at=turn.now))
            turn.note(
                f"the drain of {pod.node_name} hung although the node could go: "
                f"graceful_stop.timeout was cut to {SHORT_TIMEOUT}"
            )
            cut = SetGlobal(TIMEOUT, SHORT_TIMEOUT, timeout_s=policy.statement_timeout_s)
            turn.ticket = touching(turn.ticket, cut)
            return turn.step(cut)
        if node.draining is True and not pod.delete_refused:
            turn.note(f"the drain of {pod.node_name} went on hanging: its pod was deleted")
            return delete(turn, SHORT_GRACE_S, "its drain hangs and the cluster can do without it")
    far = "the statement has returned, the process has not ended yet"
    if not proven:
        far += "; shards that only it has are still on it" if not safe else ""
    return _watch(turn, drain, what, far)


def _still_draining(turn: Turn, drain: Drain) -> bool:
    """Whether the node is on its way out, and not one whose drain was given up."""
    node = turn.body.node
    if node is None or node.draining is not None:
        return node is not None and node.draining is True
    # Nobody could ask it. Within its timeout it cannot have given up after its return (source); but
    # one that was away since is another process.
    limit = min(_RETURN_IS_FRESH_S, turn.pod.timeout_s)
    return turn.pod.absent_at is None and since_s(drain.returned_at, turn.now) < limit


def _perhaps_again(turn: Turn, drain: Drain, what: str, far: str) -> Step:
    """Send the statement again where nobody waits for it and the node does not drain.

    That is harmless to a node that drains (seen live), but one that lands when the node has come
    back from the other's drain restarts it twice: so only when the other cannot land any more.
    """
    pod, node = turn.pod, turn.body.node
    if node is None:
        raise AssertionError("asked only of a node that is there")
    quiet_since = drain.serving_since or _last_tried(turn, drain)
    if since_s(quiet_since, turn.now) < _BELIEVED_AFTER_S:
        return _watch(turn, drain, what, f"{far}; whether it drains is not clear yet")
    # To a node that serves it would be the first one: asked as before a first one.
    verdict = judge(turn.seen, turn.ticket, pod.name, turn.policy)
    refusals = [] if isinstance(verdict, Candidate) else verdict
    never = _why_never_again(turn, drain, refusals)
    if _may_land_yet(turn, drain):
        landing = "a DECOMMISSION that was never answered may land yet"
        return _watch(turn, drain, what, f"{landing}; {never or far}")
    if never and node.draining is False:
        return turn.fail(never)
    if never:
        # Nobody can ask the node: its drain may be under way, and is seen to its end.
        return _watch(turn, drain, what, f"{far}; {never}")
    if refusals:
        return _watch(turn, drain, "the cluster to be fit for a drain again", said(refusals))
    return _send_drain(turn)


def _why_never_again(turn: Turn, drain: Drain, refusals: list[Refusal]) -> str:
    """Say why the statement must not be sent again, now or later; '' where it may be."""
    pod, crate = turn.pod, turn.seen.crate
    limit = turn.policy.decommission_timeout_s
    if turn.ticket.stop:
        return turn.ticket.stop
    if drain.refused:
        return f"DECOMMISSION was refused: {drain.refused}"
    if not all(refusal.passing for refusal in refusals):
        return f"not safe any more: {said(refusals)}"
    changed = setup(turn.policy, pod.timeout_s, crate.settings) if crate is not None else ()
    if changed:
        # An operator has put back by hand what a dead run had set, or a whole cluster restarted.
        keys = ", ".join(each.key for each in changed)
        return f"what its drain needs was set otherwise meanwhile: {keys}"
    if pod.absent_at is not None:
        return f"node {pod.node_name} was away meanwhile, and may be another process"
    if turn.now >= turn.plus(drain.sent_at, limit):
        return f"nobody has begun its drain in {limit:.0f} s"
    return ""


def _last_tried(turn: Turn, drain: Drain) -> datetime:
    """When the statement was sent, was lost, or may have been sent by a run that died."""
    moments = (drain.last_sent_at, drain.lost_at, turn.ticket.resumed_at)
    return max(each for each in moments if each is not None)


def _may_land_yet(turn: Turn, drain: Drain) -> bool:
    """Whether a statement of which nobody has heard may begin a drain still.

    One that lands behind our back finds settings of ours put back, and nobody who watches. Where
    one was refused, those before it were over.
    """
    return (
        not drain.refused
        and since_s(_last_tried(turn, drain), turn.now) < turn.policy.statement_timeout_s
    )


def _watch(turn: Turn, drain: Drain, what: str, far: str) -> Step:
    """Look on; in the 5 s between the return and the exit more often."""
    policy = turn.policy
    until = _drain_ends_by(turn, drain)
    if turn.now >= until:
        limit = policy.decommission_timeout_s
        return turn.fail(
            f"Manual decommission timed out after {limit:.0f}s; the node was watched for "
            f"{(turn.now - drain.sent_at).total_seconds():.0f} s in all: {far}"
        )
    hurry = drain.returned_at is not None and since_s(drain.returned_at, turn.now) < (
        policy.hang_after_s
    )
    soon = (
        LOOK_SOON_S
        if hurry or since_s(drain.sent_at, turn.now) < policy.hang_after_s
        else (LOOK_AGAIN_S)
    )
    return turn.step(Await(what, far, drain.sent_at, until, soon))


def _drain_ends_by(turn: Turn, drain: Drain) -> datetime:
    """When the server must have ended a drain: 2 x timeout + 15 s after our statement (source)."""
    answered = drain.returned_at or drain.lost_at
    ours = drain.last_sent_at + timedelta(seconds=turn.policy.decommission_timeout_s)
    begin = max(answered, drain.last_sent_at) if answered is not None else ours
    # Whoever takes over cannot know whether it was ever sent, and may have to send it first.
    return turn.plus(begin, 2 * turn.pod.drain_limit_s + _SERVER_MARGIN_S)
