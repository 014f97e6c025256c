"""A table at 0 replicas whose run is gone, as its ticket has it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from caretaker.translog.model import Owner, ResetState, ResetTicket, TableRef
from definitions.jobs import translog_reset
from resources.cratedb.resource import CrateDBResource
from resources.state_store.resource import StateStoreResource
from tests.world import World

#: A process of a machine that nobody here can ask.
GONE = Owner("run-of-the-dead", "a-machine-that-is-gone", 7, "boot/1/1")


def left_at_zero(world: World, name: str, replicas: str = "1", **ticket: Any) -> Any:
    """Return the table `doc.name`: at 0, with a ticket of a run that was last heard of long ago."""
    table = world.table(f"doc.{name}", shards=1, replicas=replicas)
    table.set_replicas("0")
    drained: dict[str, Any] = {
        "zero_sent": True,
        "zero_acknowledged": True,
        "zero_confirmed": True,
        "state": ResetState.MONITORING_LEASES,
    }
    forgotten(world, name, replicas, **drained | ticket)
    return table


def forgotten(
    world: World, name: str, replicas: str = "1", *, owner: Owner = GONE, **ticket: Any
) -> ResetTicket:
    """Store a ticket that nobody has looked after for long."""
    now = datetime.now(UTC)
    stored = world.store.open_ticket(
        ResetTicket(
            cluster_id=ticket.pop("cluster_id", world.lab.world.cluster_id),
            target=TableRef("doc", name),
            original_replicas=replicas,
            owner=owner,
            created_at=now,
            heartbeat_at=now,
            threshold_bytes=590558003,
        )
    )
    stored = world.store.advance(stored, **ticket)
    silent(world, name)
    return stored


def silent(world: World, name: str) -> None:
    """Let the last heartbeat of a table's tickets be long ago."""
    update = "UPDATE caretaker_tickets SET heartbeat_at = '2020-01-01 00:00:00.000000'"
    world.look_into_store(f"{update} WHERE table_name = '{name}'")


def reset_of_the_environment() -> dg.JobDefinition:
    """Return the job with what the environment has now, for runs that keep what steps return."""
    resources = {
        "cratedb": CrateDBResource.from_variables(),
        "state": StateStoreResource(url=dg.EnvVar("CARETAKER_STATE_URL")),
    }
    definitions = dg.Definitions(jobs=[translog_reset], resources=resources)
    return definitions.resolve_job_def("translog_reset")
