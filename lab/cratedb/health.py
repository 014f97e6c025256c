"""GREEN, YELLOW, RED: of a relation and of the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from lab.cratedb.model import INITIALIZING, UNASSIGNED, Relation
from lab.cratedb.world import World

_SEVERITY = {"GREEN": 1, "YELLOW": 2, "RED": 3}
_DESCRIPTION = {
    "GREEN": "",
    "YELLOW": "One or more tables have underreplicated shards",
    "RED": "One or more tables are missing shards",
}


@dataclass(slots=True, frozen=True)
class Health:
    """How many primaries are missing, and how many replicas are not there."""

    missing: int
    underreplicated: int

    @property
    def word(self) -> str:
        """Return GREEN, YELLOW or RED."""
        if self.missing:
            return "RED"
        return "YELLOW" if self.underreplicated else "GREEN"

    @property
    def severity(self) -> int:
        """Return 1, 2 or 3."""
        return _SEVERITY[self.word]

    @property
    def description(self) -> str:
        """Return the sentence sys.cluster_health has for it."""
        return _DESCRIPTION[self.word]


def of_relation(relation: Relation) -> Health:
    """Return the health of one table or partition."""
    missing = under = 0
    for _, copy in relation.copies():
        if copy.state in {UNASSIGNED, INITIALIZING}:
            missing += copy.primary
            under += not copy.primary
    return Health(missing, under)


def of_cluster(world: World) -> Health:
    """Return the sum over all relations; settled ones are healthy by definition."""
    missing = under = 0
    for key in world.unsettled:
        relation = world.relation(key)
        if relation is not None:
            health = of_relation(relation)
            missing += health.missing
            under += health.underreplicated
    return Health(missing, under)


def relocating(world: World) -> int:
    """Return how many copies are on the move anywhere in the cluster."""
    found = (world.relation(key) for key in world.unsettled)
    return sum(
        copy.relocating_to is not None
        for relation in found
        if relation is not None
        for _, copy in relation.copies()
    )
