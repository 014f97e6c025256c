"""Somebody else is at work on the same cluster."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest

from caretaker.translog.outcome import ResetOutcome
from ops.owners import death_seen_from, owner_of
from resources import process
from tests.waiting import in_time
from tests.world import ended, refuses_to_start

COMPLETED, SKIPPED = ResetOutcome.COMPLETED, ResetOutcome.SKIPPED

#: The last thing that a run asks before it takes the cluster's lock.
LAST_QUESTION = "sys.cluster_health"


@pytest.fixture
def dagster_used_before(world):
    """Dagster cannot make its own databases in two processes at once; this is not about that."""
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.get_runs(limit=1)
        instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION), limit=1
        )


@pytest.mark.usefixtures("dagster_used_before")
def test_of_two_runs_that_begin_at_the_same_moment_one_works(world):
    """Both have found the cluster fit, and race for its lock."""
    table = world.table("doc.metrics")
    both = threading.Barrier(2)
    world.fault(LAST_QUESTION, times=2, before=lambda _: both.wait(60))
    runs: list[subprocess.Popen[str]] = []
    # Whoever comes for the lock when the first is through finds it free, and nothing left to do.
    world.on_zero(before=lambda _: in_time(lambda: any(run.poll() is not None for run in runs)))

    runs += [world.start(), world.start(percentage=190)]
    with ThreadPoolExecutor(2) as pool:
        printed = list(pool.map(ended, runs))

    assert sorted(one["success"] for one in printed) == [False, True]
    (winner,) = [one for one in printed if one["success"]]
    assert winner["outcomes"] == {"doc.metrics": "COMPLETED"}
    assert {"success": False} in printed
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]
    assert (table.number_of_replicas, world.open_tickets) == ("0-1", [])
    assert len(world.recorded) == 1


@pytest.mark.parametrize("purpose", ["pod_decommission", "rolling_restart", "translog_reset"])
def test_a_living_run_that_has_the_cluster_is_named(world, purpose):
    """Seen dead or alive by the same judge as in production: its process is there."""
    world.table("doc.metrics")
    holder = process.owner_of_run("run-of-another", os.getppid())
    cluster_id = world.lab.world.cluster_id
    world.store.acquire_lock(cluster_id, holder, purpose=purpose, is_dead=lambda *_: False)

    run = world.reset()

    refuses_to_start(run, world)
    assert f"pid {os.getppid()}) for {purpose}" in run.failure
    assert world.store.lock(cluster_id).owner == holder


def drained(world):
    """Decommission a node whose shards take an hour to move; return once it is under way."""
    world.lab.world.relocation_s = 3600.0
    world.lab.sql("SET GLOBAL TRANSIENT \"cluster.graceful_stop.min_availability\" = 'FULL'")
    statement = f"ALTER CLUSTER DECOMMISSION '{world.lab.nodes[2]}'"
    threading.Thread(target=world.lab.sql, args=(statement,), daemon=True).start()
    query = "SELECT count(*) FROM sys.jobs WHERE stmt LIKE 'ALTER CLUSTER%'"
    deadline = time.monotonic() + 30
    while world.lab.sql(query)["rows"] != [[1]]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def restricted(world):
    """What the first step of a graceful stop by hand leaves to be seen."""
    world.lab.sql("SET GLOBAL TRANSIENT \"cluster.routing.allocation.enable\" = 'new_primaries'")


def left(world):
    """A node that was stopped gracefully is not there any more."""
    world.lab.crash(2)
    world.lab.advance(1)


STOPS = pytest.mark.parametrize(
    ("begins", "words"),
    [
        (drained, "a node is being decommissioned"),
        (restricted, "'new_primaries'"),
        (left, "2 nodes are present, 3 are expected"),
    ],
    ids=["a decommission", "an allocation restriction", "a node that was stopped"],
)


@STOPS
def test_no_table_is_begun_during(world, begins, words):
    world.table("doc.metrics")
    begins(world)

    run = world.reset(expected_nodes=3)

    refuses_to_start(run, world)
    assert words in run.failure


@STOPS
def test_a_reset_stops_between_two_tables_for(world, begins, words):
    """The first is finished and has its replicas, the second is left as it was."""
    first = world.table("doc.first", sick_mb=1300, shards=1)
    second = world.table("doc.second")
    world.on_restore(times=1, after=lambda _: begins(world))

    run = world.reset(expected_nodes=3, verify_timeout_s=0.2)

    assert run.outcomes == {"doc.first": COMPLETED, "doc.second": SKIPPED}
    assert run.exit_code == 3
    assert words in run.results[-1].reason
    assert (first.number_of_replicas, second.number_of_replicas) == ("0-1", "0-1")
    assert {name for name, _ in world.altered} == {'"doc"."first"'}
    assert world.open_tickets == []


def test_a_reset_that_lost_the_cluster_to_another_run_finishes_its_table_and_begins_no_other(
    world,
):
    """It looked dead to somebody, and a decommission has the lock now."""
    first = world.table("doc.first", sick_mb=1300)
    second = world.table("doc.second")
    cluster_id = world.lab.world.cluster_id
    other = owner_of("run-of-another", a_process_each=False)

    def taken(_):
        world.store.acquire_lock(
            cluster_id, other, purpose="pod_decommission", is_dead=lambda *_: True
        )

    world.on_restore(times=1, before=taken)

    run = world.reset()

    assert run.outcomes == {"doc.first": COMPLETED, "doc.second": SKIPPED}
    assert "no longer ours: run run-of-another has it" in run.results[-1].reason
    assert (first.number_of_replicas, second.number_of_replicas) == ("0-1", "0-1")
    # Nor does it let go of what is another's.
    assert world.store.lock(cluster_id).owner.run_id == "run-of-another"


def test_a_dead_run_does_not_keep_the_cluster(world):
    """A lock whose process is gone is taken over by the next run."""
    world.table("doc.metrics")
    gone = process.owner_of_run("run-of-the-dead", 2**22 + 1)
    cluster_id = world.lab.world.cluster_id
    world.store.acquire_lock(
        cluster_id, gone, purpose="pod_decommission", is_dead=death_seen_from(world._instance)
    )

    assert world.reset().outcome is COMPLETED
    assert world.store.lock(cluster_id) is None
