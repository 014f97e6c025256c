"""What a cluster must not be like when a table's replicas are to be taken away."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from caretaker.translog.model import MovingShard, Node, UnhealthyTable
from caretaker.translog.policy import ResetPolicy
from caretaker.translog.preflight import refusals
from tests.translog.observed import cluster

OWN = ("doc", "metrics", "")
OTHER = ("doc", "other", "")
YELLOW = UnhealthyTable(OWN, "YELLOW", 0, 4)


def why_not(own=(), *, policy=None, **changes):
    return refusals(cluster(**changes), policy or ResetPolicy(), own)


def nodes(**changes):
    return tuple(replace(node, **changes) for node in cluster().nodes)


def test_a_healthy_cluster_at_rest_is_good_enough():
    assert why_not() == []


REFUSED = {
    "no master": ({"master_node": None}, "no master"),
    "a YELLOW table": (
        {"health": "YELLOW", "underreplicated_shards": 4, "unhealthy": (YELLOW,)},
        r"1 table\(s\) are not GREEN, such as doc.metrics \(YELLOW\)",
    ),
    "a table of unknown health": (
        {"unhealthy": (UnhealthyTable(OWN, "UNKNOWN", -1, -1),)},
        "not GREEN",
    ),
    "unknown health": ({"health": None}, "health of the cluster is unknown"),
    "YELLOW by what is hidden": (
        {"health": "YELLOW", "underreplicated_shards": 4, "user": "weak"},
        "YELLOW, because of tables that weak cannot see",
    ),
    "GREEN with hidden missing shards": ({"missing_shards": 1}, "cannot see"),
    "GREEN with hidden missing replicas": ({"underreplicated_shards": 1}, "cannot see"),
    "too few nodes": (
        {"policy": ResetPolicy(expected_nodes=4)},
        "3 nodes are present, 4 are expected",
    ),
    "too many nodes": (
        {"policy": ResetPolicy(expected_nodes=2)},
        "3 nodes are present, 2 are expected",
    ),
    "an upgrade under way": (
        {"nodes": (*nodes(), Node("n4", "data-4", "6.5.0"))},
        r"different versions \(6.4.3, 6.5.0\)",
    ),
    "a decommission": ({"decommissions": 1}, "being decommissioned"),
    "a snapshot": ({"running_snapshots": 2}, r"2 snapshot\(s\)"),
    "allocation restricted": ({"allocation_enable": "primaries"}, "'primaries'"),
    "allocation unknown": ({"allocation_enable": None}, "None"),
    "a recovering shard": (
        {"moving": (MovingShard(OTHER, "INITIALIZING"),)},
        r"1 shard\(s\) are recovering or relocating, such as one of doc.other",
    ),
    "a weak user who sees no table": (
        {
            "user": "weak",
            "superuser": False,
            "visible_tables": 0,
            "visible_primaries": 0,
            "expected_primaries": 0,
        },
        "weak sees no table",
    ),
    "a user of unknown rights who sees no table": (
        {"superuser": None, "visible_tables": 0, "visible_primaries": 0, "expected_primaries": 0},
        "sees no table",
    ),
    "a weak user who sees no shards": (
        {"user": "weak", "superuser": False, "visible_primaries": 0},
        "weak sees 0 primaries in sys.shards where the catalog has 12",
    ),
    "a full disk": (
        {"nodes": (*nodes()[:2], replace(nodes()[2], disk_used_bytes=851))},
        "data-3 is above the low disk watermark",
    ),
    "no shards left in the budget": (
        {"open_shards": 7, "max_shards_per_node": 2},
        "7 shards are open and cluster.max_shards_per_node allows 6",
    ),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_nothing_is_touched_in(changes, words):
    reasons = why_not(**changes)
    assert any(re.search(words, reason) for reason in reasons), reasons
    assert len(reasons) == 1


def test_a_superuser_without_any_table_has_nothing_to_fear():
    assert why_not(visible_tables=0, visible_primaries=0, expected_primaries=0) == []


def test_every_reason_is_given_at_once():
    """An operator should not have to mend one to learn of the next."""
    reasons = why_not(
        master_node=None, allocation_enable="none", running_snapshots=1, decommissions=1
    )
    assert len(reasons) == 4


def test_a_budget_that_is_just_full_is_enough():
    assert why_not(open_shards=6, max_shards_per_node=2) == []


def test_the_budget_counts_data_nodes_only():
    mixed = (*nodes()[:2], replace(nodes()[2], is_data=False))
    assert why_not(nodes=mixed, open_shards=4, max_shards_per_node=2) == []
    assert len(why_not(nodes=mixed, open_shards=5, max_shards_per_node=2)) == 1


@pytest.mark.parametrize(
    ("watermark", "used", "refused"),
    [
        ("85%", 850, False),
        ("85%", 851, True),
        ("0.85", 850, False),
        ("0.85", 851, True),
        ("100b", 900, False),
        ("100b", 901, True),
        ("1kb", 1, True),
        ("1gb", 1, True),
        (None, 1000, False),
    ],
)
def test_the_watermark_is_read_as_cratedb_reads_it(watermark, used, refused):
    """A percentage or ratio is of space used, a size is of space left."""
    reasons = why_not(nodes=nodes(disk_used_bytes=used), low_watermark=watermark)
    assert bool(reasons) is refused


@pytest.mark.parametrize("changes", [{"disk_used_bytes": None}, {"disk_total_bytes": None}])
def test_a_disk_that_cannot_be_measured_does_not_refuse(changes):
    assert why_not(nodes=nodes(**changes)) == []


def test_a_full_disk_of_a_node_without_data_does_not_matter():
    assert why_not(nodes=nodes(disk_used_bytes=1000, is_data=False), open_shards=0) == []


# ---------------------------------------------------------------------------- what we do ourselves


def test_the_table_that_this_run_has_under_way_does_not_count():
    ours = {
        "health": "YELLOW",
        "underreplicated_shards": 4,
        "unhealthy": (YELLOW,),
        "moving": (MovingShard(OWN, "INITIALIZING"),),
    }
    assert why_not({OWN}, **ours) == []
    assert len(why_not(**ours)) == 2


def test_the_trouble_of_another_table_counts_beside_our_own():
    other = UnhealthyTable(OTHER, "RED", 1, 0)
    reasons = why_not(
        {OWN},
        health="RED",
        missing_shards=1,
        underreplicated_shards=4,
        unhealthy=(YELLOW, other),
    )
    assert reasons == ["1 table(s) are not GREEN, such as doc.other (RED)"]


def test_hidden_trouble_is_seen_behind_our_own():
    reasons = why_not({OWN}, health="YELLOW", underreplicated_shards=5, unhealthy=(YELLOW,))
    assert reasons == ["the cluster has unhealthy shards that crate cannot see"]


def test_one_partition_under_way_does_not_excuse_the_next():
    first, second = ("doc", "metrics", "p1"), ("doc", "metrics", "p2")
    moving = (MovingShard(first, "INITIALIZING"), MovingShard(second, "INITIALIZING"))
    (reason,) = why_not({first}, moving=moving)
    assert reason.startswith("1 shard(s)")
