"""Keeps a promise alive while a step works, and notices when nobody waits for it any more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg

from caretaker.errors import CaretakerError, FencedError
from caretaker.ownership import HEARTBEAT_EVERY_S
from ops.logs import STARTED_BY
from ops.stops import heard_stops
from resources.clock import Clock
from resources.state_store import StateStore

#: The longest nap between two looks around: a termination, an orphaned step or a lost ticket is
#: noticed within it.
NAP_S = 1.0


class OrphanedError(CaretakerError):
    """The process that would have told us to stop is gone."""


def _nothing() -> None:
    """Raise no stop."""


#: How long a step that is done waits for its last heartbeat: a store may hang.
FAREWELL_S = 0.5


@dataclass
class Guard:
    """Sleeps for a step, and looks around while it does.

    Attributes:
        watch_parent: Off where a person started the process: a shell that ends tells nothing.
        told_before: The stop came before this step's process was there to hear it.
        stop_again: Raises a stop that was swallowed on its way, of a step whose first stop ends
            its looking around.
    """

    clock: Clock
    parent_pid: int
    heart_stopped: threading.Event
    held: set[int] = field(default_factory=set)
    watch_parent: bool = True
    told_before: bool = False
    stop_again: Callable[[], None] = _nothing

    def pause(self, seconds: float) -> None:
        """Sleep, in naps; raise OrphanedError once the parent is gone."""
        deadline = self.clock.monotonic() + seconds
        while (rest := deadline - self.clock.monotonic()) > 0:
            self.look_around()
            self.clock.sleep(min(NAP_S, rest))
        self.look_around()

    def look_around(self) -> None:
        """Raise OrphanedError when the parent process has died.

        Killing a run's worker with -9 leaves the step's own process alive under the multiprocess
        executor (dagster.md, trap 2), and nobody can signal it any more.
        """
        self.stop_again()
        if self.watch_parent and os.getppid() != self.parent_pid:
            raise OrphanedError(f"the parent process {self.parent_pid} died", target="run")
        # Our parent may be a fork server that outlives the worker for as long as we do.
        worker = multiprocessing.parent_process()
        if worker is not None and not worker.is_alive():
            raise OrphanedError(f"the run's process {worker.pid} died", target="run")

    @contextmanager
    def heeding_stops(self) -> Iterator[None]:
        """Let no stop be missed while the block runs; what comes after it is left in peace."""
        if self.told_before:
            raise dg.DagsterExecutionInterruptedError
        with heard_stops() as again:
            self.stop_again = again
            try:
                yield
                self.stop_again()
            finally:
                self.stop_again = _nothing


@contextmanager
def deaf_to_the_echo() -> Iterator[None]:
    """In a step's own process, let the second of two stops pass while a table is put back.

    Ctrl-C in a terminal and systemd's stop reach every process of the group, and the multiprocess
    executor forwards what it got: one wish, heard twice. A third one is a second wish.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear_again(*_: object) -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, hear_again)
    try:
        yield
    finally:
        hear_again()


def supervised(run_tags: Mapping[str, str]) -> bool:
    """Whether our parent is who may tell us to stop: a run's own process, or who launched the run.

    The command line's run has a shell for a parent, except in the processes of its steps.
    """
    return STARTED_BY not in run_tags or multiprocessing.parent_process() is not None


@contextmanager
def heartbeat(
    store: StateStore, run_id: str, clock: Clock, *, watch_parent: bool = True
) -> Iterator[Guard]:
    """Beat for every open ticket and lock of the run, every 5 s, while the block runs.

    A beat that fails is tried again with the next one: a store that is away for a moment must not
    stop a restore, and one that is away for long makes the ticket look dead, which it may be.
    """
    stop = threading.Event()
    held: set[int] = set()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_EVERY_S):
            try:
                store.beat(run_id, tuple(held))
            except FencedError:
                return
            except CaretakerError:
                continue

    thread = threading.Thread(target=beat, name="caretaker-heartbeat", daemon=True)
    thread.start()
    try:
        yield Guard(clock, os.getppid(), stop, held, watch_parent)
    finally:
        stop.set()
        thread.join(timeout=FAREWELL_S)
