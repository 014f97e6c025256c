"""What an operator gets from a restart, undisturbed and disturbed, in a world with rules.

The witness of the world raises as soon as two pods are down, a shard is missing, a node leaves
twice, or a node that serves, or that has data nobody else has, is deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from caretaker.decommission.cluster_settings import ALLOCATION, FORCE, MIN_AVAILABILITY, TIMEOUT
from caretaker.decommission.events import EventName
from caretaker.decommission.model import WindowVerdict
from caretaker.decommission.outcome import results_of
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.restart import next_step, stopped
from caretaker.decommission.steps import (
    Action,
    Answer,
    Await,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    Verdict,
)
from caretaker.decommission.ticket import DecommissionState
from tests.decommission.simulated_crate import Call
from tests.decommission.simulated_kube import restricted
from tests.decommission.world import Runner, World, a_world

POD_0, POD_1, POD_2 = (f"crate-data-hot-prod-{n}" for n in range(3))
STRATEGIES = ("manual", "kubernetes_managed")


def restart(world: World, *pods: str, policy: dict[str, object] | None = None, **changes) -> Runner:
    """Restart these pods, or all, and see it through."""
    runner = Runner(world, RestartPolicy.checked(**(policy or {})), **changes)
    runner.start(*pods)
    return runner


def effects(runner: Runner, kind: type) -> list[Any]:
    return [action for action in runner.effects if isinstance(action, kind)]


# --- undisturbed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_pod_is_restarted_once_the_highest_first_and_the_master_last(strategy):
    world = a_world(strategy)

    runner = restart(world)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert world.deletes == [POD_1, POD_0, POD_2]
    assert world.worst_down == 1
    world.check_restarted(world.pods)
    world.check_settings()


def test_a_master_that_changes_is_still_last():
    world = a_world(size=4)
    world.crate.master = "data-hot-0"

    def elect(runner: Runner) -> None:
        if len(runner.world.deletes) == 1:
            world.crate.master = "data-hot-2"

    runner = restart(world, between=elect)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert [name[-1] for name in world.deletes] == ["3", "1", "0", "2"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_thirty_quiet_seconds_pass_between_two_pods(strategy):
    world = a_world(strategy)
    begun: list[Any] = []

    def note(runner: Runner) -> None:
        current = runner.ticket.current
        if current is not None and (not begun or begun[-1] != current.name):
            begun.append(current.name)
            ended = [pod.ended_at for pod in runner.ticket.pods if pod.ended_at]
            if ended:
                assert current.began_at is not None
                assert current.began_at - max(ended) >= timedelta(seconds=30)

    restart(world, between=note)

    assert len(begun) == 3


def test_seconds_in_which_nobody_looked_do_not_count_as_quiet():
    """The process was suspended between two pods: what happened meanwhile is not known."""
    world = a_world()
    woke: list[float] = []

    def suspend(runner: Runner) -> None:
        if runner.ticket.quiet_since is not None and not woke:
            world.time.advance(300)
            woke.append(world.time.t)
        if woke and runner.ticket.current is not None and len(woke) == 1:
            woke.append(world.time.t)

    restart(world, between=suspend)

    assert woke[1] - woke[0] >= 30


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_an_operator_had_set_persistently_is_there_again(strategy):
    world = a_world(strategy)
    world.crate.persistent = {TIMEOUT: "900s", MIN_AVAILABILITY: "FULL", FORCE: True}
    world.promise()

    restart(world)

    world.check_settings()


def test_only_what_differs_is_set_and_only_that_is_reset():
    world = a_world()
    world.crate.persistent = {TIMEOUT: "720000ms", FORCE: True}
    world.promise()

    runner = restart(world, POD_2)

    assert [action.key for action in effects(runner, SetGlobal)] == [ALLOCATION]
    assert effects(runner, ResetGlobal) == [ResetGlobal((ALLOCATION,))]
    world.check_settings()


def test_an_undisturbed_manual_restart_has_nothing_to_note():
    """A drained pod ends by the TERM of our own delete, with 143."""
    runner = restart(a_world())

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert {pod.exit_code for pod in runner.ticket.pods} == {143}
    assert [result.notes for result in results_of(runner.ticket)] == [()] * 3


def test_a_process_that_somebody_else_has_ended_is_noted(monkeypatch):
    world = a_world()
    end = world.kube._container_ended
    monkeypatch.setattr(world.kube, "_container_ended", lambda pod, _: end(pod, 143))

    runner = restart(world, POD_2, policy={"delete_when": "exited"})

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    [result] = results_of(runner.ticket)
    assert "the process ended with exit code 143" in result.notes


def test_a_drained_pod_is_deleted_before_its_process_ends_and_never_restarts_in_place():
    world = a_world()

    runner = restart(world, POD_2)

    [result] = results_of(runner.ticket)
    assert result.success
    assert result.uid_after not in {None, result.uid_before}
    assert not result.restarted_in_place
    assert runner.ticket.pods[0].exit_code != 0
    assert result.duration < 20


def test_waiting_for_the_exit_deletes_a_pod_whose_process_has_ended():
    world = a_world()

    runner = restart(world, POD_2, policy={"delete_when": "exited"})

    [result] = results_of(runner.ticket)
    assert result.success
    assert runner.ticket.pods[0].exit_code == 0
    assert result.uid_after != result.uid_before


def test_the_cluster_stays_green_throughout_when_everything_is_moved_away_first():
    world = a_world()
    colours = set()
    world.time.watchers.append(lambda: colours.add(world.crate.health))

    restart(world, POD_2, policy={"min_availability": "FULL"})

    # The single-copy tables and the replicas all had somewhere to go but for one node's worth.
    assert "RED" not in colours


def test_allocation_is_free_again_before_green_is_waited_for():
    world = a_world()
    states = []

    def note(runner: Runner) -> None:
        if runner.ticket.pods[0].state is DecommissionState.AWAITING_GREEN:
            states.append(restricted(world.crate))

    restart(world, POD_2, between=note)

    assert not any(states)


def test_a_decommission_alone_ends_when_the_node_is_out_and_all_is_put_back():
    world = a_world()

    runner = restart(world, POD_2, policy={"goal": "decommission"})

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert results_of(runner.ticket)[0].process_exited
    world.check_settings()
    assert not world.crate.nodes["data-hot-2"].member


def test_a_pod_in_its_prestop_hook_is_not_taken_for_restarted():
    """It is Running and Ready all through, and the cluster GREEN with three nodes."""
    world = a_world("kubernetes_managed")
    world.crate.move_s = 20.0

    runner = restart(world, POD_2)

    [result] = results_of(runner.ticket)
    assert result.success
    assert result.duration > 40
    world.check_restarted([POD_2])


def test_the_log_says_what_the_operators_notes_say():
    world = a_world("kubernetes_managed")
    runner = restart(world, POD_2)
    said = [event.sentence() for event in runner.events]
    for sentence in (
        f"Analyzing decommission strategy for pod {POD_2}",
        "Cluster config: has_prestop_hook=True, has_dc_util=True",
        f"Will delete pod {POD_2} with grace period 780s for dc_util",
        f"Pod {POD_2} has been deleted",
    ):
        assert sentence in said
    assert any(line.startswith(f"Kubernetes-managed decommission completed for pod {POD_2}")
               for line in said)  # fmt: skip


def test_each_statement_of_a_manual_drain_is_told_with_its_number():
    runner = restart(a_world(), POD_2)
    told = [e.sentence() for e in runner.events if e.name is EventName.STATEMENT]
    assert [line.partition(":")[0] for line in told] == [
        f"Executing manual decommission SQL {n}/5" for n in (1, 2, 4, 5)
    ]
    assert told[-1].endswith("ALTER CLUSTER DECOMMISSION 'data-hot-2'")


# --- drains that do not end as they should --------------------------------------------------------


def test_a_drain_that_hangs_empty_is_cut_short():
    """A CrateDB bug met in ordinary use: 0 shards, no request, and the process stays."""
    world = a_world()
    world.crate.hung = {"data-hot-2"}

    runner = restart(world, POD_2, policy={"delete_when": "exited"})

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    cut = [action for action in effects(runner, SetGlobal) if action.value == "5s"]
    assert len(cut) == 1
    assert any("hung" in note for note in results_of(runner.ticket)[0].notes)
    world.check_settings()


def test_a_hanging_drain_that_cannot_be_cut_short_ends_with_its_pod():
    world = a_world()
    world.crate.deaf = {"data-hot-2"}

    runner = restart(world, POD_2, policy={"delete_when": "exited"})

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert world.deletes == [POD_2]
    world.check_restarted([POD_2])


def test_graceful_stop_is_not_reset_while_a_drain_hangs():
    """Force would become false, and the node abort its stop and serve again (seen live)."""
    world = a_world()
    world.crate.hung = {"data-hot-2"}

    def look(runner: Runner) -> None:
        if world.crate.nodes["data-hot-2"].draining:
            assert not effects(runner, ResetGlobal)

    restart(world, POD_2, policy={"delete_when": "exited"}, between=look)


@pytest.mark.parametrize("when", ["drained", "exited"])
def test_a_query_that_runs_is_given_the_time_that_the_server_gives_it(when):
    """And is not cut by a delete of its empty node's pod."""
    world = a_world()
    world.crate.busy = {"data-hot-2"}
    world.time.after(60, world.crate.busy.clear)

    def look(_: Runner) -> None:
        if world.crate.busy:
            assert world.deletes == []

    runner = restart(world, POD_2, policy={"delete_when": when}, between=look)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert not [action for action in effects(runner, SetGlobal) if action.value == "5s"]


