"""Close a restart by an operator's word, where a look at its cluster does not contradict it."""

from __future__ import annotations

import os
from dataclasses import replace

import dagster as dg

from caretaker.decommission.facts import not_out_yet
from caretaker.decommission.model import Observation
from caretaker.decommission.putting_back import (
    learn_leftovers,
    next_payment,
    put_back_by_hand,
    remedy,
)
from caretaker.decommission.steps import as_sql
from caretaker.errors import RefusedError, UnsafeError
from ops.decommission_way import Way, crates_of, kube_again
from ops.logs import on_one_line
from ops.owners import death_seen_from, end_ghost
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.restarts import look
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings
from resources.state_store import RestartRow, StateStore

#: How a restart ends that an operator closes.
BY_HAND = "CLOSED_BY_HAND"


def close_restart_by_hand(
    store: StateStore,
    row: RestartRow,
    reason: str,
    instance: dg.DagsterInstance,
    *,
    dry_run: bool,
    gone: bool = False,
) -> str:
    """Close it and return what is kept as the reason.

    UnsafeError where its run lives, where a pod is still on its way out, or where something that
    it or dc_util set is still set, or may be: one whose cluster is not found is closed only on the
    word that it is `gone`.
    """
    if row.next_try_at is None and not death_seen_from(instance)(row.owner, row.heartbeat_at):
        raise UnsafeError(
            f"ticket r{row.id} of {row.cluster} belongs to run {row.owner.run_id}, which is alive",
            target=row.cluster,
        )
    found = _what_is_left(row, gone=gone)
    said = on_one_line(f"{found}closed by an operator: {reason}")
    if not dry_run:
        entry = store.begin_effect(row, f"-- {said}")
        store.close_restart(row, row.ticket, outcome=BY_HAND, reason=said, as_read=True)
        store.end_effect(entry, "ok")
        store.release_lock(row.cluster_id, row.owner.run_id)
        end_ghost(instance, row.owner, row.heartbeat_at)
    return said


def _what_is_left(row: RestartRow, *, gone: bool) -> str:
    """Return a word about the cluster; UnsafeError where something is owed there."""
    ticket, way = row.ticket, replace(Way.of(row.way), namespace=row.namespace)
    with kube_again(way, KubernetesSettings.from_environment(os.environ)) as kube:
        try:
            found = kube.cluster(row.cluster_name, row.namespace)
        except RefusedError as error:
            if not str(error).startswith(("Cluster not found", "Namespace not found")):
                raise
            _check_that_it_is_gone(row, kube, str(error), gone=gone)
            return "the cluster is gone; "
        seen = kube.seen(found, container=ticket.policy.container)
        with crates_of(
            kube,
            seen,
            way,
            CrateDBResource.with_values(os.environ),
            namespace=row.namespace,
            container=ticket.policy.container,
            statement_timeout_s=ticket.policy.statement_timeout_s,
        ) as (crates, cluster_id):
            if cluster_id != row.cluster_id:
                said = f"the cluster is another one by now ({cluster_id})"
                _check_that_it_is_gone(row, kube, said, gone=gone)
                return f"{said}; "
            pods = [pod.name for pod in seen.pods if pod.ready and pod.deletion_at is None]
            now = look(crates.address or crates.in_pod(pods[-1]))
    # Before settings: put back by hand now, they would end the drain.
    observed = Observation(seen, now)
    if (pod := not_out_yet(ticket, observed)) is not None:
        raise UnsafeError(
            f"ticket r{row.id} stays open: pod {pod.name} of {row.cluster} was sent on its way out "
            "and is not out yet",
            target=row.cluster,
            hint=f"close it once the pod is out, or caretaker tickets restore r{row.id} sees to it",
        )
    ticket = put_back_by_hand(learn_leftovers(ticket, observed), now.settings)
    if next_payment(ticket, now.settings) is not None:
        owed = "; ".join(as_sql(each) for each in remedy(ticket))
        raise UnsafeError(
            f"ticket r{row.id} stays open: {row.cluster} has settings that were promised back",
            target=row.cluster,
            hint=f"caretaker tickets restore r{row.id}, or run: {owed}",
        )
    return ""


def _check_that_it_is_gone(
    row: RestartRow, kube: KubernetesClient, said: str, *, gone: bool
) -> None:
    """Raise UnsafeError where a cluster that was not found may be there all the same."""
    begun = Way.of(row.way)
    if begun.server and begun.server != kube.server:
        raise UnsafeError(
            f"ticket r{row.id} stays open: {said}, at {kube.server} (context {kube.context}), and "
            f"its restart was begun at {begun.server} (context {begun.context})",
            target=row.cluster,
            hint="KUBECONFIG and CARETAKER_KUBE_CONTEXT say where to look",
        )
    owed = "; ".join(as_sql(each) for each in remedy(row.ticket))
    if owed and not gone:
        raise UnsafeError(
            f"ticket r{row.id} stays open: {row.cluster} has settings that were promised back, and "
            f"cannot be asked: {said}",
            target=row.cluster,
            hint=f"--gone says that the cluster is no more, else run there: {owed}",
        )
