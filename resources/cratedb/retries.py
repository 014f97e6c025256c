"""How often what is harmless to repeat is repeated. Changes are not: they are sent once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from caretaker.backoff import exponential
from caretaker.errors import RefusedError, TransientError

T = TypeVar("T")

#: Idempotent SQL: 3 times, 5 s apart.
READ_PAUSES_S = (5.0, 5.0)


def connect_pauses(jitter: Callable[[], float] = random.random) -> Iterable[float]:
    """Connecting: 5 times, up to 1, 2, 4 and 8 s apart."""
    return exponential(attempts=5, first_s=1.0, cap_s=8.0, jitter=jitter)


def connecting(connect: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `connect` returns; a cluster that five tries did not reach is refused.

    Not transient any more: a step's RetryPolicy would make fifteen tries of the five.
    """
    try:
        return retrying(connect, connect_pauses(), sleep=sleep)
    except TransientError as error:
        raise RefusedError(f"{error} (tried 5 times)", target=error.target) from error


def retrying(
    attempt: Callable[[], T],
    pauses_s: Iterable[float] = READ_PAUSES_S,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return what `attempt` returns, trying again after each pause while it raises TransientError.

    >>> answers = iter([TransientError("not now"), 7])
    >>> def ask():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> retrying(ask, sleep=lambda seconds: None)
    7
    """
    for pause_s in pauses_s:
        try:
            return attempt()
        except TransientError:
            sleep(pause_s)
    return attempt()
