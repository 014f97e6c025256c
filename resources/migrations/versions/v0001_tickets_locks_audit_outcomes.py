"""Tickets, locks, statements, outcomes, clearances, samples.

Spelled out in plain types rather than taken from `tables.py`: that one goes on changing, and this
must go on making what it made.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _TIME, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _target() -> list[sa.Column[Any]]:
    return [
        _text("cluster_id"),
        _text("schema_name"),
        _text("table_name"),
        _text("partition_ident"),
        _text("partition_values", nullable=True),
    ]


def _owner() -> list[sa.Column[Any]]:
    return [
        _text("owner_run_id"),
        _text("owner_host"),
        _number("owner_pid"),
        _text("owner_boot_id"),
        _number("epoch"),
        _time("heartbeat_at"),
    ]


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "caretaker_tickets",
        sa.Column("id", _ROW_ID, nullable=False),
        *_target(),
        _text("cluster_name"),
        _text("original_replicas"),
        *_owner(),
        _text("state"),
        _text("cause"),
        _number("worst_bytes"),
        _number("threshold_bytes"),
        sa.Column("zero_sent", sa.Boolean(), nullable=False),
        sa.Column("zero_acknowledged", sa.Boolean(), nullable=False),
        sa.Column("zero_confirmed", sa.Boolean(), nullable=False),
        _text("leases_verdict"),
        _text("reason"),
        sa.Column("lease_wait_s", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _text("last_error"),
        _time("next_try_at", nullable=True),
        _time("created_at"),
        _time("zeroed_at", nullable=True),
        _time("restored_at", nullable=True),
        _time("closed_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="caretaker_tickets_pkey"),
    )
    op.create_index(
        "caretaker_one_open_ticket",
        "caretaker_tickets",
        ["cluster_id", "schema_name", "table_name", "partition_ident"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "caretaker_locks",
        _text("cluster_id"),
        _text("purpose"),
        *_owner(),
        _time("acquired_at"),
        _time("released_at", nullable=True),
        sa.PrimaryKeyConstraint("cluster_id", name="caretaker_locks_pkey"),
    )
    op.create_table(
        "caretaker_statements",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("ticket_id", _ROW_ID, nullable=False),
        _text("run_id"),
        _number("epoch"),
        _text("sql_text"),
        _time("began_at"),
        _time("ended_at", nullable=True),
        _text("result", nullable=True),
        _text("error", nullable=True),
        sa.PrimaryKeyConstraint("id", name="caretaker_statements_pkey"),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["caretaker_tickets.id"], name="caretaker_statements_ticket_id_fkey"
        ),
    )
    op.create_index("caretaker_statements_of_ticket", "caretaker_statements", ["ticket_id", "id"])
    op.create_table(
        "caretaker_outcomes",
        sa.Column("id", _ROW_ID, nullable=False),
        *_target(),
        sa.Column("ticket_id", _ROW_ID, nullable=True),
        _text("run_id"),
        _text("cause"),
        _text("state"),
        _text("outcome"),
        _text("reason"),
        sa.Column("degraded", sa.Boolean(), nullable=False),
        _text("original_replicas", nullable=True),
        _text("final_replicas", nullable=True),
        _number("worst_bytes"),
        _number("threshold_bytes"),
        sa.Column("lease_wait_s", sa.Double(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("seconds_at_zero", sa.Double(), nullable=False),
        _time("started_at"),
        _time("ended_at"),
        _text("statements"),
        sa.PrimaryKeyConstraint("id", name="caretaker_outcomes_pkey"),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["caretaker_tickets.id"], name="caretaker_outcomes_ticket_id_fkey"
        ),
    )
    op.create_index(
        "caretaker_outcomes_of_target",
        "caretaker_outcomes",
        ["cluster_id", "schema_name", "table_name", "partition_ident", "id"],
    )
    op.create_index("caretaker_outcomes_by_time", "caretaker_outcomes", ["ended_at"])
    op.create_table(
        "caretaker_clearances",
        *_target(),
        _number("cleared_outcome_id"),
        _time("cleared_at"),
        sa.PrimaryKeyConstraint(
            "cluster_id",
            "schema_name",
            "table_name",
            "partition_ident",
            name="caretaker_clearances_pkey",
        ),
    )
    op.create_table(
        "caretaker_samples",
        *_target(),
        _time("at"),
        _number("worst_bytes"),
        _number("threshold_bytes"),
        sa.PrimaryKeyConstraint(
            "cluster_id",
            "at",
            "schema_name",
            "table_name",
            "partition_ident",
            name="caretaker_samples_pkey",
        ),
    )


def downgrade() -> None:
    """Drop them, with all they hold."""
    for name in ("samples", "clearances", "outcomes", "statements", "locks", "tickets"):
        op.drop_table(f"caretaker_{name}")