@pytest.mark.parametrize("when", ["drained", "exited"])
def test_a_drain_that_succeeds_with_the_node_still_alive_is_a_failure(when):
    """Rowcount 1, and the node serves again: an active query with force = false."""
    world = a_world()
    world.crate.gives_up = {"data-hot-2"}

    runner = restart(world, POD_2, policy={"delete_when": when})

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "serves again" in runner.conclusion.reason
    assert world.deletes == []
    world.check_settings()


def test_after_our_own_time_out_the_node_is_watched_until_its_drain_ends():
    world = a_world()
    world.crate.move_s = 30.0

    def look(runner: Runner) -> None:
        if world.crate.nodes["data-hot-2"].draining:
            assert not effects(runner, ResetGlobal)

    runner = restart(world, POD_2, policy={"decommission_timeout_s": 20}, between=look)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert len(effects(runner, DecommissionNode)) == 1
    world.check_settings()


def test_a_drain_without_end_fails_and_says_after_how_long():
    world = a_world()
    world.crate.move_s = 50_000.0

    runner = restart(
        world, POD_2, policy={"decommission_timeout_s": 60, "timeout_s": 100_000 / 1000}
    )

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "Manual decommission timed out after 60s" in runner.conclusion.reason
    assert world.deletes == []


@pytest.mark.parametrize("when", ["drained", "exited"])
def test_a_node_that_left_undrained_is_not_deleted_and_nothing_further_is_restarted(when):
    """new_primaries: the statement passes at once, the node leaves with unreplicated primaries."""
    world = a_world(excused=True)
    world.kube.restart_s = 3.0

    runner = restart(world, policy={"allocation_mode": "new_primaries", "delete_when": when})

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "left before it was drained" in runner.conclusion.reason
    assert world.deletes == []
    assert sum(node.departures for node in world.crate.nodes.values()) == 1
    assert runner.ticket.pods[0].restarted_in_place or runner.ticket.pods[1].restarted_in_place
    assert any("RED" in note for note in results_of(runner.ticket)[1].notes)
    world.check_settings()


