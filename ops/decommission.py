"""The restart jobs' steps, thin: each hands the cluster to `ops.decommission_loop`."""

# No postponed annotations here: Dagster reads those of an op as they stand.
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg

from caretaker.decommission.model import ClusterRef
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.steps import (
    Await,
    Conclude,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    Step,
)
from caretaker.decommission.strategy import detect
from caretaker.decommission.ticket import DecommissionState, RestartTicket
from caretaker.errors import CaretakerError, FencedError, RefusedError, UnsafeError
from ops.decommission_begin import (
    abandoned,
    new_ticket,
    planned,
    stop,
    take_the_cluster,
    taken_over,
)
from ops.decommission_config import PodStepConfig, RollingRestartConfig
from ops.decommission_history import publish
from ops.decommission_loop import Hands, Restart, patiently
from ops.decommission_run import (
    REFUSED,
    STOPS,
    ClusterReport,
    Journey,
    RestartReport,
    concluded,
    hands,
    kube_client,
    left_open,
    note,
    tell_of_windows,
)
from ops.decommission_way import Way, kube_again, windows_text
from ops.errors import DECLINED, final_errors, step_errors
from ops.events import Event, emit
from resources.clock import Clock
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.retries import retrying
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.clusters import ClusterFound
from resources.kubernetes.resource import KubernetesResource
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource

#: The steps of one pod, in the order of its life. A step goes on through whatever belongs to it or
#: to one before it: a node that must be drained again is drained wherever the run has got to.
STAGES = ("prepare", "decommission", "delete_pod", "reset_allocation", "await_pod", "await_green")

_OF_STATE = {
    DecommissionState.PREPARING: "prepare",
    DecommissionState.DRAINING: "decommission",
    DecommissionState.DELETING: "delete_pod",
    DecommissionState.AWAITING_POD: "await_pod",
    DecommissionState.AWAITING_GREEN: "await_green",
}


def stage_of(step: Step) -> str:
    """Return the step to which an action belongs; '' for the end."""
    action, current = step.action, step.ticket.current
    if isinstance(action, Conclude):
        return ""
    if isinstance(action, DeletePod):
        return "delete_pod"
    if isinstance(action, DecommissionNode):
        return "decommission"
    if isinstance(action, ResetGlobal) or (isinstance(action, SetGlobal) and action.persistent):
        return "reset_allocation"
    if isinstance(action, SetGlobal):
        drains = current is not None and current.drain is not None
        return "decommission" if drains else "prepare"
    if isinstance(action, Await) and current is not None:
        return _OF_STATE.get(current.state, "await_green")
    return "await_green"


