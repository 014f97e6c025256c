"""Whether anybody still waits for a run that is meant to go on for weeks."""

from __future__ import annotations

import os
import time

import dagster as dg

from caretaker.errors import CaretakerError
from ops.guard import OrphanedError

#: A question to Dagster's storage, so not at every moment.
ASK_EVERY_S = 5.0

_ENDED = frozenset(
    {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
)


class RunGuard:
    """Notices that Dagster has given up on the run, or that nobody could stop it any more.

    Args:
        watch_parent: False where the parent is a shell that may go away before us.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str, *, watch_parent: bool) -> None:
        self._instance = instance
        self._run_id = run_id
        self._parent = os.getppid() if watch_parent else None
        self._asked_at = time.monotonic()

    def look_around(self) -> None:
        """Raise OrphanedError where the parent has died, or the run is over for Dagster.

        A killed code server leaves its runs STARTED for ever and their processes alive; a run that
        was marked failed or canceled from outside has a process that knows nothing of it
        (dagster.md, traps 3 and 5).
        """
        if self._parent is not None and os.getppid() != self._parent:
            raise OrphanedError(f"the parent process {self._parent} died", target="run")
        if time.monotonic() - self._asked_at < ASK_EVERY_S:
            return
        self._asked_at = time.monotonic()
        try:
            run = self._instance.get_run_by_id(self._run_id)
        except Exception:  # noqa: BLE001 - a storage that is away for a moment is no verdict
            return
        if run is None or run.status in _ENDED:
            status = "deleted" if run is None else run.status.value.lower()
            raise NotLiveError(f"run {self._run_id} is {status} for Dagster", target="run")


class NotLiveError(CaretakerError):
    """The run was ended from outside."""
