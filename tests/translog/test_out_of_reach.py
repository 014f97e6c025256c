"""What a restore does without: sys.shards, a store that takes writes, hosts that are no CrateDB."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome
from lab.cratedb import LabCrateDB
from lab.faults import Action, Fault
from tests.translog.abandoned import left_at_zero

NOT_RESTORED = ResetOutcome.NOT_RESTORED


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Reads are tried again as often as ever, only sooner."""
    monkeypatch.setattr("resources.cratedb.retries.retrying.__defaults__", ((0.05, 0.05),))


def test_a_restore_does_without_the_shards(world):
    """`sys.shards` waits for every node, and one that hangs keeps it from answering."""
    table = world.table("doc.metrics", replicas="1")
    no_answer = {"status": 500, "code": 5000, "message": "NodeNotConnectedException[...]"}
    world.on_zero(after=lambda _: world.fault("FROM sys.shards", Action.ERROR, **no_answer))

    run = world.reset(max_wait_s=0.1, verify_timeout_s=0.1)

    assert run.outcome is not NOT_RESTORED
    assert world.altered == [('"doc"."metrics"', "0"), ('"doc"."metrics"', "1")]
    assert table.number_of_replicas == "1"


@pytest.mark.parametrize("what", ["INSERT", "UPDATE"])
def test_a_restore_does_without_a_store_that_takes_no_writes(world, what):
    """Its disk is full; the table gets what it is owed, and the log says that no audit has it."""
    table = world.table("doc.metrics", replicas="1")
    broken = "statements" if what == "INSERT" else "tickets"
    world.on_zero(after=lambda _: world.break_store(broken, what))

    run = world.reset(max_wait_s=0.1, restore_timeout_s=4)

    assert table.number_of_replicas == "1"
    assert [replicas for _, replicas in world.altered] == ["0", "1"]
    assert run.outcome is not NOT_RESTORED
    if what == "INSERT":
        assert any("sent without an audit" in note["reason"] for note in world.said("note"))


def test_a_restore_is_not_sent_to_another_cluster(world):
    """A host list that leads to two: the second was away when the first was asked who it is."""
    table = world.table("doc.metrics", replicas="1")
    with LabCrateDB(nodes=1) as other:
        other.world.cluster_id = "another-cluster-altogether"
        twin = other.table("doc.metrics", replicas="1")
        other.faults.add(Fault("", Action.REFUSE))

        def change_places(_):
            other.faults.clear()
            world.fault("", Action.REFUSE)

        world.on_zero(after=change_places)
        hosts = f"{world.lab.connection_string},{other.connection_string}"
        world.hosts = hosts
        world.reset(restore_timeout_s=2, verify_timeout_s=1)
        world.hosts = ""

        assert twin.number_of_replicas == "1"
        assert [entry for entry in other.journal if entry.stmt.startswith("ALTER")] == []
        assert len(world.open_tickets) == 1

    world.lab.faults.clear()
    assert world.restore().exit_code == 0
    assert table.number_of_replicas == "1"


@pytest.mark.parametrize("node", [0, 1])
def test_a_restore_passes_over_a_host_that_is_no_cratedb_any_more(world, node):
    """Its address was given to something else, which answers with a page of HTML."""
    table = left_at_zero(world, "metrics")
    world.fault("", Action.HTML, node=node)

    run = world.restore()

    assert (run.success, run.exit_code) == (True, 0)
    assert (table.number_of_replicas, world.open_tickets) == ("1", [])


def test_a_restore_asks_no_node_for_its_version(world):
    """A node that joins has none yet, and it is a reset that needs to know."""
    table = left_at_zero(world, "metrics")
    rows = [["n1", "6.4.3"], ["n2", None]]
    world.fault(r"SELECT name, version", Action.WRONG_ROWS, rows=rows)

    assert world.restore().exit_code == 0

    assert (table.number_of_replicas, world.open_tickets) == ("1", [])