@dg.op(tags={"kind": "kubernetes"}, description="Find the pod and how its node is drained.")
def detect_strategy(
    context: dg.OpExecutionContext,
    config: PodStepConfig,
    kubernetes: KubernetesResource,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Return the pod's cluster with a ticket that promises nothing yet."""
    with step_errors():
        policy = config.policy()
        way = Way(config.context, config.namespace, config.sql, windows_text(config.windows))
        with kube_client(kubernetes, way) as kube:
            found = retrying(lambda: kube.cluster_of_pod(config.pod))
            seen = kube.seen(found, container=policy.container)
            pod = seen.pod(config.pod)
            statefulset = seen.statefulset(pod.statefulset) if pod is not None else None
            if pod is None or statefulset is None:
                raise RefusedError(f"Pod not found: {config.pod}", target=config.pod)
            detection = detect(statefulset, policy, pod)
            for line in (*detection.explanation, *detection.warnings):
                emit(context, Event("note", None, {"reason": line, "pod": pod.name}))
            purpose = "pod_decommission" if config.goal == "decommission" else "pod_restart"
            resources = (cratedb, state)
            with hands(
                context, kube, found, seen, resources, policy=policy, way=way, purpose=purpose
            ) as (_, cluster_id):
                ticket = new_ticket(found, cluster_id, seen, policy, [pod.name])
            tell_of_windows(context, way, ticket)
        context.add_output_metadata(
            {"strategy": detection.strategy.value, "timeout_s": detection.timeout_s}
        )
        return Journey(
            cluster=found.ref.name,
            namespace=found.ref.namespace,
            cluster_id=cluster_id,
            purpose=purpose,
            way=way,
            document=ticket.to_json(),
            policy=policy,
            dry_run=config.dry_run,
        )


@dg.op(tags={"kind": "cratedb"}, description="Refuse unless the cluster can spare the node now.")
def check_health(
    context: dg.OpExecutionContext,
    journey: Journey,
    kubernetes: KubernetesResource,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> Journey:
    """Take the cluster's lock and make every check once; nothing is touched."""
    with (
        step_errors(),
        _on_the_way(context, journey, kubernetes, (cratedb, state)) as (with_hands, cluster_id),
    ):
        if journey.dry_run:
            return replace(journey, report=planned(with_hands, journey.ticket))
        restart = Restart(with_hands, journey.ticket)
        take_the_cluster(context, with_hands, cluster_id, str(restart.ticket.cluster))
        try:
            restart.run(lambda step: isinstance(step.action, Conclude))
            if restart.conclusion is not None:
                return replace(journey, report=concluded(restart))
        except BaseException:
            state.store.release_lock(cluster_id, context.run_id)
            raise
    return journey


def _stage(name: str, description: str) -> dg.OpDefinition:
    """Return the op of one stage."""

    @dg.op(name=name, description=description)
    def stage(
        context: dg.OpExecutionContext,
        journey: Journey,
        kubernetes: KubernetesResource,
        cratedb: CrateDBResource,
        state: StateStoreResource,
    ) -> Journey:
        if journey.report is not None:
            return journey
        mine = STAGES[: STAGES.index(name) + 1]
        last = name == STAGES[-1]
        resources = (cratedb, state)
        with final_errors(), _going_on(context, journey, kubernetes, resources) as restart:
            restart.run(lambda step: last or stage_of(step) in mine)
            if restart.conclusion is not None:
                return replace(journey, report=concluded(restart))
            held = restart.held
            return replace(
                journey,
                document=restart.ticket.to_json(),
                restart_id=held.id if held is not None else None,
                epoch=held.epoch if held is not None else 0,
            )

    return stage


prepare = _stage("prepare", "Remember the settings, then set what a drain needs.")
decommission = _stage("decommission", "Drain the node, and see it drained by sys.shards.")
delete_pod = _stage("delete_pod", "Delete the pod, by its UID, and see its process end.")
reset_allocation = _stage("reset_allocation", "Put back every setting that was changed.")
await_pod = _stage(
    "await_pod",
    "Wait for the pod to be another one, and Ready. A decommission alone passes: it ends when the "
    "node is out.",
)
await_green = _stage(
    "await_green",
    "Wait for its node to be back, and the cluster GREEN. A decommission alone passes.",
)


@contextmanager
def _on_the_way(
    context: dg.OpExecutionContext,
    journey: Journey,
    kubernetes: KubernetesResource,
    resources: tuple[CrateDBResource, StateStoreResource],
) -> Iterator[tuple[Hands, str]]:
    """Make ready what a step needs."""
    with kube_client(kubernetes, journey.way) as kube:
        found = kube.cluster(journey.cluster, journey.namespace)
        seen = kube.seen(found, container=journey.policy.container)
        with hands(
            context,
            kube,
            found,
            seen,
            resources,
            policy=journey.policy,
            way=journey.way,
            purpose=journey.purpose,
        ) as ready:
            yield ready


@contextmanager
def _going_on(
    context: dg.OpExecutionContext,
    journey: Journey,
    kubernetes: KubernetesResource,
    resources: tuple[CrateDBResource, StateStoreResource],
) -> Iterator[Restart]:
    """Go on with a journey where it is, by what the store knows of it.

    To be made ready is part of the restart: what may pass is waited for, as by a look, and a stop
    is a stop of the restart.
    """
    store, restart, stops = resources[1].store, None, 0
    wait = partial(patiently, clock=Clock(), tell=partial(note, context))

    def ready() -> Restart:
        with ExitStack() as made:
            way = _on_the_way(context, journey, kubernetes, resources)
            made_ready = _ours(context, *made.enter_context(way), journey)
            open_now.enter_context(made.pop_all())
            return made_ready

    with ExitStack() as open_now:
        try:
            while restart is None:
                try:
                    restart = wait(ready)
                except STOPS:
                    stops += 1
                    if stops > 1 or journey.restart_id is None:
                        raise
                    wait(partial(stop, store, journey.restart_id, journey.epoch))
            restart.stops = stops
            yield restart
        except BaseException:
            if journey.restart_id is None and (restart is None or restart.held is None):
                store.release_lock(journey.cluster_id, context.run_id)
            raise


def _ours(
    context: dg.OpExecutionContext, with_hands: Hands, cluster_id: str, journey: Journey
) -> Restart:
    """Return the restart of this run; a step that is executed again, by another, takes it over."""
    store = with_hands.store
    if journey.restart_id is None:
        lock = store.lock(cluster_id)
        if lock is None or lock.owner.run_id != context.run_id:
            take_the_cluster(context, with_hands, cluster_id, str(journey.ticket.cluster))
        return Restart(with_hands, journey.ticket)
    row = store.restart(journey.restart_id)
    if row.owner.run_id != context.run_id:
        row = abandoned(store, row.id, context)
        return taken_over(context, with_hands, row, cluster_id)
    return Restart(with_hands, row.ticket, replace(row, epoch=journey.epoch))


@dg.op(
    tags={"kind": "kubernetes"},
    description="Restart one cluster after the other, one pod at a time; stop at a failure.",
)
def restart_in_turn(
    context: dg.OpExecutionContext,
    config: RollingRestartConfig,
    kubernetes: KubernetesResource,
    cratedb: CrateDBResource,
    state: StateStoreResource,
) -> RestartReport:
    """Carry every cluster through, or take over what a dead run has left."""
    reports: list[ClusterReport] = []
    resources = (cratedb, state)
    with step_errors():
        policy = config.policy()
        if config.ticket_id is not None:
            return RestartReport((_finish(context, config.ticket_id, kubernetes, resources),))
        way = Way(config.context, config.namespace, config.sql, windows_text(config.windows))
        with kube_client(kubernetes, way) as kube:
            clusters = _chosen(kube, config)
            for position, found in enumerate(clusters):
                try:
                    reports.append(_one(context, kube, found, config, policy, way, resources))
                except STOPS:
                    if not reports:
                        raise
                    reports.append(_stopped(found, state.store, context.run_id))
                except CaretakerError as error:
                    if len(clusters) == 1:
                        raise
                    # What becomes of the others is told all the same.
                    reports.append(_not_begun(found, error))
                # Of one that is refused nothing was touched: the others do not pay for it.
                if reports[-1].code not in {0, REFUSED} and not config.dry_run:
                    reports += [_left(each, found) for each in clusters[position + 1 :]]
                    break
    return RestartReport(tuple(reports), dry_run=config.dry_run)


def _chosen(kube: KubernetesClient, config: RollingRestartConfig) -> list[ClusterFound]:
    if not config.clusters:
        raise RefusedError("no cluster is named", hint="name clusters, or `all`")
    if config.clusters == ["all"]:
        found = kube.clusters()
        if not found:
            raise RefusedError(f"there is no CrateDB cluster in namespace {kube.namespace}")
    else:
        found = []
        for name in dict.fromkeys(config.clusters):
            namespace, _, short = name.rpartition("/")
            cluster = kube.cluster(short, namespace)
            if cluster not in found:
                found.append(cluster)
    if config.pods and len(found) > 1:
        raise RefusedError("pods are named by --pod for one cluster at a time")
    return found


def _one(
    context: dg.OpExecutionContext,
    kube: KubernetesClient,
    found: ClusterFound,
    config: RollingRestartConfig,
    policy: RestartPolicy,
    way: Way,
    resources: tuple[CrateDBResource, StateStoreResource],
) -> ClusterReport:
    seen = kube.seen(found, container=policy.container)
    if not config.pods and {each.replicas for each in seen.statefulsets} == {0}:
        # Its CrateDB cannot be asked, and need not be.
        outcome = "PLANNED" if config.dry_run else RestartOutcome.COMPLETED.value
        return _nothing_to_do(found.ref, outcome, "it is scaled to 0")
    purpose = "rolling_restart"
    with hands(context, kube, found, seen, resources, policy=policy, way=way, purpose=purpose) as (
        with_hands,
        cluster_id,
    ):
        ticket = new_ticket(
            found, cluster_id, seen, policy, config.pods, only_cordoned=config.only_cordoned
        )
        tell_of_windows(context, way, ticket)
        if config.dry_run:
            return planned(with_hands, ticket)
        return _restarted(context, with_hands, ticket)


def _not_begun(found: ClusterFound, error: CaretakerError) -> ClusterReport:
    outcome = RestartOutcome.REFUSED if isinstance(error, UnsafeError) else RestartOutcome.FAILED
    return ClusterReport(found.ref.namespace, found.ref.name, "", outcome.value, error.sentence)


def _stopped(found: ClusterFound, store: StateStore, run_id: str) -> ClusterReport:
    """Return the report of a cluster behind which the run ends, by what the store knows of it."""
    ours = [row for row in store.open_restarts() if row.owner.run_id == run_id]
    if ours:
        return left_open(ours[0], ours[0].ticket, "stopped")
    outcome, reason = RestartOutcome.STOPPED.value, "stopped before it was begun"
    return ClusterReport(found.ref.namespace, found.ref.name, "", outcome, reason)


def _restarted(
    context: dg.OpExecutionContext, with_hands: Hands, ticket: RestartTicket
) -> ClusterReport:
    cluster = ticket.cluster
    if not ticket.pods:
        return _nothing_to_do(cluster, RestartOutcome.COMPLETED.value)
    take_the_cluster(context, with_hands, cluster.id, str(cluster))
    restart = Restart(with_hands, ticket)
    try:
        restart.run()
        return concluded(restart)
    except BaseException as error:
        if restart.held is None:
            with_hands.store.release_lock(cluster.id, context.run_id)
        elif isinstance(error, CaretakerError) and not isinstance(error, (*STOPS, FencedError)):
            return left_open(restart.held, restart.ticket, str(error))
        raise


def _nothing_to_do(cluster: ClusterRef, outcome: str, why: str = "") -> ClusterReport:
    reason = "no pod is to be restarted" + (why and f": {why}")
    return ClusterReport(cluster.namespace, cluster.name, cluster.id, outcome, reason)


def _finish(
    context: dg.OpExecutionContext,
    ticket_id: int,
    kubernetes: KubernetesResource,
    resources: tuple[CrateDBResource, StateStoreResource],
) -> ClusterReport:
    store = resources[1].store
    row = abandoned(store, ticket_id, context)
    ticket, way = row.ticket, replace(Way.of(row.way), namespace=row.namespace)
    with kube_again(way, kubernetes.settings) as kube:
        found = retrying(lambda: kube.cluster(row.cluster_name, row.namespace))
        seen = retrying(lambda: kube.seen(found, container=ticket.policy.container))
        with hands(
            context,
            kube,
            found,
            seen,
            resources,
            policy=ticket.policy,
            way=way,
            purpose=row.purpose,
        ) as (with_hands, cluster_id):
            restart = taken_over(context, with_hands, row, cluster_id)
            restart.run()
            return concluded(restart)


def _left(found: ClusterFound, failed: ClusterFound) -> ClusterReport:
    reason = f"left alone, because {failed.ref} was not completed"
    return ClusterReport(found.ref.namespace, found.ref.name, "", "LEFT", reason)


@dg.op(description="Publish what became of every pod, and show how the cluster fared meanwhile.")
def record_restart(
    context: dg.OpExecutionContext, journey: Journey, state: StateStoreResource
) -> RestartReport:
    """Collect the outcome of a job about one pod."""
    reports = (journey.report,) if journey.report is not None else ()
    report = RestartReport(reports, dry_run=journey.dry_run)
    publish(context, report, state)
    return report


@dg.op(description="Publish what became of every pod, and show how the clusters fared meanwhile.")
def record_restarts(
    context: dg.OpExecutionContext, report: RestartReport, state: StateStoreResource
) -> RestartReport:
    """Show the outcomes of a rolling restart."""
    publish(context, report, state)
    return report


@dg.op(description="Fail the run if a pod was refused, or did not come back, or something is owed.")
def conclude_restart(report: RestartReport) -> None:
    """Judge the run: the only step after the first ticket that may fail it."""
    if report.exit_code == 0:
        return
    bad = [each for each in report.clusters if each.code]
    text = "; ".join(f"{each.namespace}/{each.name}: {each.outcome}, {each.reason}" for each in bad)
    remedies = [line for each in bad for line in each.remedy]
    if remedies:
        text += f"; run: {'; '.join(remedies)}"
    metadata: dict[str, Any] = {
        "exit_code": report.exit_code,
        DECLINED: report.exit_code == REFUSED,
    }
    raise dg.Failure(text, metadata=metadata, allow_retries=False)
