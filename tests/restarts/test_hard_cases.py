"""What goes wrong in the middle of a restart, and what an operator gets then.

Pods, processes, hooks and API server are real enough to do it: nothing here is told to caretaker,
it has to see it. One cluster of each strategy serves all cases, one pod at a time.
"""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caretaker.decommission import draining, turn
from caretaker.errors import TransientError
from lab.faults import Action, Fault
from lab.kubernetes.cluster import CratePods
from resources.state_store import StateStore
from tests.console.conftest import wait_for_line
from tests.planes import plane_of
from tests.restarts.conftest import (
    PATIENCE_S,
    SETTINGS,
    Restarter,
    World,
    held_before_its_drain,
)
from tests.restarts.witness import Witness

Report = dict[str, Any]

DELETES = "delete pods "


@pytest.fixture(scope="module")
def shared_manual(module_start):
    """Three pods that we drain."""
    return module_start(back_off_s=0.5).pods


@pytest.fixture(scope="module")
def shared_managed(module_start):
    """Three pods that their hook drains."""
    return module_start(managed=True, back_off_s=0.5).pods


@pytest.fixture
def manual(shared_manual: CratePods) -> Iterator[World]:
    """Three pods that we drain, well before and well afterwards."""
    yield from _well(shared_manual)


@pytest.fixture
def managed(shared_managed: CratePods) -> Iterator[World]:
    """Three pods that their hook drains, well before and well afterwards."""
    for world in _well(shared_managed):
        world.crate.world.exit_delay_s = 1.0
        yield world


def _well(pods: CratePods) -> Iterator[World]:
    pods.wait_for("all pods Ready", pods.all_ready, PATIENCE_S)
    pods.crate.world.relocation_s = 0.3
    # Five seconds are few on a busy machine; a case that is about the exit says so.
    pods.crate.world.exit_delay_s = 60.0
    yield World(pods)
    pods.crate.faults.clear()
    pods.plane.front.faults.clear()
    for lever in (pods.kubelet.held, pods.kubelet.never_ready, pods.kubelet.silent):
        lever.clear()
    pods.crate.sql(
        'RESET GLOBAL "cluster.graceful_stop", "cluster.routing.allocation.enable"',
    )
    pods.wait_for("all pods Ready", pods.all_ready, PATIENCE_S)


@pytest.fixture
def restart(caretaker: Callable[..., Restarter]) -> Callable[..., Report]:
    """Restart one pod by the command line, and return its cluster's report."""

    def one(world: World, number: int = 0, *, address: bool = True, **options: Any) -> Report:
        run = caretaker(world, address=address).restart(
            world, "--pod", world.pod(number), **options
        )
        assert run.out, run.err
        (cluster,) = run.json["clusters"]
        return {**cluster, "err": run.err, "code": run.code}

    return one


def completed(cluster: Report) -> Report:
    """Return the one pod's result, which must be a success."""
    assert cluster["outcome"] == "COMPLETED", cluster["reason"]
    pod: Report
    (pod,) = cluster["pods"]
    assert pod["success"] is True
    return pod


def starts(pods: CratePods, name: str) -> int:
    """How often its container started again in place."""
    found = pods.pod(name) or {}
    statuses = (found.get("status") or {}).get("containerStatuses") or []
    return sum(int(each["restartCount"]) for each in statuses if each["ready"])


def back_in_place(pods: CratePods, name: str) -> Callable[[object], None]:
    """Let a request wait until the pod's container has started again and serves."""
    before = starts(pods, name)

    def wait(_: object) -> None:
        pods.wait_for(f"{name} in place", lambda: starts(pods, name) > before, PATIENCE_S)

    return wait


