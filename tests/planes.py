"""The control planes that cases run on: the lab's own, and a real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab.kubernetes.plane import LabPlane, Plane

PLANES = ["lab", pytest.param("real", marks=pytest.mark.live("kubernetes"))]


@contextmanager
def plane_of(request: pytest.FixtureRequest, which: str, **lab_options: Any) -> Iterator[Plane]:
    """Give the session's real plane, or a lab's with these options, that ends after it."""
    if which == "real":
        yield request.getfixturevalue("control_plane")
        return
    with LabPlane(**lab_options) as lab:
        yield lab
