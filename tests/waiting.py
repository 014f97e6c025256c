"""A bounded wait for what another thread or process is about to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_EVERY_S = 0.05


def in_time(condition: Callable[[], Any], within_s: float = 180.0) -> Any:
    """Return what the condition came to, once it is true; fail where it never is."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(_EVERY_S)
    return found
