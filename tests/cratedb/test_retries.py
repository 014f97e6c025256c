"""What is tried again, how often, and after which pause."""

from __future__ import annotations

import pytest

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from resources.cratedb.retries import connect_pauses, retrying


class Attempts:
    """Fails with each error in turn, then answers; remembers its sleeps."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0
        self.slept: list[float] = []

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_a_passing_trouble_passes():
    attempts = Attempts(TransientError("1"), TransientError("2"))

    assert retrying(attempts, sleep=attempts.slept.append) == "answer"
    assert attempts.slept == [5.0, 5.0]


def test_the_third_failure_of_a_read_is_reported():
    attempts = Attempts(*[TransientError(str(n)) for n in range(9)])

    with pytest.raises(TransientError, match="2"):
        retrying(attempts, sleep=attempts.slept.append)
    assert attempts.made == 3


def test_connecting_is_tried_five_times_further_and_further_apart():
    attempts = Attempts(*[TransientError(str(n)) for n in range(9)])

    with pytest.raises(TransientError):
        retrying(attempts, connect_pauses(jitter=lambda: 0.5), sleep=attempts.slept.append)
    assert attempts.made == 5
    assert attempts.slept == [0.75, 1.5, 3.0, 6.0]


@pytest.mark.parametrize("error", [RefusedError("no"), UnknownResultError("?"), KeyError("bug")])
def test_nothing_else_is_tried_again(error):
    attempts = Attempts(error)

    with pytest.raises(type(error)):
        retrying(attempts, sleep=attempts.slept.append)
    assert (attempts.made, attempts.slept) == (1, [])
