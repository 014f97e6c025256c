"""A snapshot as sys.snapshots shows it; it has no other effect in the lab."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Snapshot:
    """One snapshot: `state` is IN_PROGRESS, SUCCESS, PARTIAL or FAILED."""

    repository: str
    name: str
    id: str
    state: str
    started: int
    finished: int | None = None
    relations: list[str] = field(default_factory=list)