@pytest.mark.parametrize("lag_s", [0.0, 20.0])
def test_a_node_that_dies_in_its_drain_is_not_drained_again(lag_s):
    """Not even where Kubernetes tells late that its container is another one."""
    world = a_world(excused=True)
    world.lag_s = lag_s
    world.crate.move_s = 3.0
    world.time.after(4.0, lambda: world.kube.crash(POD_2))

    runner = restart(world, POD_2, policy={"min_availability": "FULL"})

    assert len(effects(runner, DecommissionNode)) == 1
    assert world.crate.nodes["data-hot-2"].departures == 1
    assert world.crate.health == "GREEN"
    world.check_settings()


def test_a_refused_decommission_puts_everything_back():
    world = a_world()

    runner = restart(
        world,
        answers=lambda a: (
            Answer(Verdict.REFUSED, "superuser needed") if isinstance(a, DecommissionNode) else None
        ),
    )

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "superuser needed" in runner.conclusion.reason
    assert world.deletes == []
    world.check_settings()


def test_a_decommission_that_is_refused_later_puts_everything_back(monkeypatch):
    world = a_world()
    monkeypatch.setattr(world.crate, "decommission", Call)
    runner = restart(world, call_error="superuser needed")
    assert runner.conclusion.outcome is RestartOutcome.FAILED
    world.check_settings()


