"""Which clusters and pods are meant, and when nobody can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caretaker.decommission.model import ClusterRef, KubeNodeSeen, PodSeen
from caretaker.decommission.selection import (
    NAME,
    PART_OF,
    FoundSet,
    choose_clusters,
    choose_pods,
    find_clusters,
    find_pod,
    suspended,
)
from caretaker.errors import RefusedError, UnsafeError
from tests.decommission.world import a_world

SETS = [
    FoundSet("db", "crate-data-hot-prod", replicas=3),
    FoundSet("db", "crate-master-prod", replicas=3),
    FoundSet("db", "crate-data-hot-test", replicas=1),
    FoundSet("other", "crate-data-hot-test", replicas=3),
    FoundSet("db", "kafka", replicas=3),
    FoundSet("db", "mine", {PART_OF: "cratedb", NAME: "labelled"}, 3),
]


def test_clusters_are_found_by_name_and_by_label_and_nothing_else_is():
    found = find_clusters(SETS)
    assert [(str(each.ref), each.statefulsets, each.replicas) for each in found] == [
        ("db/labelled", ("mine",), 3),
        ("db/prod", ("crate-data-hot-prod", "crate-master-prod"), 6),
        ("db/test", ("crate-data-hot-test",), 1),
        ("other/test", ("crate-data-hot-test",), 3),
    ]


def test_a_custom_resource_knows_better_than_the_name():
    sets = [FoundSet("db", "crate-data-hot-my-prod", replicas=3)]
    [cluster] = find_clusters(sets, [ClusterRef("db", "prod"), ClusterRef("db", "my-prod")])
    assert cluster.ref.name == "my-prod"
    [cluster] = find_clusters(sets, [ClusterRef("elsewhere", "prod")])
    assert cluster.ref.name == "my-prod"


@pytest.mark.parametrize("name", ["prod", "db/prod", "crate-master-prod", "db/crate-master-prod"])
def test_a_cluster_has_several_names(name):
    [cluster] = choose_clusters([name], find_clusters(SETS))
    assert cluster.ref == ClusterRef("db", "prod")


def test_all_is_every_cluster_and_a_name_given_twice_is_one():
    found = find_clusters(SETS)
    assert choose_clusters(["all"], found) == found
    assert len(choose_clusters(["prod", "db/prod"], found)) == 1


@pytest.mark.parametrize("name", ["test", "crate-data-hot-test"])
def test_a_name_that_two_clusters_have_is_refused_with_both(name):
    with pytest.raises(UnsafeError, match=r"db/test, other/test"):
        choose_clusters([name], find_clusters(SETS))


def test_a_name_that_nobody_has_is_told_with_those_that_are_there():
    with pytest.raises(RefusedError, match=r"'nope' \(there: db/labelled, db/prod"):
        choose_clusters(["nope"], find_clusters(SETS))
    with pytest.raises(RefusedError, match="no CrateDB cluster"):
        choose_clusters(["all"], [])


def test_pods_come_in_their_turn_and_only_those_that_were_named():
    kube = a_world().kube.seen()
    assert [pod.ordinal for pod in choose_pods(kube)] == [2, 1, 0]
    named = ["crate-data-hot-prod-0", "crate-data-hot-prod-2"]
    assert [pod.ordinal for pod in choose_pods(kube, named)] == [2, 0]


def test_a_pod_that_is_not_there_is_named():
    with pytest.raises(RefusedError, match="Pod not found: crate-9"):
        choose_pods(a_world().kube.seen(), ["crate-9"])


def test_only_pods_on_suspended_machines_may_be_meant():
    world = a_world()
    world.kube.cordoned = {"machine-1"}
    assert [pod.ordinal for pod in choose_pods(world.kube.seen(), only_cordoned=True)] == [1]
    world.kube.cordoned = set()
    assert choose_pods(world.kube.seen(), only_cordoned=True) == []


def test_machines_that_may_not_be_read_are_not_taken_for_well():
    kube = replace(a_world().kube.seen(), nodes=None)
    with pytest.raises(RefusedError, match="get/list nodes"):
        choose_pods(kube, only_cordoned=True)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (KubeNodeSeen("a"), False),
        (KubeNodeSeen("a", unschedulable=True), True),
        (KubeNodeSeen("a", taints=("node.kubernetes.io/not-ready",)), True),
        (KubeNodeSeen("a", taints=("node.kubernetes.io/unreachable",)), True),
        (KubeNodeSeen("a", taints=("node.kubernetes.io/out-of-service",)), True),
        (KubeNodeSeen("a", taints=("dedicated",)), False),
    ],
)
def test_a_suspended_machine_is_cordoned_or_tainted_as_gone(node, expected):
    assert suspended(node) is expected


def test_a_pod_of_two_namespaces_needs_its_namespace():
    pods = [PodSeen(space, "crate-0", "u", "crate") for space in ("a", "b")]
    assert find_pod("b/crate-0", pods).namespace == "b"
    with pytest.raises(UnsafeError, match="namespaces a, b"):
        find_pod("crate-0", pods)
    with pytest.raises(RefusedError, match="Pod not found: crate-1"):
        find_pod("crate-1", pods)
