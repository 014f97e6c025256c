"""A restart of a cluster's pods, one at a time: what is next, given what is and what was promised.

`next_step` is the whole state machine. It holds nothing between two calls: killed after any step,
it goes on from the ticket and a fresh look. `steps.py` says how it is carried out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from caretaker.decommission.events import EventName, RestartEvent
from caretaker.decommission.facts import body_of, noted, steady_s
from caretaker.decommission.given_up import hook_to_end, kept_open
from caretaker.decommission.model import (
    ClusterRef,
    CrateSeen,
    KubeSeen,
    Observation,
    PodSeen,
)
from caretaker.decommission.payment import pay_back, still_to_land
from caretaker.decommission.pod_steps import delete_to_land, pod_step
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.preflight import Candidate, judge
from caretaker.decommission.putting_back import remember, reset_sent
from caretaker.decommission.steps import (
    Action,
    Answer,
    Await,
    Conclude,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    Step,
    Verdict,
    as_sql,
)
from caretaker.decommission.ticket import DecommissionState, PodProgress, RestartTicket
from caretaker.decommission.turn import Turn
from caretaker.decommission.turns import in_turn, next_pod

#: Answers after which a delete has certainly not taken place.
_NOTHING_DELETED = frozenset({Verdict.NOT_SENT, Verdict.CONFLICT})


def begin(
    cluster: ClusterRef,
    pods: Sequence[PodSeen],
    kube: KubeSeen,
    policy: RestartPolicy,
    now: datetime,
) -> RestartTicket:
    """Return a ticket for these pods, by their present UIDs. Nothing is promised by it yet."""
    expected = policy.expected_nodes or sum(each.replicas for each in kube.statefulsets)
    progress = tuple(
        PodProgress(
            name=pod.name,
            uid=pod.uid,
            restart_count=pod.container.restart_count if pod.container is not None else 0,
            statefulset=pod.statefulset,
        )
        for pod in in_turn(pods)
    )
    return RestartTicket(cluster, policy, progress, expected_nodes=expected, created_at=now)


def resumed(ticket: RestartTicket, now: datetime) -> RestartTicket:
    """Return a ticket as its new owner takes it over: waits begin anew, promises do not."""
    return replace(
        _left_unanswered(ticket, now),
        resumed_at=now,
        put_back_since=None,
        quiet_seen_at=None,
        resting_since=None,
        blind_since=None,
        error="",
    )


def stopped(
    ticket: RestartTicket, now: datetime, reason: str = "stopped by the operator"
) -> RestartTicket:
    """Return a ticket whose owner was told to stop: put back what was set, begin no further pod.

    A drain that is in flight cannot be called back; it is seen to its end first. So is a statement
    that the stop has interrupted.
    """
    return replace(_left_unanswered(ticket, now), stop=ticket.stop or reason)


def _left_unanswered(ticket: RestartTicket, now: datetime) -> RestartTicket:
    """Return the ticket of whose statements nobody will hear any more: they may land yet."""
    settings = tuple(
        replace(was, lost_at=now) if was.unanswered else was for was in ticket.settings
    )
    lost_at = now if ticket.reset_open else ticket.reset_lost_at
    pod = ticket.current
    if pod is not None and pod.deleted_at is not None and not pod.delete_refused:
        ticket = ticket.with_pod(replace(pod, delete_lost_at=now))
    return replace(ticket, settings=settings, reset_open=False, reset_lost_at=lost_at)


def next_step(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime
) -> Step:
    """Return what to remember and what to do next; never two pods, never twice one.

    Whoever resumes passes `ticket.policy`. Every wait it returns has an end and says what it waits
    for; past that end the pod has failed, its settings go back, and nothing further is begun.
    """
    before, ticket = ticket.current, noted(seen, ticket, now)
    progress = ticket.current
    if before is None or progress is None:
        return _between(seen, ticket, policy, now)
    news = tuple(_news(before, progress, seen))
    if seen.kube is None:
        step = _blind(seen, ticket, policy, now)
    else:
        ticket = replace(ticket, blind_since=None)
        step = pod_step(Turn(seen, seen.kube, ticket, policy, now, _between, list(news)))
    ended, body = step.ticket.pod(progress.name), body_of(progress, seen)
    if ended.state is DecommissionState.FAILED and progress.out_at is None and not body.leaving:
        # Nobody looks at a pod that was given up, and this one may be deleted yet.
        nap = delete_to_land(progress, now, ended.error)
        return Step(ticket, nap, news) if nap is not None else step
    return step


def after(ticket: RestartTicket, action: Action, answer: Answer, now: datetime) -> RestartTicket:
    """Return the ticket with what came back from an effect.

    Only what cannot be seen later is taken from an answer: that a change was acknowledged, or
    refused. Whether it took place is read back.
    """
    if isinstance(action, SetGlobal):
        return _after_set(ticket, action, answer, now)
    if isinstance(action, ResetGlobal):
        ticket = replace(ticket, reset_open=False)
        if answer.verdict is Verdict.DONE:
            return reset_sent(ticket, action.keys)
        if answer.verdict is Verdict.UNKNOWN:
            ticket = replace(ticket, reset_lost_at=now)
        return replace(ticket, error=answer.reason)
    progress = ticket.current
    if progress is None:
        return ticket
    if isinstance(action, DeletePod):
        return ticket.with_pod(_after_delete(progress, action, answer, now))
    if isinstance(action, DecommissionNode) and progress.drain is not None:
        if answer.verdict is Verdict.REFUSED and not action.again:
            return _failed(ticket, progress, f"DECOMMISSION was refused: {answer.reason}", now)
        if answer.verdict is Verdict.NOT_SENT and not action.again:
            return ticket.with_pod(progress.as_before_its_drain())
        if answer.verdict is Verdict.NOT_SENT:
            return ticket.with_pod(replace(progress, drain=progress.drain.not_sent_again()))
        if answer.verdict is Verdict.REFUSED:
            drain = replace(progress.drain, refused=answer.reason or "refused")
            return ticket.with_pod(replace(progress, drain=drain))
        if answer.verdict is not Verdict.DONE:
            drain = replace(progress.drain, lost_at=now)
            return ticket.with_pod(replace(progress, drain=drain))
    return ticket


def _news(before: PodProgress, progress: PodProgress, seen: Observation) -> Iterator[RestartEvent]:
    """Tell what this look was the first to see."""
    if before.out_at is None and progress.out_at is not None:
        fields = {"strategy": progress.strategy.value, "how": body_of(progress, seen).ended}
        yield RestartEvent(EventName.EXITED, progress.name, fields)
    if before.drain is not None and progress.drain is None and seen.call is not None:
        fields = {"reason": f"DECOMMISSION was not sent: {seen.call.reason}"}
        yield RestartEvent(EventName.NOTE, progress.name, fields, warning=True)
    if not before.uid_after and progress.uid_after:
        yield RestartEvent(EventName.DELETED, progress.name, {"uid_after": progress.uid_after})


def _after_set(
    ticket: RestartTicket, action: SetGlobal, answer: Answer, now: datetime
) -> RestartTicket:
    was, progress = ticket.remembered(action.key), ticket.current
    if was is None:
        return ticket
    if answer.verdict is Verdict.DONE:
        if action.persistent:
            return ticket.with_setting(replace(was, unanswered=False, persist_done=True))
        return ticket.with_setting(replace(was, unanswered=False))
    if answer.verdict is Verdict.UNKNOWN:
        ticket = ticket.with_setting(replace(was, lost_at=now))
    if action.persistent:
        return replace(ticket, error=answer.reason)
    if answer.verdict is Verdict.REFUSED:
        ticket = ticket.with_setting(replace(was, unanswered=False))
        if progress is not None and not progress.touched:
            reason = f"{as_sql(action)} was refused: {answer.reason}"
            return _failed(ticket, progress, reason, now)
    return ticket


def _after_delete(
    progress: PodProgress, action: DeletePod, answer: Answer, now: datetime
) -> PodProgress:
    if answer.verdict is Verdict.UNKNOWN:
        return replace(progress, delete_lost_at=now)
    if answer.verdict is Verdict.REFUSED:
        return replace(progress, delete_refused=answer.reason or "refused")
    if answer.verdict in _NOTHING_DELETED and action.first:
        # Whoever deletes next decides anew, and so looks anew.
        state = DecommissionState.PREPARING if progress.drain is None else progress.state
        return replace(progress, deleted_at=None, state=state)
    return progress


def _failed(
    ticket: RestartTicket, progress: PodProgress, reason: str, now: datetime
) -> RestartTicket:
    failed = replace(progress, state=DecommissionState.FAILED, error=reason, ended_at=now)
    return ticket.with_pod(failed)


def _blind(seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime) -> Step:
    """Kubernetes does not answer while a pod is under way: look again, and give up in the end.

    Nothing is put back before somebody has seen what became of the drain. Where nothing was sent
    that drains, there is nothing to see: a stop ends the wait, and so does the time to prepare.
    """
    progress = ticket.current
    if progress is None:
        return _between(seen, ticket, policy, now)
    since = ticket.blind_since or now
    ticket = replace(ticket, blind_since=since)
    if progress.touched:
        until = since + timedelta(seconds=2 * progress.drain_limit_s + policy.ready_margin_s)
        stop = ""
    else:
        moments = (progress.began_at, ticket.resumed_at)
        began = max((each for each in moments if each is not None), default=since)
        until = began + timedelta(seconds=policy.prepare_timeout_s)
        stop = ticket.stop
    if now < until and not stop:
        return Step(ticket, Await("Kubernetes to answer", seen.kube_error, since, until))
    blind_s = (now - since).total_seconds()
    reason = stop or f"Kubernetes did not answer for {blind_s:.0f} s: {seen.kube_error}"
    ticket = _failed(ticket, progress, reason, now)
    return _between(seen, ticket, policy, now)


def _between(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime
) -> Step:
    """No pod is under way: pay what is owed, then conclude, rest, or begin the next one."""
    if (nap := hook_to_end(seen, ticket, policy, now)) is not None:
        return Step(ticket, nap)
    paid = pay_back(seen, ticket, policy, now)
    ticket = paid.ticket
    if paid.action is not None:
        return Step(ticket, paid.action, paid.events)
    if (nap := still_to_land(ticket, policy, now)) is not None:
        return Step(ticket, nap)
    ticket, events = _skip_what_is_done(seen, ticket, now)
    conclusion = _conclusion(ticket)
    if conclusion is not None:
        ticket, conclusion = kept_open(seen, ticket, conclusion)
        return Step(ticket, conclusion, events)
    step = _next_turn(seen, ticket, policy, now)
    return replace(step, events=(*events, *step.events))


def _conclusion(ticket: RestartTicket) -> Conclude | None:
    failed = [pod for pod in ticket.pods if pod.state is DecommissionState.FAILED]
    done = sum(pod.state is DecommissionState.COMPLETED for pod in ticket.pods)
    left = f"; {done} of {len(ticket.pods)} pods were restarted" if len(ticket.pods) > 1 else ""
    if ticket.stop and (failed or ticket.pending):
        for pod in failed:
            if pod.error == ticket.stop and pod.out_at is not None:
                left += f"; {pod.name} was taken out, its return was not awaited"
        return Conclude(RestartOutcome.STOPPED, ticket.stop + left)
    if failed:
        return Conclude(RestartOutcome.FAILED, f"{failed[0].name}: {failed[0].error}{left}")
    if ticket.refusal:
        outcome = RestartOutcome.FAILED if ticket.begun else RestartOutcome.REFUSED
        return Conclude(outcome, "; ".join(ticket.refusal) + left)
    return None if ticket.pending else Conclude(RestartOutcome.COMPLETED)


def _skip_what_is_done(
    seen: Observation, ticket: RestartTicket, now: datetime
) -> tuple[RestartTicket, tuple[RestartEvent, ...]]:
    """Leave out pods that somebody else has replaced since: nobody is restarted twice."""
    events: list[RestartEvent] = []
    for progress in ticket.pending if seen.kube is not None else ():
        pod = seen.kube.pod(progress.name) if seen.kube is not None else None
        if pod is None or pod.uid == progress.uid:
            continue
        reason = "replaced by somebody else since this restart began, so it is left alone"
        events.append(RestartEvent(EventName.SKIPPED, progress.name, {"reason": reason}))
        ticket = ticket.with_pod(
            replace(
                progress,
                state=DecommissionState.SKIPPED,
                uid_after=pod.uid,
                ended_at=now,
                notes=(reason,),
            )
        )
    return ticket, tuple(events)


def _next_turn(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime
) -> Step:
    first = not ticket.begun
    if not first and (nap := _rest(seen, ticket, policy, now)) is not None:
        return nap
    progress = next_pod(ticket.pending, seen.crate) if seen.crate is not None else None
    progress = progress or ticket.pending[0]
    verdict = judge(seen, ticket, progress.name, policy)
    if isinstance(verdict, Candidate) and seen.kube is not None and seen.crate is not None:
        ticket, events = _begun(ticket, progress, verdict, seen.crate, now)
        turn = Turn(seen, seen.kube, ticket, policy, now, _between, events)
        return pod_step(turn, verdict)
    refusals = [] if isinstance(verdict, Candidate) else verdict
    sentences = tuple(refusal.sentence for refusal in refusals)
    since = ticket.resting_since or now
    until = since + timedelta(seconds=policy.rest_timeout_s)
    if not first and now < until and all(refusal.passing for refusal in refusals):
        ticket = replace(ticket, resting_since=since)
        what = f"the cluster to be fit for the restart of {progress.name}"
        return Step(ticket, Await(what, "; ".join(sentences), since, until))
    fields = {"reason": "; ".join(sentences)}
    name = EventName.REFUSED if first else EventName.FAILED
    event = RestartEvent(name, progress.name, fields, warning=True)
    ticket = replace(ticket, refusal=sentences)
    step = _between(seen, ticket, policy, now)
    return replace(step, events=(event, *step.events))


def _rest(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy, now: datetime
) -> Step | None:
    """Wait for GREEN and `settle_s` without relocation between two pods; None when it was so."""
    since = ticket.resting_since or now
    until = since + timedelta(seconds=policy.rest_timeout_s)
    crate = seen.crate
    if crate is not None and _at_rest(crate):
        begun, quiet_s = steady_s(ticket.quiet_since, ticket.quiet_seen_at, now)
        ticket = replace(ticket, quiet_since=begun, quiet_seen_at=now, resting_since=since)
        if quiet_s >= policy.settle_s:
            return None
        far = f"at rest for {quiet_s:.0f} s of {policy.settle_s:.0f} s"
    else:
        ticket = replace(ticket, quiet_since=None, quiet_seen_at=None, resting_since=since)
        far = (
            f"CrateDB does not answer ({seen.crate_error})"
            if crate is None
            else f"{crate.health}, {crate.relocating} relocating, {crate.initializing} recovering"
        )
    if now >= until:
        sentence = f"the cluster did not come to rest in {policy.rest_timeout_s:.0f} s: {far}"
        event = RestartEvent(EventName.FAILED, fields={"reason": sentence}, warning=True)
        step = _between(seen, replace(ticket, refusal=(sentence,)), policy, now)
        return replace(step, events=(event, *step.events))
    return Step(ticket, Await("the cluster to be at rest between two pods", far, since, until))


def _at_rest(crate: CrateSeen) -> bool:
    return crate.health == "GREEN" and crate.relocating == 0 and crate.initializing == 0


def _begun(
    ticket: RestartTicket,
    progress: PodProgress,
    candidate: Candidate,
    crate: CrateSeen,
    now: datetime,
) -> tuple[RestartTicket, list[RestartEvent]]:
    """Write down all that must be known to put things back, before the first effect."""
    detection, pod = candidate.detection, candidate.pod
    began = replace(
        progress,
        state=DecommissionState.PREPARING,
        restart_count=pod.container.restart_count if pod.container is not None else 0,
        strategy=detection.strategy,
        min_availability=detection.min_availability,
        node_name=candidate.node.name,
        timeout_s=detection.timeout_s,
        drain_limit_s=detection.drain_limit_s,
        grace_s=detection.grace_s,
        began_at=now,
        notes=detection.warnings,
    )
    # Nothing is owed here, so what is now is what was before us.
    ticket = replace(
        ticket.with_pod(began),
        settings=remember(crate.settings),
        reset_lost_at=None,
        quiet_since=None,
        quiet_seen_at=None,
        blind_since=None,
    )
    name = progress.name
    told = [
        RestartEvent(EventName.ANALYSIS, name),
        RestartEvent(
            EventName.HOOK,
            name,
            {
                "has_prestop_hook": detection.has_prestop_hook,
                "has_dc_util": detection.has_dc_util,
            },
        ),
        RestartEvent(
            EventName.STRATEGY,
            name,
            {"strategy": detection.strategy.value, "timeout_s": detection.timeout_s},
        ),
    ]
    told += [
        RestartEvent(EventName.NOTE, name, {"reason": text}, warning=True)
        for text in detection.warnings
    ]
    return ticket, told
