"""What is left to do until a ticket is honoured.

The plan is asked again after any interruption and is given what is now, so first run, retry,
resume and takeover are one path. The order is deliberate: a table is never set to 0 twice, and
the original setting is always the last word that is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from caretaker.translog.model import (
    ResetState,
    ResetTicket,
    TableObservation,
    Target,
)


@dataclass(frozen=True, slots=True)
class SetReplicas:
    """Set `number_of_replicas` to exactly this text."""

    target: Target
    replicas: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Flush every copy and sync its leases, without merging (0.1-0.2 s, seen live)."""

    target: Target


@dataclass(frozen=True, slots=True)
class AwaitLeases:
    """Wait until the primaries hold no lease for the copies that were taken away."""

    target: Target


@dataclass(frozen=True, slots=True)
class AwaitReplicas:
    """Wait until the replicas are started again and small."""

    target: Target


Action: TypeAlias = SetReplicas | Flush | AwaitLeases | AwaitReplicas

#: States in which the table is still on its way to 0 or waiting there.
DRAINING = frozenset(
    {ResetState.DETECTED, ResetState.SETTING_REPLICAS_ZERO, ResetState.MONITORING_LEASES}
)


def plan_drain(
    now: TableObservation, ticket: ResetTicket, *, nudge: bool = True
) -> Iterator[Action]:
    """Yield what takes the replicas away and waits until the primaries forgot them."""
    if ticket.state not in DRAINING:
        return
    if not ticket.zero_confirmed:
        if ticket.zero_sent or changed_underneath(now, ticket):
            # A SET to 0 went out and nobody saw what became of it, and going on would be a guess;
            # or somebody changed the table since the ticket was written, and it is theirs.
            return
        yield SetReplicas(ticket.target, "0")
    elif now.number_of_replicas != "0":
        return
    if nudge and not ticket.leases_verdict:
        yield Flush(ticket.target)
    if not ticket.leases_verdict:
        yield AwaitLeases(ticket.target)


def plan_restore(now: TableObservation, ticket: ResetTicket) -> Iterator[Action]:
    """Yield what gives the table back the text that the ticket remembers, if anything is owed."""
    if not ticket.zero_sent or changed_underneath(now, ticket):
        return
    if now.number_of_replicas != ticket.original_replicas or unsettled(ticket):
        yield SetReplicas(ticket.target, ticket.original_replicas)


def plan_verify(now: TableObservation, ticket: ResetTicket) -> Iterator[Action]:
    """Yield the wait for what the restore set in motion."""
    over = ticket.state is ResetState.COMPLETED
    if ticket.zero_sent and not over and not changed_underneath(now, ticket):
        yield AwaitReplicas(ticket.target)


def plan_reset(
    now: TableObservation, ticket: ResetTicket, *, nudge: bool = True
) -> Iterator[Action]:
    """Yield everything that is still to do: the whole reset at first, less and less later.

    This is what a dry run prints, and what every interruption test asks again.
    """
    drain = list(plan_drain(now, ticket, nudge=nudge))
    yield from drain
    if drain and not ticket.zero_sent:
        yield SetReplicas(ticket.target, ticket.original_replicas)
        yield AwaitReplicas(ticket.target)
        return
    yield from plan_restore(now, ticket)
    yield from plan_verify(now, ticket)


def unsettled(ticket: ResetTicket) -> bool:
    """Whether a SET to 0 was sent that CrateDB never answered: it may still land.

    The original is then always sent again, and the ticket stays open until an acknowledged
    restore has stood for `settle_s` without a change.
    """
    return ticket.zero_sent and not ticket.zero_acknowledged


def changed_underneath(now: TableObservation, ticket: ResetTicket) -> bool:
    """Whether somebody else has set a value that is neither the original nor a 0 of ours."""
    ours = {"0", ticket.original_replicas} if ticket.zero_sent else {ticket.original_replicas}
    return now.number_of_replicas not in ours


def owes_a_restore(now: TableObservation | None, ticket: ResetTicket) -> bool:
    """Whether the table, as read back, lacks what the ticket promised.

    A table that the catalog no longer shows counts as owed: "dropped" and "privilege removed"
    look alike (404/4045, seen live), and only a person can tell them apart.
    """
    if not ticket.zero_sent:
        return False
    return now is None or any(True for _ in plan_restore(now, ticket))


def replicas_are_back(now: TableObservation) -> bool:
    """Whether every copy that the routing table knows is STARTED and none is on the move."""
    return bool(now.copies) and all(
        copy.started and copy.relocating_node is None for copy in now.copies
    )


def worst_replica_bytes(now: TableObservation) -> int:
    """The largest uncommitted translog among started replicas; 0 where there are none."""
    sizes = [c.uncommitted_bytes or 0 for c in now.copies if c.started and not c.primary]
    return max(sizes, default=0)