def test_a_refused_setting_drains_nobody():
    world = a_world()
    runner = restart(
        world,
        answers=lambda a: (
            Answer(Verdict.REFUSED, "AL needed")
            if isinstance(a, SetGlobal) and a.key == ALLOCATION
            else None
        ),
    )
    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert not effects(runner, DecommissionNode)
    world.check_settings()


# --- pods that do not come back as they should ----------------------------------------------------


def test_a_node_that_came_back_in_place_is_not_deleted():
    """Deleting it would hard-kill a live node: RED a second time (seen live)."""
    world = a_world()
    world.kube.restart_s = 0.0

    runner = restart(world, POD_2, policy={"delete_when": "exited"})

    [result] = results_of(runner.ticket)
    assert result.success
    assert result.restarted_in_place
    assert world.deletes == []
    assert any(event.name is EventName.REJOINED for event in runner.events)


def test_an_exited_container_in_back_off_is_no_error():
    world = a_world()
    world.kube.exits = {POD_2: [-30.0, -20.0, -10.0]}

    runner = restart(world, POD_2, policy={"delete_when": "exited"})

    [result] = results_of(runner.ticket)
    assert result.success
    assert result.duration < 30


def test_a_back_off_is_waited_out_where_the_pod_may_not_be_deleted():
    world = a_world()
    world.kube.exits = {POD_2: [-30.0, -20.0, -10.0]}

    runner = restart(
        world,
        POD_2,
        policy={"delete_when": "exited"},
        answers=lambda a: (
            Answer(Verdict.REFUSED, "Forbidden") if isinstance(a, DeletePod) else None
        ),
    )

    [result] = results_of(runner.ticket)
    assert result.error == "Failed to delete pod: Forbidden"
    assert result.restarted_in_place
    assert any("CrashLoopBackOff" in wait.how_far for wait in runner.waits)
    assert world.crate.health == "GREEN"
    world.check_settings()


def test_a_managed_pod_that_may_not_be_deleted_is_left_alone():
    world = a_world("kubernetes_managed")
    runner = restart(
        world,
        answers=lambda a: (
            Answer(Verdict.REFUSED, "Forbidden") if isinstance(a, DeletePod) else None
        ),
    )
    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert results_of(runner.ticket)[1].error == "Failed to delete pod: Forbidden"
    assert world.down == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_replacement_that_never_gets_ready_is_given_up_and_settings_are_back(strategy):
    world = a_world(strategy)
    world.kube.never_ready = {POD_1}

    runner = restart(world)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert f"pod {POD_1} to be Ready" in runner.conclusion.reason
    assert world.deletes == [POD_1]
    world.check_settings()


def test_a_pod_stuck_in_terminating_is_reported_with_its_events():
    world = a_world()
    world.kube.frozen_kubelets = {POD_2}

    runner = restart(world, POD_2)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "stuck in Terminating" in runner.conclusion.reason
    assert "kubelet is away" in runner.conclusion.reason
    assert [e.name for e in runner.events].count(EventName.STUCK) == 1
    assert not any(action.force for action in effects(runner, DeletePod))
    world.check_settings()


def test_a_stuck_pod_is_force_deleted_only_when_asked_for():
    world = a_world()
    world.kube.frozen_kubelets = {POD_2}

    runner = restart(world, POD_2, policy={"force_delete": True})

    assert [action.force for action in effects(runner, DeletePod)] == [False, True]
    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert any("force-deleted" in note for note in results_of(runner.ticket)[0].notes)


def test_a_stuck_pod_whose_node_serves_is_never_force_deleted():
    """Its kubelet is cut off; the process is well. Two would run at once."""
    world = a_world("kubernetes_managed")
    world.kube.frozen_kubelets = {POD_2}

    runner = restart(world, POD_2, policy={"force_delete": True})

    assert results_of(runner.ticket)[0].success is False
    assert "its node is still in the cluster" in runner.conclusion.reason
    assert not any(action.force for action in effects(runner, DeletePod))


def test_a_stuck_pod_that_ends_after_all_completes_the_restart():
    world = a_world()
    world.kube.frozen_kubelets = {POD_2}
    world.time.after(200, lambda: world.kube.thaw(POD_2))

    runner = restart(world, POD_2)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED


