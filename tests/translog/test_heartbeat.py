"""The heart beside a step: it never holds the step up."""

from __future__ import annotations

import multiprocessing
import os
import threading
from types import SimpleNamespace
from typing import cast

import pytest

from ops import guard
from ops.logs import STARTED_BY
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
        self.go_on.wait(60)
        self.done.set()


def test_a_step_that_is_done_does_not_wait_for_a_store_that_hangs(monkeypatch):
    monkeypatch.setattr(guard, "HEARTBEAT_EVERY_S", 0.01)
    store = HangingStore()

    with guard.heartbeat(cast("StateStore", store), "run-1", Clock()):
        assert store.reached.wait(30)

    assert not store.done.is_set()
    store.go_on.set()


@pytest.mark.parametrize(
    ("tags", "step_of_its_own", "ends"),
    [
        ({STARTED_BY: "command line"}, False, False),
        ({STARTED_BY: "command line"}, True, True),
        ({}, False, True),
    ],
    ids=["nohup", "a step's own process", "a run of the UI"],
)
def test_a_run_goes_on_without_its_shell_and_not_without_who_supervises_it(
    monkeypatch, tags, step_of_its_own, ends
):
    """`nohup caretaker ... &`, and the shell ends: nobody has been told to stop."""
    worker = SimpleNamespace(is_alive=lambda: True)
    monkeypatch.setattr(
        multiprocessing, "parent_process", lambda: worker if step_of_its_own else None
    )
    store, watch = cast("StateStore", HangingStore()), guard.supervised(tags)

    with guard.heartbeat(store, "run-1", Clock(), watch_parent=watch) as beside:
        beside.look_around()
        monkeypatch.setattr(os, "getppid", lambda: 1)
        if ends:
            with pytest.raises(guard.OrphanedError):
                beside.look_around()
        else:
            beside.look_around()
