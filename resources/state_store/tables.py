"""The store's tables. `resources/migrations` makes the same ones; a test compares the two.

All are prefixed: a store may share its database with Dagster, whose Alembic table we would
otherwise take for ours.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
)

from resources.state_store.columns import (
    ExactText,
    FreeText,
    PartitionValues,
    RowId,
    TextList,
    UtcDateTime,
)

VERSION_TABLE = "caretaker_version"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    }
)


def _target() -> list[Column[Any]]:
    """Which table or partition. `partition_values` is NULL for a whole table."""
    return [
        Column("cluster_id", ExactText, nullable=False),
        Column("schema_name", ExactText, nullable=False),
        Column("table_name", ExactText, nullable=False),
        Column("partition_ident", ExactText, nullable=False),
        Column("partition_values", PartitionValues),
    ]


def _owner() -> list[Column[Any]]:
    return [
        Column("owner_run_id", ExactText, nullable=False),
        Column("owner_host", ExactText, nullable=False),
        Column("owner_pid", BigInteger, nullable=False),
        Column("owner_boot_id", ExactText, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("heartbeat_at", UtcDateTime, nullable=False),
    ]


tickets = Table(
    "caretaker_tickets",
    metadata,
    Column("id", RowId, primary_key=True),
    *_target(),
    Column("cluster_name", FreeText, nullable=False),
    Column("original_replicas", ExactText, nullable=False),
    *_owner(),
    Column("state", ExactText, nullable=False),
    Column("cause", FreeText, nullable=False),
    Column("worst_bytes", BigInteger, nullable=False),
    Column("threshold_bytes", BigInteger, nullable=False),
    Column("zero_sent", Boolean, nullable=False),
    Column("zero_acknowledged", Boolean, nullable=False),
    Column("zero_confirmed", Boolean, nullable=False),
    Column("leases_verdict", FreeText, nullable=False),
    Column("reason", FreeText, nullable=False),
    Column("lease_wait_s", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", FreeText, nullable=False),
    Column("next_try_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("zeroed_at", UtcDateTime),
    Column("restored_at", UtcDateTime),
    Column("closed_at", UtcDateTime),
)

_STILL_OPEN = tickets.c.closed_at.is_(None)

#: The lock on a table: whoever has its open ticket may change it.
one_open_ticket = Index(
    "caretaker_one_open_ticket",
    tickets.c.cluster_id,
    tickets.c.schema_name,
    tickets.c.table_name,
    tickets.c.partition_ident,
    unique=True,
    sqlite_where=_STILL_OPEN,
    postgresql_where=_STILL_OPEN,
)

#: A row stays when its lock is released, so that epochs only ever rise.
locks = Table(
    "caretaker_locks",
    metadata,
    Column("cluster_id", ExactText, primary_key=True),
    Column("purpose", FreeText, nullable=False),
    *_owner(),
    Column("acquired_at", UtcDateTime, nullable=False),
    Column("released_at", UtcDateTime),
)

statements = Table(
    "caretaker_statements",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("ticket_id", RowId, ForeignKey(tickets.c.id), nullable=False),
    Column("run_id", ExactText, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sql_text", FreeText, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("result", FreeText),
    Column("error", FreeText),
    Index("caretaker_statements_of_ticket", "ticket_id", "id"),
)

outcomes = Table(
    "caretaker_outcomes",
    metadata,
    Column("id", RowId, primary_key=True),
    *_target(),
    Column("ticket_id", RowId, ForeignKey(tickets.c.id)),
    Column("run_id", ExactText, nullable=False),
    Column("cause", FreeText, nullable=False),
    Column("state", ExactText, nullable=False),
    Column("outcome", ExactText, nullable=False),
    Column("reason", FreeText, nullable=False),
    Column("degraded", Boolean, nullable=False),
    Column("original_replicas", ExactText),
    Column("final_replicas", ExactText),
    Column("worst_bytes", BigInteger, nullable=False),
    Column("threshold_bytes", BigInteger, nullable=False),
    Column("lease_wait_s", Double, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("seconds_at_zero", Double, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("statements", TextList, nullable=False),
    Index(
        "caretaker_outcomes_of_target",
        "cluster_id",
        "schema_name",
        "table_name",
        "partition_ident",
        "id",
    ),
    Index("caretaker_outcomes_by_time", "ended_at"),
)

#: Up to which outcome an operator has forgiven a target's failures.
clearances = Table(
    "caretaker_clearances",
    metadata,
    *_target(),
    Column("cleared_outcome_id", BigInteger, nullable=False),
    Column("cleared_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("cluster_id", "schema_name", "table_name", "partition_ident"),
)

samples = Table(
    "caretaker_samples",
    metadata,
    *_target(),
    Column("at", UtcDateTime, nullable=False),
    Column("worst_bytes", BigInteger, nullable=False),
    Column("threshold_bytes", BigInteger, nullable=False),
    # Time before table: trends are read, and old ones pruned, by time.
    PrimaryKeyConstraint("cluster_id", "at", "schema_name", "table_name", "partition_ident"),
)


#: A restart's promise, as the document that `caretaker.decommission.ticket` makes of it.
restarts = Table(
    "caretaker_restarts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("cluster_id", ExactText, nullable=False),
    Column("namespace", ExactText, nullable=False),
    Column("cluster_name", ExactText, nullable=False),
    Column("purpose", ExactText, nullable=False),
    Column("document", ExactText, nullable=False),
    Column("way", ExactText, nullable=False),
    *_owner(),
    Column("attempts", Integer, nullable=False),
    Column("last_error", FreeText, nullable=False),
    Column("next_try_at", UtcDateTime),
    Column("outcome", ExactText),
    Column("reason", FreeText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
)

_RESTART_OPEN = restarts.c.closed_at.is_(None)

#: Whoever has a cluster's open restart may work on it.
one_open_restart = Index(
    "caretaker_one_open_restart",
    restarts.c.cluster_id,
    unique=True,
    sqlite_where=_RESTART_OPEN,
    postgresql_where=_RESTART_OPEN,
)

#: Statements and deletes of a restart, each on record before it is sent.
effects = Table(
    "caretaker_effects",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("restart_id", RowId, ForeignKey(restarts.c.id), nullable=False),
    Column("run_id", ExactText, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("effect", FreeText, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("result", FreeText),
    Column("reason", FreeText),
    Index("caretaker_effects_of_restart", "restart_id", "id"),
)

#: How the decommission of each pod ended; `restart_id` is NULL where nothing was begun.
decommissions = Table(
    "caretaker_decommissions",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("restart_id", RowId, ForeignKey(restarts.c.id)),
    Column("run_id", ExactText, nullable=False),
    Column("cluster_id", ExactText, nullable=False),
    Column("namespace", ExactText, nullable=False),
    Column("cluster_name", ExactText, nullable=False),
    Column("pod_name", ExactText, nullable=False),
    Column("strategy", ExactText, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("error", FreeText, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("restarted_in_place", Boolean, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime, nullable=False),
    Index("caretaker_decommissions_by_time", "ended_at"),
)

#: What a restart saw of its cluster, a row for each change.
looks = Table(
    "caretaker_looks",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("restart_id", RowId, ForeignKey(restarts.c.id), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("health", ExactText),
    Column("allocation", ExactText),
    Column("nodes", Integer),
    Column("relocating", Integer),
    Column("pod", ExactText, nullable=False),
    Column("state", ExactText, nullable=False),
    Index("caretaker_looks_of_restart", "restart_id", "id"),
)