def too_late(world: World):
    """Kubernetes takes no delete before the process has ended."""

    def answer(action):
        if isinstance(action, DeletePod) and world.crate.nodes["data-hot-2"].member:
            return Answer(Verdict.NOT_SENT, "429")
        return None

    return answer


@pytest.mark.parametrize("recreate", [False, True])
def test_a_pod_whose_process_ended_first_is_made_anew_only_when_asked(recreate):
    world = a_world()
    world.kube.restart_s = 3.0

    runner = restart(world, POD_2, policy={"recreate_pod": recreate}, answers=too_late(world))

    [result] = results_of(runner.ticket)
    assert result.success
    assert (result.uid_after != result.uid_before) is recreate
    assert result.restarted_in_place is not recreate
    world.check_restarted([POD_2])


def test_a_back_off_is_ended_by_a_delete():
    world = a_world()
    world.kube.exits = {POD_2: [-30.0, -20.0, -10.0]}

    runner = restart(world, POD_2, answers=too_late(world))

    [result] = results_of(runner.ticket)
    assert result.success
    assert result.duration < 25


def test_a_node_that_was_never_seen_absent_must_look_well_for_a_while(monkeypatch):
    """New UID, Ready, GREEN, three nodes: true while the old process answered (seen live)."""
    world = a_world()
    look = world.crate.seen
    full = [look()]

    def never_absent(**options: Any):
        now = look(**options)
        if len(now.nodes) == 3:
            full.append(now)
        return full[-1]

    monkeypatch.setattr(world.crate, "seen", never_absent)

    runner = restart(world, POD_2)

    [progress] = runner.ticket.pods
    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert progress.absent_at is None
    assert progress.well_since is not None
    assert progress.ended_at is not None
    assert progress.ended_at - progress.well_since >= timedelta(seconds=10)


def test_a_delete_that_lands_late_does_not_hit_a_node_that_is_back():
    """Sent for a container that had ended; by now the node has come back in place."""
    world = a_world()
    sent: list[DeletePod] = []

    def late(action):
        if not isinstance(action, DeletePod):
            return None
        if sent:
            return Answer(Verdict.NOT_SENT, "429")
        sent.append(action)
        version = action.resource_version

        def land() -> None:
            world.kube.delete(POD_2, action.uid, 30, version)

        world.time.after(8.0, land)
        return Answer(Verdict.UNKNOWN, "timed out")

    runner = restart(world, POD_2, policy={"delete_when": "exited"}, answers=late)
    world.time.advance(60)

    assert sent
    assert results_of(runner.ticket)[0].restarted_in_place
    world.check_restarted([POD_2])


# --- others at work -------------------------------------------------------------------------------


def test_a_pod_that_somebody_else_replaced_meanwhile_is_not_restarted_again():
    world = a_world(excused=True)
    meddled: list[str] = []

    def meddle(runner: Runner) -> None:
        if world.deletes == [POD_1] and runner.ticket.current is None and not meddled:
            meddled.append(POD_0)
            world.kube.before_delete = lambda *_: None
            pod = world.kube.pods[POD_0]
            world.kube.delete(POD_0, pod.uid, 30)
            world.kube.before_delete = world._a_delete

    runner = restart(world, between=meddle)

    by_name = {pod.name: pod for pod in runner.ticket.pods}
    assert by_name[POD_0].state is DecommissionState.SKIPPED
    assert world.crate.nodes["data-hot-0"].departures == 1
    assert runner.conclusion.outcome is RestartOutcome.COMPLETED


def test_a_setting_that_an_operator_changes_meanwhile_is_his():
    world = a_world()

    def meddle(_: Runner) -> None:
        if world.crate.nodes["data-hot-2"].draining:
            world.crate.transient[TIMEOUT] = "1234s"

    runner = restart(world, POD_2, between=meddle)

    assert world.crate.effective(TIMEOUT) == "1234s"
    assert world.crate.effective(ALLOCATION) == "all"
    assert any("1234s" in note for note in results_of(runner.ticket)[0].notes)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("key", [ALLOCATION, TIMEOUT])
