"""What the steps of the restart jobs share: their ground, their hands and their report."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import dagster as dg

from caretaker.decommission.model import ClusterRef, KubeSeen
from caretaker.decommission.outcome import DecommissionResult, results_of
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.putting_back import remedy
from caretaker.decommission.steps import Conclude, RestartOutcome, as_sql
from caretaker.decommission.ticket import RestartTicket, ticket_from
from caretaker.decommission.windows import entries_for
from caretaker.errors import CaretakerError
from ops.decommission_look import Looker
from ops.decommission_loop import Hands, Restart
from ops.decommission_perform import Performer
from ops.decommission_way import Way, crates_of
from ops.events import Event, emit
from ops.guard import OrphanedError, heartbeat, supervised
from ops.owners import owner_of
from ops.stops import heard_stops
from resources.clock import Clock, utc_now
from resources.cratedb.resource import CrateDBResource
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.clusters import ClusterFound
from resources.kubernetes.resource import KubernetesResource
from resources.state_store import DecommissionRow, RestartRow
from resources.state_store.resource import StateStoreResource

#: Exit code of what a safety check refused, nothing touched.
REFUSED = 3

#: What a stop raises inside a step of Dagster's.
STOPS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt, OrphanedError)

#: Between two tries to put back what could not be: doubled from here to the cap.
FIRST_RETRY_S, RETRY_CAP_S = 30.0, 1800.0


@dataclass(frozen=True)
class Journey:
    """One cluster's restart on its way from step to step.

    Attributes:
        document: The ticket as JSON; the store's is the truth once there is a row.
        restart_id, epoch: The row; None until something is to be remembered.
    """

    cluster: str
    namespace: str
    cluster_id: str
    purpose: str
    way: Way
    document: str
    policy: RestartPolicy
    restart_id: int | None = None
    epoch: int = 0
    report: "ClusterReport | None" = None
    dry_run: bool = False

    @property
    def ticket(self) -> RestartTicket:
        """The ticket that it carries."""
        return ticket_from(self.document)


@dataclass(frozen=True)
class PlannedPod:
    """What a dry run says of one pod, in order."""

    pod: str
    strategy: str
    actions: tuple[str, ...]
    refusals: tuple[str, ...] = ()
    explanation: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterReport:
    """What became of one cluster, pod by pod.

    Attributes:
        outcome: PLANNED, LEFT (a cluster before it failed), LEFT_OPEN (its ticket stays) or how its
            restart ended.
        remedy: What a person must send where settings could not be put back.
    """

    namespace: str
    name: str
    cluster_id: str
    outcome: str
    reason: str = ""
    results: tuple[DecommissionResult, ...] = ()
    plan: tuple[PlannedPod, ...] = ()
    remedy: tuple[str, ...] = ()
    restart_id: int | None = None

    @property
    def code(self) -> int:
        """What a script sees: 0 done, 3 refused and nothing touched, 1 anything else."""
        if self.outcome == "PLANNED":
            return REFUSED if any(each.refusals for each in self.plan) else 0
        return {RestartOutcome.COMPLETED.value: 0, RestartOutcome.REFUSED.value: REFUSED}.get(
            self.outcome, 1
        )


@dataclass(frozen=True)
class RestartReport:
    """What a run did, cluster by cluster."""

    clusters: tuple[ClusterReport, ...] = ()
    dry_run: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """3 only where nothing at all was touched."""
        bad = {each.code for each in self.clusters if each.outcome != "LEFT"} - {0}
        if not bad:
            return 0
        touched = any(each.results for each in self.clusters if each.code == 0)
        return REFUSED if bad == {REFUSED} and not touched else 1


@contextmanager
def kube_client(kubernetes: KubernetesResource, way: Way) -> Iterator[KubernetesClient]:
    """A client for the context and namespace of a run."""
    with KubernetesClient(way.settings(kubernetes.settings)) as client:
        yield client


@contextmanager
def hands(
    context: dg.OpExecutionContext,
    kube: KubernetesClient,
    found: ClusterFound,
    seen: KubeSeen,
    resources: tuple[CrateDBResource, StateStoreResource],
    *,
    policy: RestartPolicy,
    way: Way,
    purpose: str,
) -> Iterator[tuple[Hands, str]]:
    """Give a step its clients, its owner record and its voice, its heart beating meanwhile."""
    cratedb, state = resources
    clock, namespace = Clock(), found.ref.namespace
    with ExitStack() as open_now:
        crates, cluster_id = open_now.enter_context(
            crates_of(
                kube,
                seen,
                way,
                cratedb,
                namespace=namespace,
                container=policy.container,
                statement_timeout_s=policy.statement_timeout_s,
            )
        )
        if crates.note:
            emit(context, Event("note", None, {"reason": crates.note}, level=logging.WARNING))
        look = open_now.enter_context(kube.look(found, container=policy.container))
        watched = supervised(context.run_tags)
        beating = heartbeat(state.store, context.run_id, clock, watch_parent=watched)
        guard = open_now.enter_context(beating)
        guard.stop_again = open_now.enter_context(heard_stops())
        looker = Looker(look, crates, state.store, clock, cluster_id, way.parsed_windows)
        performer = Performer(crates, state.store, clock, namespace)
        made = Hands(
            looker=looker,
            performer=performer,
            store=state.store,
            clock=clock,
            guard=guard,
            owner=owner_of(context.run_id, a_process_each=False),
            emit=lambda event: emit(context, event),
            purpose=purpose,
            way=way.begun_with(kube).as_document(),
            stops=STOPS,
        )
        yield made, cluster_id


def concluded(restart: Restart) -> ClusterReport:
    """Close the books on a restart that has ended, and return its report."""
    conclusion, store = restart.conclusion, restart.hands.store
    if conclusion is None:
        raise AssertionError("asked only of a restart that has ended")
    ticket, now = restart.ticket, utc_now()
    results = tuple(results_of(ticket))
    rows = [
        DecommissionRow.of_result(each, ticket.cluster, restart.hands.owner.run_id, now)
        for each in results
    ]
    if restart.held is None:
        if conclusion.outcome is RestartOutcome.REFUSED:
            restart.patiently(lambda: store.record_decommissions(rows[:1]))
    elif conclusion.outcome is RestartOutcome.NOT_RESTORED:
        _call_for_a_human(restart, restart.held, conclusion)
    else:
        closing = partial(
            store.close_restart,
            restart.held,
            ticket,
            outcome=conclusion.outcome.value,
            reason=conclusion.reason,
            # Whose turn never came is no decommission that failed.
            ended=[row for row in rows if row.started_at is not None],
        )
        restart.patiently(closing)
    owner = restart.hands.owner
    restart.patiently(lambda: store.release_lock(ticket.cluster.id, owner.run_id))
    return report_of(ticket, conclusion, restart.held)


def report_of(
    ticket: RestartTicket, conclusion: Conclude, held: RestartRow | None
) -> ClusterReport:
    """Return what became of a cluster."""
    return ClusterReport(
        namespace=ticket.cluster.namespace,
        name=ticket.cluster.name,
        cluster_id=ticket.cluster.id,
        outcome=conclusion.outcome.value,
        reason=conclusion.reason,
        results=tuple(results_of(ticket)),
        remedy=tuple(as_sql(each) for each in conclusion.remedy),
        restart_id=held.id if held is not None else None,
    )


def left_open(held: RestartRow, ticket: RestartTicket, why: str) -> ClusterReport:
    """Return the report of a cluster whose run ends while something is promised there."""
    reason = (
        f"{why}: ticket r{held.id} stays open, the sensor finishes it, or: "
        f"caretaker tickets restore r{held.id}"
    )
    return ClusterReport(
        held.namespace,
        held.cluster_name,
        held.cluster_id,
        "LEFT_OPEN",
        reason,
        remedy=tuple(as_sql(each) for each in remedy(ticket)),
        restart_id=held.id,
    )


def _call_for_a_human(restart: Restart, held: RestartRow, conclusion: Conclude) -> None:
    pause_s = min(RETRY_CAP_S, FIRST_RETRY_S * 2 ** min(held.attempts, 10))
    store, again_at = restart.hands.store, utc_now() + timedelta(seconds=pause_s)
    restart.held = restart.patiently(
        lambda: store.restart_failed(held, restart.ticket, conclusion.reason, again_at)
    )
    owed = "; ".join(as_sql(each) for each in conclusion.remedy)
    reason = f"MANUAL INTERVENTION REQUIRED: {restart.ticket.cluster}: {conclusion.reason}"
    fields = {"reason": f"{reason}; run: {owed}", "sql": owed}
    restart.hands.emit(Event("critical", None, fields, logging.CRITICAL))


def cluster_ref(found: ClusterFound, cluster_id: str) -> ClusterRef:
    """Return the cluster's own name, with its id."""
    return ClusterRef(found.ref.namespace, found.ref.name, cluster_id)


def tell_of_windows(context: dg.OpExecutionContext, way: Way, ticket: RestartTicket) -> None:
    """Say that a file with windows was given and has none for this cluster."""
    windows, cluster = way.parsed_windows, ticket.cluster
    if way.windows and not entries_for(windows, cluster, ticket.statefulsets):
        there = ", ".join(windows) or "none"
        reason = f"the windows file has no entry for {cluster} (there: {there})"
        emit(context, Event("note", None, {"reason": reason}, level=logging.WARNING))


def note(context: dg.OpExecutionContext, error: CaretakerError) -> None:
    """Say what went wrong beside the point."""
    emit(context, Event("note", None, {"reason": str(error)}, level=logging.WARNING))
