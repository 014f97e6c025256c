"""Threads that move only when they are told to, one touch of the outside world at a time.

A walker hands the baton back before everything it does to the world. Between two touches a test
may let others go on, let time pass, break things, stop it, or kill it: from then on every touch
raises, so that no handler of the dead does anything any more, as after SIGKILL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ops.guard import Guard

#: Real seconds after which a walker that does not come back is called hung.
HUNG_S = 60.0


class Killed(BaseException):
    """The process is gone."""


class Stopped(BaseException):
    """Told to stop, as Dagster's interruption tells a step."""


class Walker:
    """One process of a run."""

    def __init__(self, name: str, work: Callable[[Walker], None]) -> None:
        self.name = name
        #: What it is about to do.
        self.at = "begin"
        #: The moment until which it sleeps, None while it is awake.
        self.wakes_at: float | None = None
        #: Of the step it is in.
        self.guard: Guard | None = None
        self.over = False
        #: What its work has raised, its own end apart.
        self.error: BaseException | None = None
        self._dead = False
        self._told_to_stop = False
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread = threading.Thread(
            target=self._walk, args=(work,), name=f"walker-{name}", daemon=True
        )
        self._thread.start()

    def touch(self, what: str) -> None:
        """Called by the work before it does something: give the baton back, wait for it."""
        if self._dead:
            raise Killed
        self.at = what
        self._back.release()
        self._go.acquire()
        if self._dead:
            raise Killed
        if self._told_to_stop:
            self._told_to_stop = False
            raise Stopped

    def step(self) -> None:
        """Let it do what it is at, and come to the next touch or to its end."""
        self._go.release()
        if not self._back.acquire(timeout=HUNG_S):
            raise RuntimeError(f"{self.name} hangs after {self.at!r}")

    def kill(self) -> None:
        """End it as SIGKILL would."""
        self._dead = True
        while not self.over:
            self.step()

    def stop(self) -> None:
        """Interrupt it at its next touch."""
        self._told_to_stop = True
        self.wakes_at = None

    def _walk(self, work: Callable[[Walker], None]) -> None:
        self._go.acquire()
        try:
            if not self._dead:
                work(self)
        except (Killed, Stopped):
            pass
        except BaseException as error:  # noqa: BLE001 - told to the test, in its own thread
            self.error = error
        finally:
            self.over, self.at = True, "over"
            self._back.release()