def test_what_an_operator_sets_before_a_drain_calls_it_off_and_stays(strategy, key):
    """While something that passes is waited for: a snapshot, here."""
    world = a_world(strategy)
    value = {ALLOCATION: "none", TIMEOUT: "1234s"}[key]
    set_at: list[float] = []

    def meddle(runner: Runner) -> None:
        current = runner.ticket.current
        if current is None or current.state is not DecommissionState.PREPARING or set_at:
            return
        set_at.append(world.time.t)
        world.crate.snapshots = 1
        world.time.after(20, lambda: setattr(world.crate, "snapshots", 0))
        world.time.after(5, lambda: world.crate.transient.update({key: value}))

    def answers(action: Action) -> Answer | None:
        # A managed pod is deleted at once; here, its first delete has not left.
        first = isinstance(action, DeletePod) and not set_at
        return Answer(Verdict.NOT_SENT, "429 Too Many Requests") if first else None

    runner = restart(world, POD_2, between=meddle, answers=answers)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert value in runner.conclusion.reason
    assert world.crate.effective(key) == value
    assert not effects(runner, DecommissionNode)
    assert world.deletes == []


def test_a_snapshot_that_begins_between_two_pods_is_waited_for():
    world = a_world()

    def meddle(runner: Runner) -> None:
        if len(world.deletes) == 1 and runner.ticket.current is None:
            world.time.after(120, lambda: setattr(world.crate, "snapshots", 0))
            world.crate.snapshots = 1 if world.time.t < 100 else world.crate.snapshots

    runner = restart(world, between=meddle)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert any("snapshot" in wait.how_far for wait in runner.waits)


def test_a_window_that_closes_stops_the_restart_between_two_pods():
    world = a_world()
    world.window = WindowVerdict(open=True, why="open")

    def close(_: Runner) -> None:
        if world.deletes:
            world.window = WindowVerdict(open=False, why="the next one opens on Monday")

    runner = restart(world, between=close)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "opens on Monday" in runner.conclusion.reason
    assert "1 of 3 pods were restarted" in runner.conclusion.reason
    world.check_restarted([POD_1])
    world.check_settings()


def test_trouble_that_comes_between_setup_and_drain_calls_the_drain_off():
    world = a_world()

    def meddle(runner: Runner) -> None:
        if len(effects(runner, SetGlobal)) == 3:
            world.open_tickets = ("doc.metrics",)

    runner = restart(world, between=meddle)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "doc.metrics" in runner.conclusion.reason
    assert not effects(runner, DecommissionNode)
    world.check_settings()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("away", ["kube_away", "crate_away"])
@pytest.mark.parametrize("at", [2, 6, 10, 15])
def test_a_system_that_is_away_for_a_minute_delays_and_harms_nothing(strategy, away, at):
    world = a_world(strategy)

    def cut(runner: Runner) -> None:
        if runner.looks == at:
            setattr(world, away, True)
            world.time.after(60, lambda: setattr(world, away, False))

    runner = restart(world, POD_2, between=cut)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    world.check_restarted([POD_2])
    world.check_settings()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_looks_that_take_eight_seconds_each_delay_a_restart_and_harm_nothing(strategy):
    """By exec through a busy API server: what was set comes back all the same."""
    world = a_world(strategy)
    world.look_takes_s = 8.0

    runner = restart(world, POD_0)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    world.check_restarted([POD_0])
    world.check_settings()


def test_kubernetes_that_stays_away_ends_the_wait_and_settings_are_back():
    world = a_world()

    def cut(_: Runner) -> None:
        if world.deletes:
            world.kube_away = True

    runner = restart(world, POD_2, between=cut)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    assert "Kubernetes did not answer" in runner.conclusion.reason
    world.check_settings()


@pytest.mark.parametrize("stop", [False, True], ids=["nobody stops it", "stopped"])
def test_kubernetes_that_goes_away_before_a_drain_keeps_allocation_restricted_no_longer_than_setup(
    stop,
):
    """Nothing was sent that drains, so nothing has to be seen to its end first."""
    world = a_world()
    world.crate.set_global(TIMEOUT, "900s", persistent=True)
    world.promise()
    stopped_at: list[float] = []

    def cut(runner: Runner) -> None:
        world.kube_away = world.kube_away or restricted(world.crate)
        if stop and world.kube_away and world.time.t > 20 and not stopped_at:
            stopped_at.append(world.time.t)
            runner._save(stopped(runner.ticket, world.time.now))

    runner = restart(world, POD_2, between=cut)

    assert world.kube_away
    assert effects(runner, DecommissionNode) == []
    world.check_settings()
    if stop:
        assert runner.conclusion.outcome is RestartOutcome.STOPPED
        assert world.time.t < stopped_at[0] + 5
    else:
        assert runner.conclusion.outcome is RestartOutcome.FAILED
        assert "Kubernetes did not answer" in runner.conclusion.reason
        assert world.time.t < runner.policy.prepare_timeout_s + 10


