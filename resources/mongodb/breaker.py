"""When to ask a MongoDB again that did not answer: a circuit breaker."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from resources.clock import Clock

FIRST_PROBE_S = 0.1
LONGEST_PROBE_S = 10.0


class BreakerState(StrEnum):
    """What is done with a batch."""

    #: Committed.
    CLOSED = "closed"
    #: Kept; MongoDB is left alone until the next probe.
    OPEN = "open"
    #: One is being tried.
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    """Opens at a failure, probes after 0.1 to 10 s, closes at a success."""

    clock: Clock = field(default_factory=Clock)
    jitter: Callable[[], float] = random.random
    state: BreakerState = BreakerState.CLOSED
    #: In a row, since it was closed.
    failures: int = 0
    _probe_at: float = 0.0

    def failed(self) -> bool:
        """Note a failure; return whether it opened the breaker."""
        nominal = min(LONGEST_PROBE_S, FIRST_PROBE_S * 2.0 ** min(self.failures, 10))
        self._probe_at = self.clock.monotonic() + nominal * (0.5 + self.jitter() / 2)
        self.failures += 1
        opened = self.state is BreakerState.CLOSED
        self.state = BreakerState.OPEN
        return opened

    def probe(self) -> bool:
        """Return whether a probe is due; if so, it is under way."""
        if self.state is BreakerState.OPEN and self.wait_s() <= 0:
            self.state = BreakerState.HALF_OPEN
            return True
        return False

    def succeeded(self) -> bool:
        """Note a success; return whether it closed the breaker."""
        closed = self.state is not BreakerState.CLOSED
        self.state = BreakerState.CLOSED
        self.failures = 0
        return closed

    def wait_s(self) -> float:
        """Return how long until the next probe."""
        return max(0.0, self._probe_at - self.clock.monotonic())
