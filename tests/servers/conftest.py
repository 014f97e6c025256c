"""Names for what a test makes in a server that it shares."""

from __future__ import annotations

import itertools
import os

import pytest

_names = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A database's name that nobody else has."""
    return f"contract_{os.getpid()}_{next(_names)}"
