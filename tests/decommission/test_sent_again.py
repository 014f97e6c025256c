"""A DECOMMISSION is sent again only where the first is over, and as if it were the first.

The witness of the world raises where shards are missing or a node leaves twice.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from caretaker.decommission.cluster_settings import FORCE, MIN_AVAILABILITY
from caretaker.decommission.model import DrainCall, Observation
from caretaker.decommission.putting_back import remedy
from caretaker.decommission.restart import stopped
from caretaker.decommission.steps import (
    Action,
    Answer,
    DecommissionNode,
    ResetGlobal,
    RestartOutcome,
    Verdict,
)
from tests.decommission.world import POD_2, TOO_OLD, Runner, World, a_world, killed_when

NODE_2 = "data-hot-2"


@pytest.mark.parametrize("lands_after_s", [4, 8, 20, 45, 58])
@pytest.mark.parametrize("pods", [(POD_2,), ()], ids=["a pod", "every pod"])
def test_one_whose_answer_was_lost_is_waited_for(pods, lands_after_s):
    """It lands when it likes: no node leaves twice, and never two are out."""
    world = a_world()
    world.excused = True
    runner = Runner(world)
    sent: list[Action] = []

    def landing(node: str) -> None:
        world.crate.decommission(node)

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DecommissionNode):
            return None
        sent.append(action)
        if len(sent) > 1:
            return None
        world.time.after(lands_after_s, lambda: landing(action.node_name))
        return Answer(Verdict.UNKNOWN, "connection reset")

    runner.answers = answers

    outcome = runner.start(*pods)
    world.time.advance(300)

    assert outcome is RestartOutcome.COMPLETED
    assert len(sent) == len(pods or world.pods)
    assert departures(world) == {
        name: int(name == NODE_2 or not pods) for name in departures(world)
    }
    assert world.worst_down == 1
    world.check_settings()


@pytest.mark.parametrize("probes", [True, False], ids=["asked", "nobody can ask the node"])
@pytest.mark.parametrize("before", [{}, {MIN_AVAILABILITY: "NONE"}, {FORCE: False}])
def test_none_is_sent_under_settings_that_an_operator_has_put_back(before, probes):
    """By the very statements that an open ticket prints: NONE would take the only copy away."""
    world = a_world()
    world.probes = probes
    world.crate.persistent = dict(before)
    world.promise()
    runner = killed_when(Runner(world), "remembered", "drain")
    for each in remedy(runner.ticket):
        if isinstance(each, ResetGlobal):
            world.crate.reset_global(each.keys)
        else:
            world.crate.set_global(each.key, each.value, persistent=True)
    world.check_settings()

    outcome = runner.take_over()

    assert outcome is RestartOutcome.FAILED
    assert runner.conclusion is not None
    asked_for = "was set otherwise meanwhile" if probes else "its node is still there"
    assert asked_for in runner.conclusion.reason
    assert departures(world)[NODE_2] == 0
    assert world.crate.missing == 0
    world.check_settings()


@pytest.mark.parametrize("stop", [False, True], ids=["", "stopped"])
def test_a_look_that_misses_the_node_once_keeps_nothing_restricted_for_long(stop):
    world = a_world()
    runner = killed_when(Runner(world), "remembered", "drain")
    miss_once(world, look=2)

    def between(after: Runner) -> None:
        if stop and not after.ticket.stop:
            after._save(stopped(after.ticket, world.time.now))

    runner.between = between
    begun = world.time.t

    outcome = runner.take_over()

    assert outcome is (RestartOutcome.STOPPED if stop else RestartOutcome.FAILED)
    assert world.time.t - begun < 2 * runner.ticket.policy.statement_timeout_s
    assert departures(world)[NODE_2] == 0
    world.check_settings()


def test_one_that_could_not_be_sent_again_does_not_count_as_sent():
    """The look behind it was too old each time: nothing left, so nothing can land."""
    world = a_world()
    runner = killed_when(Runner(world), "remembered", "drain")
    tries: list[float] = []

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DecommissionNode):
            return None
        tries.append(world.time.t)
        return None if len(tries) > 3 else TOO_OLD

    runner.answers = answers

    assert runner.take_over() is RestartOutcome.COMPLETED
    assert len(tries) == 4
    assert tries[-1] - tries[0] < runner.ticket.policy.statement_timeout_s
    assert departures(world)[NODE_2] == 1


def miss_once(world: World, look: int) -> None:
    """Let one look not find the node, which is there and serves."""
    observe, looks = world.observe, []

    def missing(call: DrainCall | None) -> Observation:
        seen = observe(call)
        looks.append(seen)
        if len(looks) != look or seen.crate is None:
            return seen
        others = tuple(node for node in seen.crate.nodes if node.name != NODE_2)
        return replace(seen, crate=replace(seen.crate, nodes=others))

    world.observe = missing  # type: ignore[method-assign]


def departures(world: World) -> dict[str, int]:
    """How often each node has left the cluster."""
    return {name: node.departures for name, node in world.crate.nodes.items()}
