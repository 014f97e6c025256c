"""Which node runs in a pod; nobody is decommissioned on a guess."""

from __future__ import annotations

import pytest

from caretaker.decommission.model import ClusterRef, NodeSeen, PodSeen
from caretaker.decommission.naming import node_of, rule_name
from caretaker.errors import UnsafeError

PROD = ClusterRef("db", "prod")
POD = PodSeen("db", "crate-data-hot-prod-1", "u", "crate-data-hot-prod")


def node(name: str, hostname: str) -> NodeSeen:
    return NodeSeen(f"id-{name}", name, hostname)


@pytest.mark.parametrize(
    ("statefulset", "expected"),
    [
        ("crate-data-hot-prod", "data-hot-4"),
        ("crate-master-prod", "master-4"),
        ("crate-prod", None),
        ("crate-data-hot-other", None),
        ("opensearch-prod", None),
    ],
)
def test_the_rule_of_the_statefulset(statefulset, expected):
    assert rule_name(statefulset, "prod", 4) == expected


@pytest.mark.parametrize("hostname", [POD.name, f"{POD.name}.crate.db.svc.cluster.local"])
def test_the_hostname_tells(hostname):
    nodes = (node("data-hot-0", "crate-data-hot-prod-0"), node("data-hot-1", hostname))
    assert node_of(POD, PROD, nodes).name == "data-hot-1"


def test_the_rule_helps_out_where_no_hostname_does():
    assert node_of(POD, PROD, (node("data-hot-1", "ip-10-0-0-7"),)).name == "data-hot-1"


def test_a_node_that_is_named_like_its_pod_is_itself():
    assert node_of(POD, PROD, (node(POD.name, POD.name),)).name == POD.name


DISAGREE = {
    "hostname and rule name two nodes": (
        (node("data-hot-0", POD.name), node("data-hot-1", "crate-data-hot-prod-0")),
        "data-hot-0 runs in crate-data-hot-prod-1, its StatefulSet says data-hot-1",
    ),
    "the rule's node runs elsewhere": (
        (node("data-hot-1", "crate-data-hot-prod-0"),),
        "runs on crate-data-hot-prod-0",
    ),
    "two nodes of one hostname": (
        (node("a", POD.name), node("b", POD.name)),
        "several nodes have the hostname",
    ),
    "a pod whose name begins the same": (
        (node("data-hot-11", "crate-data-hot-prod-11"),),
        "no node has hostname crate-data-hot-prod-1 or name data-hot-1",
    ),
    "nobody": ((), "no node has"),
}


@pytest.mark.parametrize("name", DISAGREE)
def test_a_disagreement_refuses(name):
    nodes, sentence = DISAGREE[name]
    with pytest.raises(UnsafeError, match=sentence):
        node_of(POD, PROD, nodes)


def test_a_name_that_another_tier_has_as_well_is_refused():
    """DECOMMISSION goes by name, whatever its case."""
    nodes = (
        node("data-hot-1", "crate-data-hot-prod-1"),
        node("DATA-HOT-1", "crate-data-cold-prod-1"),
    )
    with pytest.raises(UnsafeError, match="several nodes have the name data-hot-1"):
        node_of(POD, PROD, nodes)
