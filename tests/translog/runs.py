"""Runs of our jobs without Dagster: the same steps, in walkers that a test moves."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from caretaker.errors import CaretakerError
from caretaker.ownership import Signs, is_dead
from caretaker.translog.model import Owner
from caretaker.translog.policy import ResetPolicy
from ops.events import Event
from ops.guard import Guard
from ops.hands import Hands
from ops.logbook import Journey
from ops.preflight import why_not_to_begin
from ops.reset import Reset
from ops.translog_config import TranslogRestoreConfig
from ops.translog_look import judge
from ops.translog_restore import taken_over, tickets_to_honour
from resources.clock import Clock
from resources.cratedb.retries import connect_pauses, retrying
from tests.translog.rough_lab import RoughLab
from tests.translog.touching import TouchingClient, touching_store
from tests.translog.walkers import Walker
from tests.translog.witness import Sender, Witness

#: More touches than any run takes.
MANY = 20_000

Step = Callable[[Hands, Journey], Journey]

_RESET: tuple[Step, ...] = (
    lambda hands, journey: Reset(hands, journey).remember(),
    lambda hands, journey: Reset(hands, journey).drain(),
    lambda hands, journey: Reset(hands, journey).await_leases(),
    lambda hands, journey: Reset(hands, journey).restore(),
    lambda hands, journey: Reset(hands, journey).verify(),
)
_RESTORE: tuple[Step, ...] = (
    taken_over,
    lambda hands, journey: Reset(hands, journey).restore(),
    lambda hands, journey: Reset(hands, journey).verify(),
)


class Run:
    """One run: its processes, and what Dagster and its host say about it."""

    def __init__(
        self, number: int, lab: RoughLab, witness: Witness, policy: ResetPolicy, *, here: bool
    ) -> None:
        self.lab = lab
        self.witness = witness
        self.policy = policy
        self.here = here
        self.run_id = f"run-{number}"
        self.owner = Owner(self.run_id, "here" if here else "elsewhere", 1000 + number, "boot")
        #: Its process exists; Dagster knows it as ended; its processes are suspended.
        self.alive, self.finished, self.frozen = True, False, False
        self.ended: list[Journey] = []
        self._frozen_at, self._slept = math.inf, 0.0
        self._journeys: deque[Journey] = deque()
        self._steps: tuple[Step, ...] = ()
        self.walkers: list[Walker] = []

    @property
    def over(self) -> bool:
        """Whether none of its processes is left."""
        return all(walker.over for walker in self.walkers)

    def suspend(self, *, with_its_machine: bool) -> None:
        """Let nothing of it go on; with its machine its monotonic clock stands still, too."""
        self.frozen, self._frozen_at = True, self.lab.seconds() if with_its_machine else math.inf

    def wake_up(self) -> None:
        """Let it go on as if nothing had been."""
        self.frozen = False
        self._slept += max(0.0, self.lab.seconds() - self._frozen_at)
        self._frozen_at = math.inf

    @property
    def beats(self) -> bool:
        """Whether its heart does."""
        return not (self.over or self.frozen)

    @property
    def held(self) -> set[int]:
        """The tickets that its living steps hold."""
        guards = [walker.guard for walker in self.walkers if not walker.over]
        return {ticket for guard in guards if guard is not None for ticket in guard.held}

    def signs(self) -> Signs:
        """What can be seen of it from where restores run."""
        return Signs(
            run_finished=self.finished,
            same_host=self.here,
            process_alive=self.alive if self.here else None,
        )

    def after_a_death(self) -> None:
        """A run of which nothing is left has ended, and Dagster gets to know."""
        if self.over:
            self.alive = False
            self.finished = True

    # --- its work, in its walkers -------------------------------------------------------------

    @contextmanager
    def hands(self, walker: Walker) -> Iterator[Hands]:
        """The hands of a step, each touch of theirs the walker's."""
        sender = Sender(self.run_id)

        def sleep(seconds: float) -> None:
            walker.wakes_at = self.lab.seconds() + seconds
            walker.touch("sleep")
            walker.wakes_at = None

        def emit(_: Event) -> None:
            walker.touch("emit")

        clock = Clock(self.lab.now, lambda: self.lab.seconds() - self._slept, sleep)
        guard = Guard(clock, os.getppid() if self.alive else 0, threading.Event())
        walker.guard = guard
        store = touching_store(self.lab, self.witness, walker, sender)
        with TouchingClient(self.lab, self.witness, walker, sender) as crate:
            yield Hands(crate, store, clock, guard, self.owner, emit)

    def reset(self, walker: Walker) -> None:
        """Preflight, detect, and a walker more for each table that may be at 0 with the first."""
        try:
            with self.hands(walker) as hands:
                connected = retrying(
                    hands.crate.connect, connect_pauses(lambda: 0.5), sleep=hands.guard.pause
                )
                if why_not_to_begin(hands, connected.cluster_id, self.policy):
                    return
                hands.store.acquire_lock(
                    connected.cluster_id,
                    self.owner,
                    purpose="translog_reset",
                    is_dead=self.seen_dead,
                )
                tables = retrying(hands.crate.observe_tables, sleep=hands.guard.pause)
                look = judge(
                    connected.cluster_id, "lab", tables, hands.store, self.policy, hands.clock.now()
                )
        except CaretakerError:
            return
        for finding in look.selection.chosen:
            self._journeys.append(
                Journey(connected.cluster_id, finding.target, self.policy, finding)
            )
        self._steps = _RESET
        for _ in range(min(self.policy.concurrent, len(self._journeys)) - 1):
            self.walkers.append(Walker(f"{self.run_id}.{len(self.walkers)}", self._walk))
        self._walk(walker)

    def restore(self, walker: Walker) -> None:
        """Take over what the dead have promised, and keep it."""
        try:
            with self.hands(walker) as hands:
                connected = retrying(
                    hands.crate.connect, connect_pauses(lambda: 0.5), sleep=hands.guard.pause
                )
                found = tickets_to_honour(
                    hands, TranslogRestoreConfig(), connected.cluster_id, self.seen_dead
                )
        except CaretakerError:
            return
        for ticket in found:
            self._journeys.append(
                Journey(ticket.cluster_id, ticket.target, self.policy, ticket=ticket)
            )
        self._steps = _RESTORE
        self._walk(walker)

    #: Whether an owner is dead; the test knows all runs.
    seen_dead: Callable[[Owner, datetime | None], bool]

    def _walk(self, walker: Walker) -> None:
        while self._journeys:
            journey = self._journeys.popleft()
            for step in self._steps:
                walker.touch("step")
                try:
                    with self.hands(walker) as hands:
                        journey = step(hands, journey)
                except CaretakerError:
                    if step is not taken_over:
                        raise
                    # Dagster skips what comes after it; the ticket is open, and found again.
                    break
            else:
                self.ended.append(journey)
        if self._steps is _RESET and all(other.over or other is walker for other in self.walkers):
            try:
                touching_store(self.lab, self.witness, walker, Sender(self.run_id)).release_lock(
                    self.lab.cratedb.world.cluster_id, self.run_id
                )
            except CaretakerError:
                return


