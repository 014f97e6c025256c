"""A pod on its way out that stays there: nobody kills what lives, nobody forgets what it leaves.

A kubelet that was cut off runs the preStop hook of a pod that is to go when it is back, however
long that takes, and dc_util leaves its settings behind.
"""

from __future__ import annotations

import pytest

from caretaker.decommission.cluster_settings import ALLOCATION, MIN_AVAILABILITY, TIMEOUT
from caretaker.decommission.facts import not_out_yet
from caretaker.decommission.model import DrainCall, Observation
from caretaker.decommission.outcome import results_of
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.steps import (
    Action,
    Answer,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    Verdict,
)
from caretaker.decommission.ticket import DecommissionState
from tests.decommission.simulated_kube import restricted
from tests.decommission.test_unanswered import without
from tests.decommission.world import Broken, KilledError, Runner, World, a_world

POD_1, POD_2 = "crate-data-hot-prod-1", "crate-data-hot-prod-2"


def cut_off(*names: str) -> World:
    """A managed cluster whose kubelets do not hear of a delete; its operator has set things."""
    world = a_world("kubernetes_managed")
    world.crate.persistent = {TIMEOUT: "900s", MIN_AVAILABILITY: "FULL"}
    world.promise()
    world.kube.frozen_kubelets = set(names)
    return world


def back(world: World, name: str) -> None:
    """Let its kubelet be back, and do what it was told: the hook first."""
    world.kube.frozen_kubelets.discard(name)
    world.kube._terminate(world.kube.pods[name], 780)


def given_up() -> tuple[World, Runner]:
    """A restart of all that gave up its first pod, which is Terminating."""
    world = cut_off(POD_1)
    runner = Runner(world)
    assert runner.start() is RestartOutcome.NOT_RESTORED
    world.check_settings()
    runner.effects.clear()
    return world, runner


# --- nobody kills what lives ----------------------------------------------------------------------


@pytest.mark.parametrize("looks", [1, 5])
def test_looks_that_miss_the_node_of_a_stuck_pod_do_not_force_delete_it(looks):
    """Its process lives and its kubelet is cut off: two of them would run at once."""
    world = cut_off(POD_2)
    runner = Runner(world, RestartPolicy.checked(force_delete=True))
    observe = world.observe
    missed: list[float] = []

    def misses(call: DrainCall | None) -> Observation:
        seen, deletion_at = observe(call), world.kube.pods[POD_2].deletion_at
        late_s = (world.time.now - deletion_at).total_seconds() if deletion_at else 0.0
        if late_s < 70 or len(missed) == looks:
            return seen
        missed.append(world.time.t)
        return without(seen)

    world.observe = misses  # type: ignore[method-assign]
    runner.start(POD_2)

    assert len(missed) == looks
    assert not any(isinstance(each, DeletePod) and each.force for each in runner.effects)
    assert world.crate.nodes["data-hot-2"].member


# --- nobody forgets what it leaves ----------------------------------------------------------------


def test_what_a_hook_leaves_behind_that_runs_after_its_pod_was_given_up_is_put_back():
    world, runner = given_up()
    assert "stuck in Terminating" in runner.conclusion.reason
    assert "its preStop hook may run yet: the ticket stays open" in runner.conclusion.reason
    assert {type(each) for each in runner.conclusion.remedy} >= {ResetGlobal}

    back(world, POD_1)
    world.time.advance(600)
    assert world.crate.nodes["data-hot-1"].departures == 1
    with pytest.raises(Broken):
        world.check_settings()
    outcome = runner.take_over()

    assert outcome is RestartOutcome.FAILED
    world.check_settings()
    world.check_restarted([POD_1])
    result = next(each for each in results_of(runner.ticket) if each.pod_name == POD_1)
    assert not result.success
    assert result.process_exited
    assert result.uid_after


