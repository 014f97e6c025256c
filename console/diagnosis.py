"""What `caretaker doctor` finds."""

from __future__ import annotations

from typing import NamedTuple


class Diagnosis(NamedTuple):
    """One thing that was looked at.

    Attributes:
        status: ok, warn (a wing would refuse now), fail (it cannot work), off (not configured).
    """

    system: str
    check: str
    status: str
    detail: str