class Runs:
    """All runs there were, and the time that passes for all of them."""

    def __init__(self, lab: RoughLab, witness: Witness) -> None:
        self.lab = lab
        self.witness = witness
        self.all: list[Run] = []
        self._beaten_at = lab.seconds()

    def begin(self, policy: ResetPolicy, *, restore: bool, here: bool) -> Run:
        """Start a run; it does nothing before it is told to."""
        run = Run(len(self.all), self.lab, self.witness, policy, here=here)
        run.seen_dead = self.seen_dead
        self.all.append(run)
        run.walkers.append(Walker(run.run_id, run.restore if restore else run.reset))
        return run

    def seen_dead(self, owner: Owner, heartbeat_at: datetime | None) -> bool:
        """Whether the owner is dead, as far as can be seen."""
        run = next(run for run in self.all if run.run_id == owner.run_id)
        return is_dead(heartbeat_at, self.lab.now(), run.signs())

    def walking(self) -> list[tuple[Run, Walker]]:
        """Every walker that can be moved now."""
        return [
            (run, walker)
            for run in self.all
            if not run.frozen
            for walker in run.walkers
            if not walker.over
        ]

    def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody, hearts beating meanwhile."""
        self.lab.cratedb.advance(seconds)
        if self.lab.seconds() - self._beaten_at < 5.0:
            return
        self._beaten_at = self.lab.seconds()
        for run in self.all:
            if run.beats:
                try:
                    self.lab.store.beat(run.run_id, run.held)
                except CaretakerError:
                    continue

    def move(self, run: Run, walker: Walker, until: Callable[[Walker], bool], most: int) -> None:
        """Let a walker go on until it is at something, time passing while it sleeps."""
        for _ in range(most):
            if walker.over or run.frozen:
                break
            if walker.wakes_at is not None and walker.wakes_at > self.lab.seconds():
                self.pass_time(walker.wakes_at - self.lab.seconds())
            walker.step()
            if until(walker):
                break
        run.after_a_death()
