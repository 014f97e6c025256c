"""The heart beside a step: it never holds the step up."""

from __future__ import annotations

import threading
from typing import cast

from ops import guard
from resources.clock import Clock
from resources.state_store import StateStore


class HangingStore:
    """A store that takes a heartbeat and does not come back from it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.done = threading.Event()

    def beat(self, _run_id, _held):
        self.reached.set()
        self.go_on.wait(4)
        self.done.set()


def test_a_step_that_is_done_does_not_wait_for_a_store_that_hangs(monkeypatch):
    monkeypatch.setattr(guard, "HEARTBEAT_EVERY_S", 0.01)
    store = HangingStore()

    with guard.heartbeat(cast("StateStore", store), "run-1", Clock()):
        assert store.reached.wait(30)

    assert not store.done.is_set()
    store.go_on.set()
