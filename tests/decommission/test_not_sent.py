"""What never left this process: of a DECOMMISSION nobody drains, and the next one is a first one.

A delete that never leaves takes nothing with it: not the settings, not the end of the restart.
"""

from __future__ import annotations

import pytest

from caretaker.decommission.model import CallState, DrainCall
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.restart import stopped
from caretaker.decommission.steps import (
    Action,
    Answer,
    DecommissionNode,
    DeletePod,
    RestartOutcome,
    Verdict,
)
from tests.decommission.simulated_kube import restricted
from tests.decommission.world import Runner, World, a_world, killed_when

POD = "crate-data-hot-prod-2"


def test_a_drain_that_never_left_is_begun_although_looks_take_long():
    """Longer than a drain may take to be sent again, where a process may end in a moment."""
    world = a_world()
    world.look_takes_s = 5.0
    tried = []

    def answer(action):
        if isinstance(action, DecommissionNode):
            tried.append(action)
            if len(tried) == 1:
                return Answer(Verdict.NOT_SENT, "the look had grown too old")
        return None

    runner = Runner(world, RestartPolicy.checked(), answers=answer)
    runner.start(POD)

    assert runner.conclusion.outcome is RestartOutcome.COMPLETED
    assert [each.again for each in tried] == [False, False]
    world.check_restarted([POD])
    world.check_settings()


@pytest.mark.parametrize("strategy", ["manual", "kubernetes_managed"])
def test_looks_that_are_always_too_old_end_in_time_and_leave_nothing_set(strategy):
    """Not with allocation restricted for as long as they are."""
    world = a_world(strategy)
    world.look_takes_s = 11.0
    runner = Runner(world)

    assert runner.start(POD) is RestartOutcome.FAILED
    assert "nothing could be sent in" in runner.conclusion.reason
    assert world.time.t < 2 * runner.policy.prepare_timeout_s
    world.check_restarted([])
    world.check_settings()


def test_a_drain_that_its_own_thread_could_not_send_is_begun_again_as_a_first_one():
    """However long looks take: nothing can be about to end."""
    world = a_world()
    world.look_takes_s = 5.0
    runner = Runner(world)
    tried: list[DecommissionNode] = []
    call_of = runner._drain_call

    def answers(action: Action) -> Answer | None:
        if isinstance(action, DecommissionNode):
            tried.append(action)
        # Its thread was started, which is all that the answer tells.
        return Answer(Verdict.DONE) if len(tried) == 1 and action is tried[0] else None

    def call() -> DrainCall | None:
        if len(tried) != 1:
            return call_of()
        return DrainCall("data-hot-2", CallState.NOT_SENT, tried[0].sent_at, reason="429")

    runner.answers = answers
    runner._drain_call = call  # type: ignore[method-assign]

    assert runner.start(POD) is RestartOutcome.COMPLETED
    assert [each.again for each in tried] == [False, False]
    assert any("was not sent: 429" in each.sentence() for each in runner.events)
    world.check_restarted([POD])
    world.check_settings()


def test_a_drain_that_a_killed_run_may_have_sent_is_sent_again_although_looks_take_long():
    world = a_world()
    world.look_takes_s = 4.0
    runner = killed_when(Runner(world), "remembered", "drain")

    assert runner.take_over() is RestartOutcome.COMPLETED
    world.check_restarted([POD])
    world.check_settings()


def ended_and_not_deleted(how: str) -> tuple[World, Runner, list[float]]:
    """A drained process that its machine does not start again, and whose delete nobody takes.

    With the moments at which allocation was restricted although the process had ended.
    """
    world = a_world()
    world.kube.restart_s = 1e9
    if how == "looks too old":
        world.look_takes_s = 3.0
    runner = Runner(world, RestartPolicy.checked(delete_when="exited"))
    held: list[float] = []

    def answers(action: Action) -> Answer | None:
        if isinstance(action, DeletePod) and how == "429":
            return Answer(Verdict.NOT_SENT, "429 Too Many Requests")
        return None

    def watch(_: Runner) -> None:
        if world.down and restricted(world.crate):
            held.append(world.time.t)
        assert world.time.t < 2000, "it does not end"

    runner.answers, runner.between = answers, watch
    return world, runner, held


@pytest.mark.parametrize("how", ["429", "looks too old"])
def test_a_delete_that_is_never_taken_holds_back_no_setting_and_no_end(how):
    world, runner, held = ended_and_not_deleted(how)

    assert runner.start(POD) is RestartOutcome.FAILED
    assert f"gave up waiting for pod {POD} to change" in runner.conclusion.reason
    assert held[-1] - held[0] < 30
    world.check_settings()


@pytest.mark.parametrize("how", ["429", "looks too old"])
def test_a_stop_ends_what_asks_for_a_delete_that_is_never_taken(how):
    world, runner, held = ended_and_not_deleted(how)
    watch = runner.between
    stopped_at: list[float] = []

    def stop(runner: Runner) -> None:
        watch(runner)
        if held and world.time.t > held[0] + 100 and not stopped_at:
            stopped_at.append(world.time.t)
            runner._save(stopped(runner.ticket, world.time.now))

    runner.between = stop

    assert runner.start(POD) is RestartOutcome.STOPPED
    assert world.time.t - stopped_at[0] < 10
    world.check_settings()