# --- in place -------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1], ids=["once", "crash-loop"])
def test_a_pod_that_exits_0_and_comes_back_in_place_is_told_as_it_is(manual, restart, before):
    """Also from CrashLoopBackOff, where the pod may not be deleted: it was restarted, and once."""
    pods, name = manual.pods, manual.pod(0)
    manual.crate.world.exit_delay_s = 15.0
    for _ in range(before):
        wait = back_in_place(pods, name)
        pods.kubelet.container(name).kill()
        wait(None)
        pods.wait_for("all pods Ready", pods.all_ready, PATIENCE_S)
    refused = Fault(DELETES, Action.ERROR, status=403, message="pods is forbidden")
    pods.plane.front.faults.add(refused)
    count = starts(pods, name)

    with Witness(pods) as witness:
        cluster = restart(manual)

    (pod,) = cluster["pods"]
    assert "Failed to delete pod" in pod["error"]
    assert pod["restarted_in_place"] is True
    assert pods.uid(name) == manual.before[name]
    assert starts(pods, name) == count + 1
    assert witness.most_out == 1
    assert manual.settings == SETTINGS


def test_a_node_that_rejoined_before_the_delete_is_not_killed_again(manual, restart):
    """The delete was on its way when the process ended and started again."""
    pods, name = manual.pods, manual.pod(0)
    manual.crate.world.exit_delay_s = 12.0
    late = Fault(DELETES, Action.WATCH, times=1, before=back_in_place(pods, name))
    pods.plane.front.faults.add(late)

    with Witness(pods) as witness:
        pod = completed(restart(manual))

    assert late.fired == 1
    assert pods.uid(name) == manual.before[name]
    assert pod["restarted_in_place"] is True
    assert witness.restarts[name] == 1


def test_a_drained_pod_is_deleted_before_its_process_would_end(manual, restart):
    pods, name = manual.pods, manual.pod(0)
    count = pods.nodes.starts[name]

    with Witness(pods) as witness:
        pod = completed(restart(manual))

    assert pod["restarted_in_place"] is False
    assert pods.nodes.starts[name] == count + 1
    assert witness.restarts[name] == 1
    assert witness.most_out == 1


# --- pods that do not go, or do not come ----------------------------------------------------------


def test_a_pod_stuck_in_terminating_is_reported_and_nothing_stays_set(manual, restart):
    pods, name = manual.pods, manual.pod(0)
    pods.kubelet.held.add(name)

    cluster = restart(manual, terminating_margin_s=1, timeout_s=20, ready_margin_s=15)

    assert cluster["code"] == 1
    assert cluster["outcome"] == "FAILED"
    assert "Terminating" in cluster["reason"]
    assert pods.uid(name) == manual.before[name]
    assert manual.settings == SETTINGS


@pytest.mark.parametrize("strategy", ["manual", "managed"])
def test_a_replacement_that_never_gets_ready_ends_the_restart(request, restart, strategy):
    world = request.getfixturevalue(strategy)
    pods, name = world.pods, world.pod(0)

    def fail_from_now_on(_: object) -> None:
        pods.kubelet.never_ready.add(name)

    pods.plane.front.faults.add(Fault(DELETES, Action.WATCH, before=fail_from_now_on))

    cluster = restart(world, timeout_s=1, ready_margin_s=3)

    assert cluster["code"] == 1
    assert cluster["outcome"] == "FAILED"
    assert name in cluster["reason"]
    assert "Ready" in cluster["reason"]
    assert world.settings == SETTINGS


def test_a_pod_whose_hook_still_drains_is_not_taken_for_restarted(managed, caretaker):
    """It is Running and Ready all the while, and three nodes are GREEN."""
    managed.crate.world.relocation_s = 2.0
    pods = [managed.pod(0), managed.pod(1)]

    with Witness(managed.pods) as witness:
        arguments = [word for name in pods for word in ("--pod", name)]
        run = caretaker(managed).restart(managed, *arguments)

    assert run.code == 0, run.err
    (cluster,) = run.json["clusters"]
    first, second = sorted(cluster["pods"], key=lambda pod: pod["started_at"])
    assert first["completed_at"] <= second["started_at"]
    assert witness.most_out == 1
    assert [witness.restarts[name] for name in pods] == [1, 1]
    assert managed.settings == SETTINGS


# --- drains ---------------------------------------------------------------------------------------


