"""What a cluster must not be like when one of its nodes is to be taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from caretaker.decommission.cluster_settings import ALLOCATION, TIMEOUT
from caretaker.decommission.model import (
    BudgetSeen,
    ContainerSeen,
    ContainerSpec,
    CrateSeen,
    KubeSeen,
    Observation,
    SoleCopy,
    StatefulSetSeen,
    WindowVerdict,
)
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.preflight import Candidate, Reason, judge
from caretaker.decommission.restart import begin
from caretaker.decommission.steps import RestartOutcome
from caretaker.identifiers import SqlValue
from tests.decommission.simulated_crate import BEGAN
from tests.decommission.world import PROD, Runner, World, a_world

POD = "crate-data-hot-prod-2"
STRATEGIES = ("manual", "kubernetes_managed")


def refusals(
    change: Callable[[Observation], Observation] = lambda seen: seen,
    *,
    world: World | None = None,
    policy: dict[str, object] | None = None,
) -> list[tuple[Reason, str]]:
    """Judge the last pod of a healthy cluster, changed."""
    world = world or a_world()
    rules = RestartPolicy.checked(**(policy or {}))
    ticket = begin(PROD, world.kube.seen().pods, world.kube.seen(), rules, world.time.now)
    verdict = judge(change(world.observe(None)), ticket, POD, rules)
    if isinstance(verdict, Candidate):
        return []
    return [(each.reason, each.sentence) for each in verdict]


def crate(**changes) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        assert isinstance(seen.crate, CrateSeen)
        return replace(seen, crate=replace(seen.crate, **changes))

    return change


def setting(key: str, value: SqlValue) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        assert seen.crate is not None
        settings = {**seen.crate.settings, key: value}
        return replace(seen, crate=replace(seen.crate, settings=settings))

    return change


def kube(**changes) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        assert isinstance(seen.kube, KubeSeen)
        return replace(seen, kube=replace(seen.kube, **changes))

    return change


def pod(name: str = POD, **changes) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        assert seen.kube is not None
        pods = tuple(
            replace(each, **changes) if each.name == name else each for each in seen.kube.pods
        )
        return replace(seen, kube=replace(seen.kube, pods=pods))

    return change


def statefulset(**changes) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        assert seen.kube is not None
        [only] = seen.kube.statefulsets
        return replace(seen, kube=replace(seen.kube, statefulsets=(replace(only, **changes),)))

    return change


def nodes(count: int) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        assert seen.crate is not None
        return replace(seen, crate=replace(seen.crate, nodes=seen.crate.nodes[-count:]))

    return change


def full_disks(seen: Observation) -> Observation:
    assert seen.crate is not None
    full = tuple(replace(node, disk_used_bytes=86) for node in seen.crate.nodes)
    return replace(seen, crate=replace(seen.crate, nodes=full))


def everywhere_the_same_hostname(seen: Observation) -> Observation:
    assert seen.crate is not None
    nodes = tuple(replace(each, hostname="crate-data-hot-prod-0") for each in seen.crate.nodes)
    return replace(seen, crate=replace(seen.crate, nodes=nodes))


def only_copy(*barred: str) -> Callable[[Observation], Observation]:
    return crate(sole=(SoleCopy("doc.t", 3, "id-data-hot-2", barred),))


LATER = timedelta(seconds=60)

REFUSED: dict[str, tuple[Callable[[Observation], Observation], Reason, str]] = {
    "CrateDB away": (
        lambda seen: replace(seen, crate=None, crate_error="timed out"),
        Reason.UNREADABLE,
        "CrateDB does not answer (timed out)",
    ),
    "Kubernetes away": (
        lambda seen: replace(seen, kube=None, kube_error="503"),
        Reason.UNREADABLE,
        "Kubernetes does not answer (503)",
    ),
    "YELLOW": (
        crate(health="YELLOW", underreplicated_shards=4),
        Reason.HEALTH,
        "the cluster is YELLOW (0 shards missing, 4 under-replicated), it must be GREEN",
    ),
    "RED": (crate(health="RED", missing_shards=2), Reason.HEALTH, "RED (2 shards missing"),
    "unknown health": (crate(health=None), Reason.HEALTH, "unknown, it must be GREEN"),
    "a GREEN that misses shards": (crate(missing_shards=1), Reason.HEALTH, "1 shards missing"),
    "a GREEN of unknown shards": (crate(missing_shards=None), Reason.HEALTH, "None shards"),
    "no master": (crate(master_node=None), Reason.HEALTH, "no master"),
    "too few nodes": (nodes(2), Reason.NODES, "2 nodes are present, 3 are expected"),
    "relocating": (crate(relocating=2), Reason.MOVING, "2 shard(s) are relocating"),
    "recovering": (crate(initializing=1), Reason.MOVING, "1 are recovering"),
    "unknown movement": (crate(relocating=None), Reason.MOVING, "None shard(s)"),
    "a snapshot": (crate(running_snapshots=1), Reason.SNAPSHOT, "1 snapshot(s) in progress"),
    "unknown snapshots": (crate(running_snapshots=None), Reason.SNAPSHOT, "None snapshot"),
    "another decommission": (crate(decommissions=1), Reason.DECOMMISSION, "somebody else's"),
    "allocation restricted": (
        setting(ALLOCATION, "new_primaries"),
        Reason.ALLOCATION,
        "is 'new_primaries': somebody restricts allocation already, it must be 'all'",
    ),
    "unknown settings": (setting(TIMEOUT, None), Reason.ALLOCATION, f"{TIMEOUT} cannot be read"),
    "an open translog ticket": (
        lambda seen: replace(seen, open_tickets=("doc.metrics",)),
        Reason.TRANSLOG,
        "1 translog ticket(s) are open, such as doc.metrics",
    ),
    "unknown translog tickets": (
        lambda seen: replace(seen, open_tickets=None, store_error="it is starting up"),
        Reason.UNREADABLE,
        "the state store does not answer (it is starting up)",
    ),
    "a shard that nobody can take": (
        only_copy("id-data-hot-0", "id-data-hot-1"),
        Reason.DATA,
        "no other node can take shard 3 of doc.t",
    ),
    "a shard for which all disks are full": (
        lambda seen: full_disks(only_copy()(seen)),
        Reason.DATA,
        "no other node can take shard 3 of doc.t",
    ),
    "unknown copies": (crate(sole=None), Reason.DATA, "is unknown"),
    "a user who sees nothing": (
        crate(visible_primaries=0, expected_primaries=9, user="weak"),
        Reason.VISIBILITY,
        "weak sees 0 primaries in sys.shards where the catalog has 9",
    ),
    "nobody who may decommission": (
        crate(can_decommission=False, user="dba"),
        Reason.SUPERUSER,
        "needs the superuser: dba is not",
    ),
    "a node of another name": (
        everywhere_the_same_hostname,
        Reason.NODE_NAME,
        "runs on crate-data-hot-prod-0",
    ),
    "a pod that is gone": (
        kube(pods=()),
        Reason.POD,
        f"Pod not found: {POD}",
    ),
    "a pod that is being deleted": (
        pod(deletion_at=BEGAN + LATER),
        Reason.POD,
        f"pod {POD} is being deleted",
    ),
    "a pod that is not Ready": (pod(ready=False), Reason.POD, "is Running and not Ready"),
    "a pod that is Pending": (pod(phase="Pending"), Reason.POD, "is Pending and Ready"),
    "a fresh pod": (pod(container=None), Reason.POD, "has no status yet"),
    "a container in back-off": (
        pod(container=ContainerSeen(running=False, restart_count=3, waiting="CrashLoopBackOff")),
        Reason.POD,
        "CrashLoopBackOff",
    ),
    "a claim that is being deleted": (
        pod(claims_in_deletion=("data-2",)),
        Reason.CLAIM,
        "PersistentVolumeClaim data-2",
    ),
    "another pod down": (
        pod("crate-data-hot-prod-0", ready=False),
        Reason.OTHER_POD,
        "crate-data-hot-prod-0 of the same cluster is not Ready",
    ),
    "another pod in preStop": (
        pod("crate-data-hot-prod-0", deletion_at=BEGAN),
        Reason.OTHER_POD,
        "crate-data-hot-prod-0",
    ),
    "no StatefulSet": (kube(statefulsets=()), Reason.STRATEGY, "no StatefulSet"),
    "a rollout": (
        statefulset(current_revision="r1", update_revision="r2"),
        Reason.ROLLOUT,
        "in the middle of a rollout (r1 -> r2)",
    ),
    "a change not acted on": (statefulset(settled=False), Reason.ROLLOUT, "not yet acted on"),
    "replicas missing": (
        statefulset(ready_replicas=2),
        Reason.ROLLOUT,
        "has 2 of 3 replicas ready",
    ),
    "a container that is missing": (
        statefulset(containers=(ContainerSpec("db"),)),
        Reason.STRATEGY,
        "no container 'crate' (it has: db)",
    ),
    "a budget without room": (
        kube(budgets=(BudgetSeen("crate-pdb", 0, (POD,)),)),
        Reason.BUDGET,
        "PodDisruptionBudget crate-pdb allows no disruption",
    ),
    "unknown budgets": (kube(budgets=None), Reason.BUDGET, "cannot be read"),
    "an eviction that is refused": (
        kube(evictions={POD: "it would violate the budget"}),
        Reason.BUDGET,
        "dry-run eviction",
    ),
    "a closed window": (
        lambda seen: replace(seen, window=WindowVerdict(open=False, why="the next one opens Mon")),
        Reason.WINDOW,
        "the maintenance window is closed: the next one opens Mon",
    ),
}


def test_a_healthy_cluster_at_rest_is_good_enough():
    assert refusals() == []
    assert refusals(world=a_world("kubernetes_managed")) == []


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_what_was_found(name):
    change, reason, sentence = REFUSED[name]
    found = refusals(change)
    assert any(one is reason and sentence in text for one, text in found), found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"nobody who may decommission"}))
def test_a_refusal_leaves_everything_as_it_was(strategy, name):
    """The whole restart, not the check alone: no effect is asked for."""
    change, _, sentence = REFUSED[name]
    world = a_world(strategy)
    # Whichever pod's turn it is: the world is as bad for each of them.
    observe = world.observe
    world.observe = lambda call: change(observe(call))  # type: ignore[method-assign]
    runner = Runner(world, RestartPolicy())

    outcome = runner.start(POD)

    assert outcome is RestartOutcome.REFUSED
    assert sentence in runner.conclusion.reason
    assert runner.effects == []


def test_a_single_node_cluster_is_refused():
    [(reason, sentence)] = [
        each
        for each in refusals(nodes(1), policy={"expected_nodes": 1})
        if each[0] is Reason.SINGLE_NODE
    ]
    assert reason is Reason.SINGLE_NODE
    assert "an outage" in sentence


def test_an_unexpected_count_of_nodes_is_refused():
    assert refusals(policy={"expected_nodes": 4})[0][1] == ("3 nodes are present, 4 are expected")


def test_a_window_may_be_required():
    assert refusals() == []
    [(reason, _)] = refusals(policy={"require_window": True})
    assert reason is Reason.WINDOW


def test_an_open_window_lets_through():
    seen = lambda s: replace(s, window=WindowVerdict(open=True, why="open"))  # noqa: E731
    assert refusals(seen, policy={"require_window": True}) == []


def test_a_new_revision_under_on_delete_waits_for_exactly_this_restart():
    change = statefulset(current_revision="r1", update_revision="r2", update_strategy="OnDelete")
    assert refusals(change) == []


def test_a_shard_with_one_copy_is_no_obstacle_where_it_will_be_moved():
    """Under PRIMARIES moving it is the purpose."""
    assert refusals(only_copy()) == []


def test_a_shard_with_one_copy_is_one_where_nothing_would_move_it():
    world = a_world("kubernetes_managed")
    world.kube.hook = ("dc_util", "-min-availability", "NONE")
    [(reason, sentence)] = refusals(only_copy(), world=world)
    assert reason is Reason.DATA
    assert "min_availability is NONE or unknown" in sentence


def other_tier(**changes) -> Callable[[Observation], Observation]:
    """A second StatefulSet of the same cluster, all well but for the changes."""
    fields = {"replicas": 2, "ready_replicas": 2, **changes}

    def change(seen: Observation) -> Observation:
        assert seen.kube is not None
        tier = StatefulSetSeen("db", "crate-master-prod", **fields)
        both = (*seen.kube.statefulsets, tier)
        return replace(seen, kube=replace(seen.kube, statefulsets=both))

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"settled": False},
        {"current_revision": "r1", "update_revision": "r2"},
        {"ready_replicas": 1},
    ],
)
def test_a_rollout_of_another_tier_is_waited_for(changes):
    assert refusals(other_tier(), policy={"expected_nodes": 3}) == []
    [(reason, sentence)] = refusals(other_tier(**changes), policy={"expected_nodes": 3})
    assert reason is Reason.ROLLOUT
    assert "crate-master-prod" in sentence


@pytest.mark.parametrize(("updated", "refused"), [(0, True), (1, False)])
def test_a_staged_rollout_is_over_when_the_pods_above_its_partition_are_new(updated, refused):
    change = statefulset(
        current_revision="r1", update_revision="r2", partition=2, updated_replicas=updated
    )
    assert bool(refusals(change)) is refused


@pytest.mark.parametrize(
    ("watermark", "total", "used", "refused"),
    [
        ("85%", 100, 84, False),
        ("85%", 100, 88, True),
        ("0.85", 100, 88, True),
        ("10gb", 100 << 30, 85 << 30, False),
        ("20gb", 100 << 30, 85 << 30, True),
        ("85%", None, None, True),
        (None, 100, 10, True),
    ],
)
def test_the_only_copy_of_a_shard_needs_a_disk_that_is_known_to_have_room(
    watermark, total, used, refused
):
    """Below the low watermark: above it CrateDB moves no shard there."""

    def disks(seen: Observation) -> Observation:
        assert seen.crate is not None
        changed = tuple(
            replace(node, disk_total_bytes=total, disk_used_bytes=used) for node in seen.crate.nodes
        )
        seen = replace(seen, crate=replace(seen.crate, nodes=changed, low_watermark=watermark))
        return only_copy()(seen)

    found = refusals(disks)
    assert bool(found) is refused
    assert not found or "no other node can take shard 3 of doc.t" in found[0][1]


@pytest.mark.parametrize(
    ("label", "refused"),
    [
        ("operator-{ago_60}", True),
        ("operator-{ago_9000}", False),
        ("operator-x", True),
        ("", False),
    ],
)
def test_a_cluster_that_its_operator_restarts_is_left_to_it(label, refused):
    world = a_world()
    now = int(world.time.now.timestamp())
    text = label.format(ago_60=now - 60, ago_9000=now - 9000)
    found = refusals(statefulset(labels={"dc-util-routing-owner": text}), world=world)
    assert [reason for reason, _ in found] == ([Reason.OPERATOR] if refused else [])
