"""The steps of one table without Dagster, in the test's own hands."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caretaker.translog.model import Target
from caretaker.translog.outcome import ResetResult
from caretaker.translog.policy import ResetPolicy
from ops.events import Event
from ops.guard import Guard
from ops.hands import Hands
from ops.logbook import Journey
from ops.owners import owner_of
from ops.reset import Reset
from resources.clock import Clock
from tests.world import SHORT, World

STEPS = (Reset.remember, Reset.drain, Reset.await_leases, Reset.restore, Reset.verify)


@contextmanager
def hands_in(
    world: World,
    emit: Callable[[Event], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Hands]:
    """The hands of a step, the cluster's lock in them."""
    clock = Clock(sleep=sleep)
    guard = Guard(clock, os.getppid(), threading.Event())
    owner = owner_of("run-of-this-test", a_process_each=False)
    cluster_id = world.lab.world.cluster_id
    world.store.acquire_lock(cluster_id, owner, purpose="test", is_dead=lambda *_: True)
    with world.resources["cratedb"].client() as crate:
        yield Hands(crate, world.store, clock, guard, owner, emit)


def journey_to(world: World, target: Target) -> Journey:
    return Journey(world.lab.world.cluster_id, target, ResetPolicy.checked(**SHORT))


def carried(world: World, target: Target, emit: Callable[[Event], None]) -> ResetResult:
    """Take every step of one table, as Dagster would, until something is raised."""
    journey = journey_to(world, target)
    with hands_in(world, emit) as hands:
        for step in STEPS:
            journey = step(Reset(hands, journey))
    assert journey.result is not None
    return journey.result