def test_our_own_time_out_does_not_end_what_the_server_goes_on_with(manual, restart):
    manual.crate.world.relocation_s = 4.0
    name = manual.pod(0)

    with Witness(manual.pods) as witness:
        cluster = restart(manual, decommission_timeout_s=1)

    completed(cluster)
    assert witness.restarts[name] == 1
    assert witness.most_out == 1
    assert manual.settings == SETTINGS


def test_a_drain_that_succeeds_with_its_node_alive_is_a_failure(manual, restart):
    """CrateDB answers rowcount 1, gives the drain up, and the node serves on."""
    world = manual.crate.world

    def given_up(_: object) -> None:
        with world.lock:
            node = world.nodes[0]
            node.draining = False
            world.drains[node.id] += 1

    answered = Fault("^ALTER CLUSTER DECOMMISSION", after=given_up)
    manual.crate.faults.add(answered)

    cluster = restart(manual, hang_after_s=5)

    assert answered.fired >= 1
    assert cluster["outcome"] == "FAILED"
    assert "serves again" in cluster["reason"]
    assert manual.replaced == set()
    assert manual.settings == SETTINGS


def test_a_drain_that_hangs_empty_is_cut_short_and_said(manual, restart):
    manual.crate.world.exit_delay_s = 5.0
    manual.crate.hang_drain(0)

    with Witness(manual.pods) as witness:
        cluster = restart(manual, delete_when="exited", hang_after_s=2)

    completed(cluster)
    assert "hung" in cluster["err"]
    assert witness.restarts[manual.pod(0)] == 1
    assert witness.most_out == 1
    assert manual.settings == SETTINGS


# --- the way to it --------------------------------------------------------------------------------


def test_exec_channels_that_are_cut_mid_way_delay_and_harm_nothing(manual, restart):
    """Some before their command ran, some after: the second kind must not be sent twice."""
    front = manual.pods.plane.front
    cut = Fault("pods/exec", Action.RESET_AFTER, probability=0.2, seed=4, times=6)
    begun = Fault("^SET GLOBAL", times=1, before=lambda _: front.faults.add(cut))
    manual.crate.faults.add(begun)

    with Witness(manual.pods) as witness:
        completed(restart(manual, address=False))

    assert cut.fired > 1
    assert witness.restarts[manual.pod(0)] == 1
    assert witness.most_out == 1
    assert manual.settings == SETTINGS


@pytest.mark.parametrize("strategy", ["manual", "managed"])
def test_a_rough_api_server_delays_a_restart_and_nothing_else(request, restart, strategy):
    """It answers 409, 410, 429 and 500, drops watches, forgets its history and is restarted."""
    world = request.getfixturevalue(strategy)
    plane, name = world.pods.plane, world.pod(0)
    rules = [
        Fault(DELETES, Action.ERROR, status=409, message="the object has been modified", times=1),
        Fault("watch", Action.ERROR, status=410, message="too old resource version", times=2),
        Fault("^(get|list) ", Action.ERROR, status=429, seconds=0, probability=0.1, times=6),
        Fault("^(get|list) ", Action.ERROR, status=500, probability=0.1, times=6, seed=1),
    ]
    done, did = threading.Event(), []

    def mischief() -> None:
        pranks = (plane.front.drop_connections, plane.expire_history, plane.restart_api)
        # Before the first change a restart is refused, and nothing is touched.
        while not rules[0].matched:
            if done.wait(0.1):
                return
        for prank in itertools.cycle(pranks):
            if done.wait(2.0):
                return
            prank()
            did.append(prank)

    for rule in rules:
        plane.front.faults.add(rule)
    worker = threading.Thread(target=mischief)
    worker.start()
    try:
        with Witness(world.pods) as witness:
            completed(restart(world))
    finally:
        done.set()
        worker.join(60)

    assert did
    assert rules[0].fired == 1
    assert witness.restarts[name] == 1
    assert witness.most_out == 1
    assert world.settings == SETTINGS


