"""A cluster and its copy, made from the same volumes: one id, two places; one is left alone."""

from __future__ import annotations

import pytest

from lab.cratedb import LabCrateDB

SEED = 4711


@pytest.fixture
def world(start):
    """A cluster in pods."""
    return start(seed=SEED)


@pytest.fixture
def copy(world):
    """One that answers elsewhere, with its name, its id and its nodes' ids."""
    with LabCrateDB(3, cluster_name=world.name, seed=SEED) as lab:
        yield lab


@pytest.fixture
def command(world, copy, caretaker):
    """Set up for the pods, and for the address of the copy."""
    found = caretaker(world, address=False)
    found.environment["CRATE_CONNECTION_STRING"] = copy.connection_string
    return found


def test_the_pods_are_restarted_and_not_a_statement_changes_their_copy(world, copy, command):
    ids = "SELECT id FROM sys.cluster"
    assert world.crate.sql(ids)["rows"] == copy.sql(ids)["rows"]

    run = command.decommission(world.pod(2))

    assert run.code == 0, run.err
    assert run.json["success"], run.json
    assert world.restarted == {"2"}
    assert not [each.stmt for each in copy.journal if not each.stmt.lstrip().startswith("SELECT")]
    assert all(node.alive for node in copy.world.nodes)


def test_an_address_that_leads_to_the_copy_is_refused_where_it_is_insisted_on(world, command):
    run = command.decommission(world.pod(2), "--sql", "address")

    assert run.code == 3, run.err
    assert "leads to a copy of it elsewhere" in run.err
    assert world.replaced == set()
    assert world.changes == []
