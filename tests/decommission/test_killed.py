"""kill -9 after every single step of both plans: whoever takes over keeps the promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caretaker.decommission.cluster_settings import MIN_AVAILABILITY, TIMEOUT
from caretaker.decommission.facts import not_out_yet
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.steps import RestartOutcome
from caretaker.decommission.ticket import DecommissionState
from tests.decommission.world import KilledError, Runner, World, a_world

POD_2 = "crate-data-hot-prod-2"

WAYS = {
    "manual": ("manual", {}),
    "manual, everything moved": ("manual", {"min_availability": "FULL"}),
    "manual, after the exit": ("manual", {"delete_when": "exited"}),
    "kubernetes_managed": ("kubernetes_managed", {}),
}


def prepared(strategy: str) -> World:
    """A cluster whose operator has set things persistently."""
    world = a_world(strategy)
    world.crate.persistent = {TIMEOUT: "900s", MIN_AVAILABILITY: "FULL"}
    world.promise()
    return world


def touches(way: str) -> list[str]:
    """Return what a restart that nobody disturbs touches, in order."""
    strategy, policy = WAYS[way]
    seen: list[str] = []
    Runner(prepared(strategy), RestartPolicy.checked(**policy), touch=seen.append).start(POD_2)
    return seen


def killed_at(number: int):
    """Return a touch that kills at the one of that number."""
    count = iter(range(1_000_000))

    def touch(what: str) -> None:
        if next(count) == number:
            raise KilledError(what)

    return touch


@pytest.mark.parametrize("unseen_for_s", [0.0, 45.0])
@pytest.mark.parametrize("way", WAYS)
def test_a_restart_arrives_from_wherever_it_was_killed(way, unseen_for_s):
    strategy, policy = WAYS[way]
    number = 0
    while True:
        world = prepared(strategy)
        runner = Runner(world, RestartPolicy.checked(**policy), touch=killed_at(number))
        try:
            runner.start(POD_2)
        except KilledError:
            runner.touch = lambda _: None
            world.time.advance(unseen_for_s)
            assert runner.take_over() is RestartOutcome.COMPLETED, (number, runner.conclusion)
        else:
            break
        world.check_settings()
        world.check_restarted([POD_2])
        number += 1
    assert number == len(touches(way))


@pytest.mark.parametrize("way", WAYS)
def test_a_restart_that_dies_at_every_few_steps_still_arrives(way):
    """Each owner lives for a few touches only."""
    strategy, policy = WAYS[way]
    for lifetime in (6, 7, 11, 16):
        world = prepared(strategy)
        runner = Runner(world, RestartPolicy.checked(**policy), touch=killed_at(lifetime))
        outcome = None
        for _ in range(400):
            try:
                outcome = runner.take_over() if runner.stored else runner.start(POD_2)
                break
            except KilledError:
                runner.touch = killed_at(lifetime)
                world.time.advance(1.0)
        assert outcome is RestartOutcome.COMPLETED, lifetime
        world.check_settings()
        world.check_restarted([POD_2])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [5, 9, 14])
def test_a_kill_where_nobody_can_ask_the_draining_node_changes_nothing(way, number):
    """Whether it drains is unknown: the statement is sent again, which is harmless (seen live)."""
    strategy, policy = WAYS[way]
    world = prepared(strategy)
    world.probes = False
    runner = Runner(world, RestartPolicy.checked(**policy), touch=killed_at(number))
    with pytest.raises(KilledError):
        runner.start(POD_2)
    runner.touch = lambda _: None
    assert runner.take_over() is RestartOutcome.COMPLETED
    world.check_settings()
    world.check_restarted([POD_2])


def test_a_pod_in_its_hook_is_not_out_yet_and_one_that_was_replaced_is():
    """Whoever closes the ticket by hand goes by it."""
    world = prepared("kubernetes_managed")
    runner = Runner(world)

    def touch(what: str) -> None:
        current = runner.ticket.current if runner.stored else None
        if what == "performed" and current is not None and current.deleted_at is not None:
            raise KilledError(what)

    runner.touch = touch
    with pytest.raises(KilledError):
        runner.start(POD_2)
    left = runner.ticket
    given_up = left.with_pod(replace(left.pod(POD_2), state=DecommissionState.FAILED))

    for ticket in (left, given_up):
        found = not_out_yet(ticket, world.observe(None))
        assert found is not None
        assert found.name == POD_2
    world.time.advance(120)
    assert not_out_yet(left, world.observe(None)) is None
