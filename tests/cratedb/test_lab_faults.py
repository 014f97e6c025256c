"""A cluster that breaks while it is looked after: what no real one does on demand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from caretaker.translog.leases import LeaseVerdict, read_leases
from caretaker.translog.model import TableRef
from lab.cratedb import LabCrateDB
from lab.faults import Action, Fault
from resources.cratedb.client import CrateDBClient
from resources.cratedb.settings import CrateDBSettings
from resources.sql.cratedb import flush, set_replicas
from tests.waiting import in_time

METRICS = TableRef("doc", "metrics")
ZERO = set_replicas(METRICS, "0")


@pytest.fixture
def lab() -> Iterator[LabCrateDB]:
    # Leases are forgotten when a test says so, not when a busy machine has taken half a minute.
    with LabCrateDB(nodes=3, recovery_s=0.05, lease_tick_s=3600) as lab:
        lab.table("doc.metrics", shards=4, replicas="0-1", sick_mb=1200)
        yield lab


@pytest.fixture
def client(lab) -> Iterator[CrateDBClient]:
    with CrateDBClient(CrateDBSettings(tuple(lab.urls), statement_timeout_s=60)) as client:
        yield client


def sent_in_vain(client) -> None:
    """Send the SET to 0, and do not wait long for an answer that never comes."""
    with pytest.raises(UnknownResultError):
        client.change(ZERO, timeout_s=1)


def zeros(lab) -> int:
    return sum(entry.stmt.startswith("ALTER TABLE") for entry in lab.journal)


def test_a_reset_by_hand_clears_the_leases(lab, client):
    client.change(ZERO)
    assert read_leases(client.observe(METRICS)).verdict is LeaseVerdict.WAITING

    client.change(flush(METRICS))

    assert read_leases(client.observe(METRICS)).verdict is LeaseVerdict.CLEAR
    assert lab.at_zero() == ["doc.metrics"]


@pytest.mark.parametrize("action", [Action.HANG, Action.RESET_AFTER, Action.HALF_BODY])
def test_a_change_that_landed_without_an_answer_is_unknown_and_landed_once(action, lab, client):
    lab.faults.add(Fault(match="^ALTER TABLE", action=action))

    sent_in_vain(client)

    # A client that gives up may be ahead of the lab's threads.
    in_time(lambda: any(entry.applied for entry in lab.journal), 60)
    assert zeros(lab) == 1
    assert client.observe(METRICS).number_of_replicas == "0"


def test_a_change_that_lands_late_is_seen_by_looking(lab, client):
    lab.faults.add(Fault(match="^ALTER TABLE", action=Action.LATE, seconds=600))

    sent_in_vain(client)

    in_time(lambda: any(entry.delayed for entry in lab.journal), 60)
    assert client.observe(METRICS).number_of_replicas == "0-1"
    lab.advance(600)
    assert client.observe(METRICS).number_of_replicas == "0"


@pytest.mark.parametrize("action", [Action.DISCONNECTED, Action.RESET_BEFORE, Action.HTML])
def test_reads_pass_over_a_node_that_misbehaves(action, lab, client):
    lab.faults.add(Fault(match="^", action=action, node=0))

    assert client.observe(METRICS) is not None


def test_a_draining_node_changes_nothing(lab, client):
    lab.faults.add(Fault(match="^ALTER", action=Action.DISCONNECTED))

    with pytest.raises(TransientError, match="shutting down"):
        client.change(ZERO)

    assert client.observe(METRICS).number_of_replicas == "0-1"


def test_a_huge_answer_is_refused(lab, client):
    lab.faults.add(Fault(match="sys.shards", action=Action.HUGE, megabytes=200))

    with pytest.raises(RefusedError, match="an answer of"):
        client.observe_tables()


def test_a_node_that_is_killed_is_passed_over(lab, client):
    client.observe(METRICS)
    lab.crash(0)
    lab.advance(2)

    assert client.observe(METRICS) is not None
    assert lab.urls[0] in client.connect().unreachable


def test_a_killed_node_with_replicas_at_0_is_a_lost_primary(lab, client):
    client.change(ZERO)
    lab.crash(1)
    lab.advance(2)

    assert read_leases(client.observe(METRICS)).verdict is LeaseVerdict.PRIMARY_LOST
    cluster = client.observe_cluster()
    assert cluster.health == "RED"
    assert cluster.missing_shards
    assert cluster.unhealthy[0].target_key == ("doc", "metrics", "")


def test_the_lost_primary_of_one_partition_is_not_its_neighbours(lab, client):
    table = lab.table(
        "doc.parted", shards=2, replicas="0", partitioned_by=[("ts", "timestamp")],
        partitions=[{"ts": 1}, {"ts": 2}],
    )  # fmt: skip
    first, second = [t.target for t in client.observe_tables() if t.target.name == "parted"]

    table.partition(dict(first.values)).lose_primary(1)

    lost, whole = client.observe(first), client.observe(second)
    assert read_leases(lost).verdict is LeaseVerdict.PRIMARY_LOST
    assert "unassigned" in read_leases(lost).detail
    assert read_leases(whole).verdict is LeaseVerdict.CLEAR


def test_a_running_snapshot_is_seen(lab, client):
    lab.start_snapshot()

    assert client.observe_cluster().running_snapshots == 1


def test_a_cluster_without_a_master_is_seen_as_that(lab, client):
    lab.drop_master()

    assert client.observe_cluster().master_node is None
