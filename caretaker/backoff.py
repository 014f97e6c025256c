"""When to look again, and when to stop: waits as plain sequences of seconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence


def wait_ladder(steps_s: Sequence[float], limit_s: float) -> Iterator[float]:
    """Yield the pauses between looks until exactly `limit_s` seconds have been waited.

    Past the last rung the last one repeats; the final pause is clipped, so that the last look
    falls on the deadline itself. The caller looks before the first pause and after every one.

    >>> list(wait_ladder([10, 15, 30], 70))
    [10, 15, 30, 15.0]
    """
    waited = 0.0
    for step in itertools.chain(steps_s, itertools.repeat(steps_s[-1])):
        pause = min(step, limit_s - waited)
        if pause <= 0:
            return
        yield pause
        waited += pause


def exponential(
    attempts: int, first_s: float, cap_s: float, jitter: Callable[[], float]
) -> Iterator[float]:
    """Yield the `attempts - 1` pauses between attempts: doubled, capped and spread out.

    `jitter` returns a number in [0, 1); a pause lies between half its nominal length and all of it,
    so that callers cut off at one moment do not all return at one moment.
    """
    for attempt in range(attempts - 1):
        nominal = min(cap_s, first_s * 2**attempt)
        yield nominal * (0.5 + jitter() / 2)


def doubling(first_s: float, cap_s: float) -> Iterator[float]:
    """Yield pauses for ever: each twice the one before, up to `cap_s`.

    >>> list(itertools.islice(doubling(0.1, 1.0), 5))
    [0.1, 0.2, 0.4, 0.8, 1.0]
    """
    pause = first_s
    while True:
        yield min(pause, cap_s)
        pause = min(pause * 2, cap_s)
