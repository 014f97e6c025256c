"""For the tests of set-up, packaging and the demo's processes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest


@pytest.fixture
def unused_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the folder of this checkout."""
    return Path(__file__).parents[2]
