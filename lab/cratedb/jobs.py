"""A statement under way, as sys.jobs shows it."""

from __future__ import annotations

from dataclasses import dataclass

from lab.cratedb.model import Node


@dataclass(slots=True, frozen=True)
class Job:
    """Who runs what, where, since when."""

    id: str
    user: str
    stmt: str
    started: int
    node: Node
