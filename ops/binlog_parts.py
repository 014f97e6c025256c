"""What a sync works with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from caretaker.backoff import doubling
from ops.binlog_metrics import Metrics
from ops.events import Event
from resources.mongodb.offsets import Holder
from resources.mongodb.trail import Trail
from resources.mysql.source import MySQLSource

#: Between two tries to reach either end.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0


@dataclass(frozen=True)
class Parts:
    """What a sync works with.

    Attributes:
        open_source: Gives a connection of one's own to the source; called again after each loss.
        secret: The key of column hashes.
        decompress: Inflates zstd.
    """

    open_source: Callable[[], AbstractContextManager[MySQLSource]]
    trail: Trail
    holder: Holder
    say: Callable[[Event], None]
    decompress: Callable[[bytes], object]
    secret: bytes = b""
    metrics: Metrics = field(default_factory=Metrics)
    cancel: threading.Event = field(default_factory=threading.Event)


def pauses() -> Iterator[float]:
    """Yield the pauses between tries to reach either end."""
    return doubling(FIRST_PAUSE_S, LONGEST_PAUSE_S)