@pytest.mark.parametrize("strategy", ["manual", "managed"])
def test_a_slow_answer_about_snapshots_delays_a_restart_and_nothing_else(
    request, restart, monkeypatch, strategy
):
    """Slower than a look may be old by the time of its effect: what moves slowly does not count."""
    world = request.getfixturevalue(strategy)
    for module in (draining, turn):
        monkeypatch.setattr(module, "BEGIN_WITHIN_S", 6.0)
    world.crate.faults.add(Fault("sys.snapshots", Action.LATENCY, seconds=8.0))

    completed(restart(world))

    assert world.settings == SETTINGS


def test_a_state_store_that_fails_once_at_each_turn_delays_a_restart_and_ends_none(
    manual, restart, monkeypatch
):
    """Also while allocation is restricted, which is when a run that ended would leave it so."""
    failed = []

    def failing_once(name):
        real = getattr(StateStore, name)

        def call(store, *arguments, **options):
            restricted = manual.settings["cluster.routing.allocation.enable"] == "primaries"
            if name not in failed and (restricted or name == "close_restart"):
                failed.append(name)
                raise TransientError("the state store does not answer")
            return real(store, *arguments, **options)

        monkeypatch.setattr(StateStore, name, call)

    for name in ("open_tickets", "begin_effect", "check_restart", "close_restart"):
        failing_once(name)

    completed(restart(manual))

    assert sorted(failed) == ["begin_effect", "check_restart", "close_restart", "open_tickets"]
    assert manual.settings == SETTINGS


# --- whoever started it ---------------------------------------------------------------------------


def started(caretaker, world, *before: str, after: str = "") -> tuple[Restarter, Any]:
    """Start the restart of one pod from a shell of its own, which waits for its stdin to end."""
    command = caretaker(world, address=False)
    words = [*before, sys.executable, "-m", "console.main", "restart", world.name]
    words += ["--pod", world.pod(0), "--config", command.config(), "--output", "json"]
    process = subprocess.Popen(
        ["sh", "-c", f"{shlex.join(words)} {after}"],
        cwd=command.folder,
        env=command.process_environment,
        text=True,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    command.running.append(process)
    wait_for_line(process, "Executing manual decommission SQL 4/")
    return command, process


def test_a_restart_under_nohup_goes_on_when_its_shell_ends(manual, caretaker):
    command, process = started(caretaker, manual, "nohup", after="& read line")

    os.killpg(process.pid, signal.SIGHUP)
    ended = command.wait(process)

    (cluster,) = ended.json["clusters"]
    assert completed(cluster)["pod_name"] == manual.pod(0)
    assert manual.settings == SETTINGS


def test_a_terminal_that_is_closed_is_a_stop_and_nothing_stays_set(manual, caretaker):
    with held_before_its_drain(manual, drained=True):
        command, process = started(caretaker, manual, "exec")

        os.killpg(process.pid, signal.SIGHUP)

    command.assert_stopped(process, manual)


# --- a machine that is lost -----------------------------------------------------------------------


@pytest.fixture
def hasty_plane(request):
    """A control plane that gives up a machine after 20 s, where it can be told so."""
    with plane_of(request, request.config.getoption("--restarts-on"), node_grace_s=20.0) as found:
        yield found


def test_a_lost_machines_pod_is_refused_though_its_container_says_ready(hasty_plane, caretaker):
    with CratePods(hasty_plane, name="lost", namespace="lost") as pods:
        pods.crate.table("doc.readings", shards=4, replicas="1")
        world = World(pods)
        found = pods.pod(1) or {}
        pods.kubelet.silent.add(found["spec"]["nodeName"])
        pods.wait_for("the machine to be given up", lambda: not pods.is_ready(1), 120.0)
        assert (pods.pod(1) or {})["status"]["containerStatuses"][0]["ready"] is True
        command = caretaker(world)
        command.environment["KUBECONFIG"] = str(hasty_plane.kubeconfig(pods.namespace))

        run = command.restart(world, "--pod", world.pod(1))

        assert run.code == 3, run.err
        assert "not Ready" in run.out
        assert world.replaced == set()
        assert world.changes == []
