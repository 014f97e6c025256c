"""How a restart begins, is planned without being begun, or is taken over from a dead run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import dagster as dg

from caretaker.decommission.cluster_settings import ALLOCATION
from caretaker.decommission.model import KubeSeen
from caretaker.decommission.plan import plan_rolling_restart
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.restart import begin, resumed, stopped
from caretaker.decommission.selection import choose_pods
from caretaker.decommission.steps import describe
from caretaker.decommission.ticket import RestartTicket
from caretaker.errors import RefusedError, UnsafeError
from ops.decommission_loop import Hands, Restart
from ops.decommission_run import ClusterReport, PlannedPod, cluster_ref
from ops.events import Event
from ops.logs import BEGAN
from ops.owners import death_seen_from, end_ghost
from resources.clock import utc_now
from resources.cratedb.retries import retrying
from resources.kubernetes.clusters import ClusterFound
from resources.state_store import RestartRow, StateStore
from resources.state_store.restarts import already_open

#: What Dagster calls a run that an operator has terminated; that of a dead one stays CANCELING.
_CALLED_OFF = frozenset({dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED})


def new_ticket(
    found: ClusterFound,
    cluster_id: str,
    seen: KubeSeen,
    policy: RestartPolicy,
    pods: Sequence[str] | None = None,
    *,
    only_cordoned: bool = False,
) -> RestartTicket:
    """Return a ticket for the pods that are meant; nothing is promised by it yet."""
    chosen = choose_pods(seen, pods, only_cordoned=only_cordoned)
    return begin(cluster_ref(found, cluster_id), chosen, seen, policy, utc_now())


def take_the_cluster(
    context: dg.OpExecutionContext, hands: Hands, cluster_id: str, name: str
) -> None:
    """Take the cluster's lock, which resets share; UnsafeError names whoever has it."""
    if waiting := hands.store.open_restarts(cluster_id):
        raise already_open(waiting[0])
    _may_do_the_rest(hands)
    hands.store.acquire_lock(
        cluster_id, hands.owner, purpose=hands.purpose, is_dead=death_seen_from(context.instance)
    )
    context.instance.add_run_tags(context.run_id, {BEGAN: name})
    hands.emit(
        Event("note", None, {"reason": f"the cluster {name} is ours", "run_id": context.run_id})
    )


def _may_do_the_rest(hands: Hands) -> None:
    """Raise RefusedError without a right that would be missed only behind the first statement."""
    kube, namespace = hands.performer.crates.kube, hands.performer.namespace
    for verb in ("get", "delete"):
        retrying(partial(kube.require, verb, "pods", namespace))


def planned(hands: Hands, ticket: RestartTicket) -> ClusterReport:
    """Return the plan of every pod, in order; nothing is written anywhere."""
    if waiting := hands.store.open_restarts(ticket.cluster.id):
        # Its drain is what would be seen, and told as somebody else's.
        raise already_open(waiting[0])
    _may_do_the_rest(hands)
    seen = hands.looker.observe(ticket)
    where = ticket.cluster
    if seen.crate is None or seen.kube is None:
        raise RefusedError(f"{where}: {seen.kube_error or seen.crate_error}", target=str(where))
    plans = plan_rolling_restart(seen, ticket, ticket.policy)
    kept = ticket.policy.min_availability
    pods = tuple(
        PlannedPod(
            pod=plan.pod,
            strategy=plan.strategy.value,
            actions=tuple(describe(action, kept) for action in plan.actions),
            refusals=plan.refusals,
            explanation=plan.explanation,
            warnings=plan.warnings,
        )
        for plan in plans
    )
    refused = [f"{each.pod}: {'; '.join(each.refusals)}" for each in pods if each.refusals]
    reason = refused[0] if refused else "" if pods else "no pod is to be restarted"
    window = seen.window.why if seen.window is not None else ""
    health = f"{seen.crate.health}, allocation {seen.crate.settings.get(ALLOCATION)}"
    hands.emit(Event("note", None, {"reason": f"{where}: {health}" + (window and f", {window}")}))
    return ClusterReport(where.namespace, where.name, where.id, "PLANNED", reason, plan=pods)


def stop(store: StateStore, ticket_id: int, epoch: int) -> None:
    """Remember a stop that came while nobody was at work on a restart of ours."""
    row = store.restart(ticket_id)
    store.save_restart(replace(row, epoch=epoch), stopped(row.ticket, utc_now()))


def abandoned(store: StateStore, ticket_id: int, context: dg.OpExecutionContext) -> RestartRow:
    """Return the open restart of a dead run; UnsafeError where its run lives."""
    row = store.restart(ticket_id)
    if row.closed_at is not None:
        raise RefusedError(f"ticket r{row.id} of {row.cluster} is closed", target=row.cluster)
    dead = death_seen_from(context.instance)(row.owner, row.heartbeat_at)
    if row.next_try_at is None and not dead:
        raise UnsafeError(
            f"ticket r{row.id} of {row.cluster} belongs to run {row.owner.run_id}, which is alive "
            "and will put everything back itself",
            target=row.cluster,
        )
    return row


def _as_left(instance: dg.DagsterInstance, row: RestartRow) -> RestartTicket:
    """Return the ticket of a dead run, resumed; stopped where an operator had called the run off.

    A run that was terminated when its process was dead already could not write that down.
    """
    now = utc_now()
    ticket, run = resumed(row.ticket, now), instance.get_run_by_id(row.owner.run_id)
    if run is None or run.status not in _CALLED_OFF:
        return ticket
    return stopped(ticket, now, "its run was canceled")


def taken_over(
    context: dg.OpExecutionContext, hands: Hands, row: RestartRow, cluster_id: str
) -> Restart:
    """Make a dead run's restart ours: from here on the old owner's effects are refused."""
    if cluster_id != row.cluster_id:
        raise RefusedError(
            f"ticket r{row.id} is of cluster {row.cluster_id}, and what is called {row.cluster} "
            f"now is cluster {cluster_id}",
            target=row.cluster,
        )
    store = hands.store
    # Who is dead for its ticket is dead for the cluster.
    store.release_lock(cluster_id, row.owner.run_id)
    store.acquire_lock(
        cluster_id, hands.owner, purpose=row.purpose, is_dead=death_seen_from(context.instance)
    )
    try:
        held = store.take_over_restart(row, hands.owner, _as_left(context.instance, row))
    except UnsafeError:
        # Its owner lives after all, and works under this lock.
        store.release_lock(cluster_id, hands.owner.run_id)
        store.acquire_lock(
            cluster_id, row.owner, purpose=row.purpose, is_dead=death_seen_from(context.instance)
        )
        raise
    # Its sensor will not see the old owner any more.
    end_ghost(context.instance, row.owner, row.heartbeat_at)
    current = held.ticket.current
    stood = f"{current.name} in {current.state.value}" if current else "no pod under way"
    reason = f"taking over r{row.id} of run {row.owner.run_id}, which died with {stood}"
    hands.emit(Event("note", None, {"reason": reason, "run_id": context.run_id}))
    return Restart(hands, held.ticket, held)
