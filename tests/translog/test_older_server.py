"""CrateDB 5.10, where there is no `sys.cluster_health`: what cannot be known refuses."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome
from lab.cratedb import LabCrateDB
from tests.world import refuses_to_start


@pytest.fixture
def lab():
    with LabCrateDB(nodes=3, recovery_s=0.04, lease_tick_s=0.3, version="5.10.4") as running:
        yield running


@pytest.fixture
def world(world):
    """The table that says how healthy the cluster is came with 6.0."""
    world.fault(
        "sys.cluster_health",
        "error",
        status=404,
        code=4041,
        message="Relation 'sys.cluster_health' unknown",
    )
    return world


def asked_for_health(world):
    return any("sys.cluster_health" in entry.stmt for entry in world.lab.journal)


def test_a_superuser_resets(world):
    table = world.table("doc.metrics")

    run = world.reset()

    assert (run.outcome, run.exit_code) == (ResetOutcome.COMPLETED, 0)
    assert (table.number_of_replicas, table.worst_mb < 1) == ("0-1", True)
    assert asked_for_health(world)


def test_a_superuser_is_refused_while_a_table_is_not_green(world):
    world.table("doc.metrics")
    world.lab.sql("CREATE TABLE doc.lonely (id INT) WITH (number_of_replicas = '3')")

    run = world.reset()

    refuses_to_start(run, world)
    assert "doc.lonely (YELLOW)" in run.failure


@pytest.mark.parametrize(
    "grants",
    [
        ("DQL ON SCHEMA sys", "DDL ON SCHEMA doc"),
        ("DQL ON SCHEMA sys", "DDL ON TABLE doc.metrics"),
        ("DQL ON SCHEMA sys",),
    ],
    ids=["all tables", "one table", "none"],
)
def test_whoever_may_not_see_everything_is_refused(world, grants):
    """Everything they see is GREEN, and nothing tells what they do not see."""
    world.table("doc.metrics")
    world.lab.create_user("weak", None, *grants)
    world.user = "weak"

    run = world.reset()

    refuses_to_start(run, world)
    assert "the health of the cluster is unknown" in run.failure
    assert asked_for_health(world)


def test_without_a_master_a_superuser_is_refused(world):
    world.table("doc.metrics")
    world.lab.drop_master()

    refuses_to_start(world.reset(), world)
