"""The lab's time: it runs at any speed and can be pushed forward, but never back."""

from __future__ import annotations

import threading
import time


class Clock:
    """Seconds since the epoch as the lab's cluster sees them."""

    def __init__(self, speed: float = 1.0, start: float | None = None) -> None:
        """Start at `start` (default: the real time now) and run `speed` times as fast."""
        self._lock = threading.Lock()
        self._speed = speed
        self._base = time.time() if start is None else start
        self._since = time.monotonic()

    def now(self) -> float:
        """Return the lab's time in seconds."""
        with self._lock:
            return self._base + (time.monotonic() - self._since) * self._speed

    def now_ms(self) -> int:
        """Return the lab's time as CrateDB shows timestamps."""
        return int(self.now() * 1000)

    @property
    def speed(self) -> float:
        """Return how many of the lab's seconds pass in a real one."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        now = self.now()
        with self._lock:
            self._base, self._since, self._speed = now, time.monotonic(), value

    def advance(self, seconds: float) -> None:
        """Jump ahead; whatever falls due on the way happens at the next look, in its order."""
        with self._lock:
            self._base += max(0.0, seconds)

    def real(self, lab_seconds: float) -> float:
        """Return how many real seconds `lab_seconds` take at this speed."""
        return lab_seconds / self._speed if self._speed > 0 else lab_seconds
