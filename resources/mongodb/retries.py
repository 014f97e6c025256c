"""Again, where the failure was of the kind that passes; at once to the caller, where it was not."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from caretaker.backoff import exponential
from caretaker.errors import TransientError
from resources.mongodb.failures import clean, is_connection, is_transient, is_unknown, told
from resources.mongodb.settings import MongoDBSettings

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0

#: What the sync is told while it waits or decides: a dotted-free name and its fields.
OnEvent = Callable[[str, dict[str, Any]], None]


def nobody(_name: str, _fields: dict[str, Any]) -> None:
    """Tell nobody."""


class CancelledError(TransientError):
    """Asked to stop while it waited; nothing more was sent."""


@dataclass(slots=True)
class Counts:
    """What the alerts are computed from; they only grow.

    Attributes:
        attempts: At committing a batch, and `failed` those of them that did not succeed.
        retries: Pauses before another attempt at anything.
        connection_errors: Connections that failed or could not be had.
    """

    attempts: int = 0
    failed: int = 0
    retries: int = 0
    connection_errors: int = 0


@dataclass(slots=True)
class Retries:
    """Five attempts, 100 ms apart and doubling, until told to stop."""

    settings: MongoDBSettings
    cancel: threading.Event = field(default_factory=threading.Event)
    on_event: OnEvent = nobody
    counts: Counts = field(default_factory=Counts)
    jitter: Callable[[], float] = random.random
    attempts: int = ATTEMPTS

    def run(self, attempt: Callable[[], T], doing: str) -> T:
        """Return what `attempt` returns.

        It may raise the driver's errors. A commit of unknown result is not for here: it is never
        sent again without looking.

        Raises:
            TransientError: Five times in a row.
            RefusedError: At once.
            CancelledError: Told to stop between two attempts.
        """
        pauses = exponential(self.attempts, FIRST_PAUSE_S, LONGEST_PAUSE_S, self.jitter)
        while True:
            try:
                return attempt()
            except PyMongoError as error:
                self.note(error)
                if is_unknown(error) or not is_transient(error):
                    raise told(error, self.settings) from None
                pause_s = next(pauses, None)
                if pause_s is None:
                    failure = told(error, self.settings)
                    failure.args = (f"{failure} ({doing}, tried {self.attempts} times)",)
                    raise failure from None
                self.pause(pause_s, doing, clean(error, self.settings))

    def note(self, error: PyMongoError) -> None:
        """Count a failure."""
        if is_connection(error):
            self.counts.connection_errors += 1

    def pause(self, pause_s: float, doing: str, reason: str) -> None:
        """Wait, or raise CancelledError as soon as told to stop."""
        self.counts.retries += 1
        self.on_event("mongodb_retry", {"doing": doing, "pause_s": pause_s, "reason": reason})
        if self.cancel.wait(pause_s):
            raise CancelledError(f"stopped while {doing}: {reason}")