def test_settings_that_cannot_be_put_back_call_for_a_human_and_keep_the_ticket():
    world = a_world()
    runner = restart(
        world,
        POD_2,
        answers=lambda a: (
            Answer(Verdict.REFUSED, "AL was revoked") if isinstance(a, ResetGlobal) else None
        ),
    )

    assert runner.conclusion.outcome is RestartOutcome.NOT_RESTORED
    assert "AL was revoked" in runner.conclusion.reason
    [reset] = runner.conclusion.remedy
    assert isinstance(reset, ResetGlobal)
    assert ALLOCATION in reset.keys

    runner.answers = lambda _: None
    assert runner.take_over() is RestartOutcome.COMPLETED
    world.check_settings()


def test_an_answer_that_never_came_is_waited_for_before_the_end():
    """A SET that lands after the RESET would restrict allocation for ever."""
    world = a_world()
    sent: list[Any] = []

    def late(action):
        if isinstance(action, SetGlobal) and action.key == ALLOCATION and not sent:
            sent.append(action)
            world.time.after(
                5.0, lambda: world.crate.set_global(action.key, action.value, persistent=False)
            )
            return Answer(Verdict.UNKNOWN, "timed out")
        if isinstance(action, DecommissionNode):
            return Answer(Verdict.REFUSED, "superuser needed")
        return None

    runner = restart(world, POD_2, answers=late)
    world.time.advance(100)

    assert runner.conclusion.outcome is RestartOutcome.FAILED
    world.check_settings()


# --- told to stop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("at", range(1, 26, 3))
def test_a_stop_puts_back_what_was_set_and_begins_no_further_pod(strategy, at):
    world = a_world(strategy)

    begun: list[Any] = []

    def stop(runner: Runner) -> None:
        if runner.looks == at:
            begun.extend(pod for pod in runner.ticket.pods if pod.began_at is not None)
            runner._save(stopped(runner.ticket, runner.world.time.now))

    runner = restart(world, between=stop)

    assert runner.conclusion.outcome is RestartOutcome.STOPPED
    assert sum(node.departures for node in world.crate.nodes.values()) <= len(begun)
    world.time.advance(60)
    assert world.down == 0
    world.check_settings()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pods", [(), (POD_2,)], ids=["all pods", "one pod"])
def test_a_stop_while_a_pod_is_away_names_it_and_says_that_its_return_was_not_awaited(
    strategy, pods
):
    def stop(runner: Runner) -> None:
        current = runner.ticket.current
        if current is not None and current.uid_after and not runner.ticket.stop:
            runner._save(stopped(runner.ticket, runner.world.time.now))

    runner = restart(a_world(strategy), *pods, between=stop)

    reason = runner.conclusion.reason
    assert runner.conclusion.outcome is RestartOutcome.STOPPED
    assert reason.startswith("stopped by the operator")
    assert f"{pods[0] if pods else POD_1} was taken out, its return was not awaited" in reason
    assert ("0 of 3 pods were restarted" in reason) is (not pods)


# --- waits ----------------------------------------------------------------------------------------


def test_every_wait_says_what_it_waits_for_and_ends():
    runner = restart(a_world(), POD_2, policy={"delete_when": "exited"})
    assert runner.waits
    for wait in runner.waits:
        assert isinstance(wait, Await)
        assert wait.until is not None
        assert wait.since is not None
        assert wait.until > wait.since
        assert wait.sentence(wait.since).startswith("waiting for ")


def test_a_step_that_is_asked_twice_for_one_look_says_the_same():
    world = a_world()
    runner = Runner(world)

    def twice(runner: Runner) -> None:
        seen, now = world.observe(runner._drain_call()), world.time.now
        ticket = runner.ticket
        assert next_step(seen, ticket, ticket.policy, now) == next_step(
            seen, ticket, ticket.policy, now
        )

    runner.between = twice
    runner.start(POD_2)
