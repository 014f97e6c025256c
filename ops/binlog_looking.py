"""The thread that looks: for an operator's pause, and at what the alerts ask for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from caretaker.binlog.model import Checkpoint
from caretaker.errors import CaretakerError
from ops.binlog_parts import Parts
from resources.clock import utc_now

#: Between two looks at the offset document, and at the purge margin.
_LOOK_EVERY_S, _MARGIN_EVERY_S = 5.0, 60.0


class Looking(threading.Thread):
    """Looks until closed; what is wrong with either end is the reader's and the writer's to say."""

    def __init__(
        self,
        parts: Parts,
        source: str,
        *,
        committed: Callable[[], Checkpoint | None],
        paused: Callable[[], None],
    ) -> None:
        super().__init__(name="binlog-look", daemon=True)
        self._parts = parts
        self._source = source
        self._committed = committed
        self._paused = paused
        self._closed = threading.Event()

    def run(self) -> None:
        """Look now and then."""
        margin_at = -_MARGIN_EVERY_S
        while not self._closed.wait(_LOOK_EVERY_S):
            with contextlib.suppress(CaretakerError):
                self._look()
            committed = self._committed()
            if committed is not None and time.monotonic() - margin_at >= _MARGIN_EVERY_S:
                margin_at = time.monotonic()
                with contextlib.suppress(CaretakerError), self._parts.open_source() as source:
                    self._parts.metrics.looked(purge_margin_s=source.purge_margin_s(committed))

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _look(self) -> None:
        status = self._parts.trail.status(self._source)
        if status.offset.paused is not None:
            self._paused()
        since = status.oldest_pending_at
        age_s = 0.0 if since is None else (utc_now() - since).total_seconds()
        self._parts.metrics.looked(staging=(status.pending, age_s))
