"""A run that dies, or is told to stop: nothing stays restricted, and no pod goes twice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from caretaker.decommission.cluster_settings import ALLOCATION
from caretaker.decommission.model import ClusterRef
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.restart import resumed
from caretaker.decommission.ticket import Remembered, RestartTicket
from caretaker.errors import UnsafeError
from console.decommission import finish
from console.runs import RunEnd
from ops.decommission_begin import taken_over
from ops.decommission_look import Looker
from ops.decommission_run import ClusterReport, RestartReport
from resources.clock import utc_now
from resources.process import owner_of_run
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource
from sensors.decommission import restart_open_tickets
from tests.console.conftest import wait_for_line
from tests.restarts.conftest import SETTINGS, held_before_its_drain
from tests.restarts.witness import Witness

#: Of no process.
NOBODY = 2**22 + 1


@pytest.mark.parametrize(
    ("moment", "pods"),
    [
        ("Executing manual decommission SQL 2/", "2"),
        ("Executing manual decommission SQL 5/", "2"),
        ("Will delete pod", "2"),
        ("waiting for the cluster to be at rest", "12"),
    ],
)
def test_a_killed_restart_is_finished_by_another_run(start, caretaker, moment, pods):
    world = start()
    if moment == "Will delete pod":
        # A pod that ends by itself before is not deleted.
        world.crate.world.exit_delay_s = 60.0
    command = caretaker(world)
    chosen = [word for number in pods for word in ("--pod", world.pod(int(number)))]
    given = ["restart", world.name, *chosen, "--config", command.config(settle_s=3)]
    with Witness(world.pods) as witness:
        process = command.start(*given)
        wait_for_line(process, moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with command.store as store:
            (left,) = store.open_restarts()
        assert left.way["server"] == world.pods.plane.front.url
        assert left.way["context"] == "lab"

        run = command("tickets", "restore", f"r{left.id}", "--output", "json")

    assert run.code == 0, run.err
    (cluster,) = run.json["restarts"]
    assert cluster["outcome"] == "COMPLETED", cluster
    assert all(pod["success"] for pod in cluster["pods"])
    assert world.settings == SETTINGS
    once = {world.pod(int(number)): 1 for number in pods}
    assert witness.restarts == dict.fromkeys(witness.restarts, 0) | once
    assert witness.most_out <= 1
    with command.store as store:
        assert store.open_restarts() == []
        assert store.held_locks() == []


def leave(store, cluster):
    """Leave a restart of no pods that has restricted allocation, and on which nobody works."""
    now, owed = utc_now(), Remembered(ALLOCATION, "all", ours=("primaries",))
    ticket = RestartTicket(
        cluster, RestartPolicy(), (), expected_nodes=3, created_at=now, settings=(owed,)
    )
    held = store.open_restart(ticket, owner_of_run("r", 1), purpose="rolling_restart", way={})
    store.restart_failed(held, ticket, "said the test", now)


def test_a_cluster_that_is_gone_keeps_no_other_one_restricted(start, caretaker):
    world = start(tables=False)
    command = caretaker(world)
    world.crate.sql(f"SET GLOBAL TRANSIENT \"{ALLOCATION}\" = 'primaries'")
    (own,) = world.crate.sql("SELECT id FROM sys.cluster")["rows"]
    with command.store as store:
        leave(store, ClusterRef(world.pods.namespace, "torn-down", "another"))
        leave(store, ClusterRef(world.pods.namespace, world.name, own[0]))

    run = command("tickets", "restore", "--output", "json")

    assert (run.code, run.json["exit_code"]) == (1, 1), run.err
    gone, done = run.json["restarts"]
    assert (gone["ticket"], gone["outcome"]) == ("r1", "LEFT_OPEN")
    assert "Cluster not found: torn-down" in gone["reason"]
    assert gone["remedy"] == [f'RESET GLOBAL "{ALLOCATION}"']
    assert (done["ticket"], done["outcome"]) == ("r2", "COMPLETED")
    assert world.settings == SETTINGS
    with command.store as store:
        assert [row.id for row in store.open_restarts()] == [1]


def test_a_stop_while_one_is_taken_over_leaves_the_next_one_as_it_is(home, monkeypatch):
    taken: list[Any] = []

    def run_job(_, options, **__):
        taken.append(options["ticket_id"])
        report = RestartReport((ClusterReport("ns", "one", "id-1", "STOPPED"),))
        return RunEnd("run", success=False, outputs={"record_restarts": report}, stops=1)

    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.delenv("CARETAKER_STATE_URL", raising=False)
    monkeypatch.setattr("console.decommission.run_job", run_job)
    with StateStore.open(f"sqlite:///{home / 'caretaker.db'}") as store:
        leave(store, ClusterRef("ns", "one", "id-1"))
        leave(store, ClusterRef("ns", "two", "id-2"))
        rows = store.open_restarts()

    report = finish(rows)

    assert taken == [1]
    assert [each.outcome for each in report.clusters] == ["STOPPED", "LEFT_OPEN"]
    assert "caretaker tickets restore r2" in report.clusters[1].reason


def test_a_run_that_an_operator_marked_as_canceled_is_not_resumed(start, caretaker, home):
    """Killed with it, it could not write that down; what it had set is put back all the same."""
    world = start()
    command = caretaker(world)
    with held_before_its_drain(world, drained=False):
        process = command.start("restart", world.name, "--config", command.config())
        wait_for_line(process, "Executing manual decommission SQL 2/")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    with command.store as store, dg.DagsterInstance.from_config(str(home)) as instance:
        (left,) = store.open_restarts()
        run = instance.get_run_by_id(left.owner.run_id)
        assert run is not None
        instance.report_run_canceled(run)

    command("tickets", "restore", "r1")

    assert world.replaced == set()
    assert world.settings == SETTINGS
    with command.store as store:
        assert store.open_restarts() == []
        assert store.restart(1).outcome == "STOPPED"


@pytest.mark.parametrize(
    ("shown", "ticks"),
    [
        (dg.DagsterRunStatus.CANCELED, 0),
        (dg.DagsterRunStatus.CANCELING, 0),
        (dg.DagsterRunStatus.CANCELING, 1),
        (dg.DagsterRunStatus.STARTED, 1),
    ],
)
def test_only_a_dead_run_that_an_operator_had_terminated_is_not_resumed(home, shown, ticks):
    """Its process could not obey any more, so Dagster leaves it CANCELING; the sensor ends it."""

    @dg.job(name="rolling_restart")
    def stub() -> None:
        pass

    ticket = RestartTicket(ClusterRef("ns", "prod", "id-1"), RestartPolicy(), (), 3, utc_now())
    state = StateStoreResource(url=f"sqlite:///{home / 'caretaker.db'}")
    with dg.DagsterInstance.from_config(str(home)) as instance, state.store as store:
        run = instance.create_run_for_job(stub, status=shown)
        dead, other = owner_of_run(run.run_id, 2**22 + 1), owner_of_run("other", 2)
        store.open_restart(ticket, dead, purpose="rolling_restart", way={})
        for _ in range(ticks):
            with dg.build_sensor_context(instance, resources={"state": state}) as tick:
                asked: Any = restart_open_tickets(tick)
                assert len(asked.run_requests) == 1
        context: Any = SimpleNamespace(instance=instance, run_id="other")
        hands: Any = SimpleNamespace(store=store, owner=other, emit=lambda _: None)

        taken = taken_over(context, hands, store.restart(1), "id-1")

    meant = "" if shown is dg.DagsterRunStatus.STARTED else "its run was canceled"
    assert taken.ticket.stop == meant


def test_ctrl_c_puts_back_and_begins_no_further_pod(start, caretaker):
    world = start()
    command = caretaker(world)
    given = ("restart", world.name, "--config", command.config(), "--output", "json")
    with held_before_its_drain(world, drained=True):
        process = command.start(*given)
        wait_for_line(process, "Executing manual decommission SQL 4/")

        os.killpg(process.pid, signal.SIGINT)

    command.assert_stopped(process, world)
    assert len(world.replaced) <= 1


def test_a_stop_that_a_library_swallows_arrives_all_the_same(start, caretaker, monkeypatch):
    """Raised where somebody has an `except:` of his own, it is raised again."""
    world = start()
    observe = Looker.observe
    told: list[int] = []

    def told_to_stop(looker, ticket, call=None):
        seen = observe(looker, ticket, call)
        if not told and ticket.current is not None and ticket.current.drain is not None:
            told.append(1)
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
        return seen

    monkeypatch.setattr(Looker, "observe", told_to_stop)
    run = caretaker(world).restart(world)

    assert told
    assert run.code == 1, run.err
    assert run.json["clusters"][0]["outcome"] == "STOPPED"
    assert len(world.replaced) <= 1
    assert world.settings == SETTINGS


def test_a_restart_whose_run_lives_is_not_taken_over(start, caretaker):
    world = start()
    command = caretaker(world)
    process = command.start("restart", world.name, "--config", command.config(settle_s=60))
    wait_for_line(process, "at rest between two pods")

    run = command("tickets", "restore", "r1")
    second = command.restart(world)
    planned = command.restart(world, "--dry-run")

    run.refused("is alive", code=3)
    assert second.code == 3
    assert "open restart already" in second.err
    assert planned.code == 3
    assert "open restart already" in planned.err
    os.killpg(process.pid, signal.SIGINT)
    assert command.wait(process).code == 1
    assert world.settings == SETTINGS


def test_an_owner_that_slept_and_woke_keeps_its_restart_and_what_it_wrote(home):
    """It was read as dead; before it was taken over it remembered a drain, and sent it."""
    now, cluster = utc_now(), ClusterRef("ns", "prod", "id-1")
    ticket = RestartTicket(cluster, RestartPolicy(), (), expected_nodes=3, created_at=now)
    sleeper, other = owner_of_run("sleeper", 1), owner_of_run("other", 2)
    with StateStore.open(f"sqlite:///{home / 'caretaker.db'}") as store:
        held = store.open_restart(ticket, sleeper, purpose="rolling_restart", way={})
        read = store.restart(held.id)
        wrote = replace(ticket, error="what the owner has seen since")
        store.save_restart(held, wrote)

        with pytest.raises(UnsafeError, match=r"run sleeper .*meanwhile: it lives"):
            store.take_over_restart(read, other, resumed(read.ticket, now))

        with pytest.raises(UnsafeError, match=r"run sleeper .*meanwhile: it lives"):
            store.close_restart(
                read, read.ticket, outcome="CLOSED_BY_HAND", reason="", as_read=True
            )

        assert store.restart(held.id).ticket == wrote
        store.check_restart(held)
        taken = store.take_over_restart(store.restart(held.id), other, resumed(wrote, now))
        assert (taken.owner.run_id, taken.epoch) == ("other", 2)


def test_a_takeover_that_comes_too_late_leaves_the_cluster_to_its_owner(home):
    now, cluster = utc_now(), ClusterRef("ns", "prod", "id-1")
    ticket = RestartTicket(cluster, RestartPolicy(), (), expected_nodes=3, created_at=now)
    sleeper, other = owner_of_run("sleeper", 1), owner_of_run("other", 2)
    with (
        StateStore.open(f"sqlite:///{home / 'caretaker.db'}") as store,
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        held = store.open_restart(ticket, sleeper, purpose="rolling_restart", way={})
        store.acquire_lock("id-1", sleeper, purpose="rolling_restart", is_dead=lambda *_: False)
        read = store.restart(held.id)
        store.save_restart(held, replace(ticket, error="what the owner has seen since"))
        context: Any = SimpleNamespace(instance=instance, run_id="other")
        hands: Any = SimpleNamespace(store=store, owner=other, emit=lambda _: None)

        with pytest.raises(UnsafeError, match="it lives"):
            taken_over(context, hands, read, "id-1")

        lock = store.lock("id-1")
        assert lock is not None
        assert lock.owner == sleeper


@pytest.mark.parametrize("lives", [False, True], ids=["is dead", "lives"])
def test_a_run_whose_restart_is_taken_over_is_no_longer_at_work_in_dagster(home, lives):
    """It would take one of `max_concurrent_runs` for ever; one that lives ends by itself."""

    @dg.job(name="rolling_restart")
    def stub() -> None:
        pass

    now, cluster = utc_now(), ClusterRef("ns", "prod", "id-1")
    ticket = RestartTicket(cluster, RestartPolicy(), (), expected_nodes=3, created_at=now)
    with (
        StateStore.open(f"sqlite:///{home / 'caretaker.db'}") as store,
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        run = instance.create_run_for_job(stub, status=dg.DagsterRunStatus.STARTED)
        owner = owner_of_run(run.run_id, os.getppid() if lives else NOBODY)
        held = store.open_restart(ticket, owner, purpose="rolling_restart", way={})
        store.restart_failed(held, ticket, "could not be put back", now)
        context: Any = SimpleNamespace(instance=instance, run_id="other")
        other = owner_of_run("other", os.getpid())
        hands: Any = SimpleNamespace(store=store, owner=other, emit=lambda _: None)

        taken_over(context, hands, store.restart(held.id), "id-1")

        shown = instance.get_run_by_id(run.run_id)
        assert shown is not None
        at_work, failed = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
        assert shown.status is (at_work if lives else failed)


def test_the_sensor_asks_for_a_takeover_of_what_a_dead_run_left(start, caretaker, home):
    world = start()
    command = caretaker(world)
    process = command.start("restart", world.name, "--config", command.config())
    wait_for_line(process, "Executing manual decommission SQL 2/")
    state = StateStoreResource(url=f"sqlite:///{home / 'caretaker.db'}")
    with dg.DagsterInstance.from_config(str(home)) as instance:

        def tick():
            resources = {"state": state}
            with dg.build_sensor_context(instance=instance, resources=resources) as context:
                return restart_open_tickets(context)

        assert "runs that live" in tick().skip_reason.skip_message
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        (request,) = tick().run_requests
    state.store.close()

    assert request.run_config == {"ticket_id": 1}
    assert request.tags["caretaker/restart"] == "r1"