def test_whoever_looks_again_while_it_is_terminating_sends_nothing_and_is_done_at_once():
    world, runner = given_up()
    for _ in range(3):
        world.time.advance(1800)
        before = world.time.t
        assert runner.take_over() is RestartOutcome.NOT_RESTORED
        assert world.time.t - before < 5
    assert runner.effects == []
    assert runner.ticket.pod(POD_1).state is DecommissionState.FAILED


def test_a_hook_that_drains_when_somebody_looks_again_is_not_cut_short():
    """A RESET before the exit ends the drain (seen live)."""
    world, runner = given_up()
    world.crate.move_s = 20.0

    def answers(action: Action) -> Answer | None:
        assert not world.crate.nodes["data-hot-1"].member or not isinstance(action, ResetGlobal)
        return None

    runner.answers = answers
    back(world, POD_1)
    world.time.advance(5)
    assert world.crate.nodes["data-hot-1"].draining
    outcome = runner.take_over()

    assert outcome is RestartOutcome.FAILED
    assert any(f"pod {POD_1} to end, whose preStop hook" in wait.what for wait in runner.waits)
    world.check_settings()
    world.time.advance(60)
    world.check_restarted([POD_1])


def test_settings_of_a_hook_that_was_cut_off_half_way_do_not_stay_as_long_as_its_pod_hangs():
    world, runner = given_up()
    world.crate.set_global(ALLOCATION, "primaries", persistent=False)
    before = world.time.t

    assert runner.take_over() is RestartOutcome.NOT_RESTORED

    assert not restricted(world.crate)
    assert world.time.t - before < 720 + 300 + 30
    world.check_settings()


def test_a_ticket_is_closed_by_hand_once_the_pod_is_out_and_not_before():
    world, runner = given_up()

    found = not_out_yet(runner.ticket, world.observe(None))
    assert found is not None
    assert found.name == POD_1
    back(world, POD_1)
    world.time.advance(600)

    assert not_out_yet(runner.ticket, world.observe(None)) is None


def test_an_owner_that_dies_as_it_gives_a_pod_up_leaves_as_much_to_the_next_one():
    world = cut_off(POD_2)
    runner = Runner(world)

    def dies(_: str) -> None:
        if runner.stored and runner.ticket.pod(POD_2).state is DecommissionState.FAILED:
            raise KilledError

    runner.touch = dies
    with pytest.raises(KilledError):
        runner.start(POD_2)
    runner.touch = lambda _: None
    assert runner.take_over() is RestartOutcome.NOT_RESTORED
    back(world, POD_2)
    world.time.advance(600)

    assert runner.take_over() is RestartOutcome.FAILED
    world.check_settings()


@pytest.mark.parametrize("landed", [True, False])
def test_a_pod_that_nobody_could_see_any_more_keeps_its_ticket_until_somebody_sees_it(landed):
    """Kubernetes is away from its delete on; whether the kubelet has heard of it is unknown."""
    world = cut_off(POD_2)
    runner = Runner(world)

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DeletePod):
            return None
        world.kube_away = True
        return None if landed else Answer(Verdict.UNKNOWN, "timed out")

    runner.answers = answers
    assert runner.start(POD_2) is RestartOutcome.NOT_RESTORED
    assert "Kubernetes did not answer" in runner.conclusion.reason
    world.check_settings()

    world.kube_away = False
    if landed:
        assert runner.take_over() is RestartOutcome.NOT_RESTORED
        back(world, POD_2)
        world.time.advance(600)
    assert runner.take_over() is RestartOutcome.FAILED
    assert len([each for each in runner.effects if isinstance(each, DeletePod)]) == 1
    world.check_settings()
    world.check_restarted([POD_2] if landed else [])


def test_a_manual_pod_that_hangs_in_terminating_keeps_no_ticket():
    """It has no hook: nothing is left behind that is not known."""
    world = a_world()
    world.kube.frozen_kubelets = {POD_2}

    assert Runner(world).start(POD_2) is RestartOutcome.FAILED
    world.check_settings()
