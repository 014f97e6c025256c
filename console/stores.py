"""The state store, for verbs that read it without running a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from resources.state_store import StateStore, state_url


@contextmanager
def open_store() -> Iterator[StateStore]:
    """Open the store that CARETAKER_STATE_URL or DAGSTER_HOME name."""
    with StateStore.open(state_url(os.environ)) as store:
        yield store
