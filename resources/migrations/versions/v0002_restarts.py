"""Restarts, their effects, how each decommission ended, and what was seen on the way.

Spelled out in plain types, as in the first revision.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _TIME, nullable=nullable)


def _id() -> sa.Column[Any]:
    return sa.Column("id", _ROW_ID, nullable=False)


def _of_restart(table: str, *, nullable: bool = False) -> tuple[sa.Column[Any], Any]:
    return (
        sa.Column("restart_id", _ROW_ID, nullable=nullable),
        sa.ForeignKeyConstraint(
            ["restart_id"], ["caretaker_restarts.id"], name=f"{table}_restart_id_fkey"
        ),
    )


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "caretaker_restarts",
        _id(),
        _text("cluster_id"),
        _text("namespace"),
        _text("cluster_name"),
        _text("purpose"),
        _text("document"),
        _text("way"),
        _text("owner_run_id"),
        _text("owner_host"),
        sa.Column("owner_pid", sa.BigInteger(), nullable=False),
        _text("owner_boot_id"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        _time("heartbeat_at"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _text("last_error"),
        _time("next_try_at", nullable=True),
        _text("outcome", nullable=True),
        _text("reason"),
        _time("created_at"),
        _time("closed_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="caretaker_restarts_pkey"),
    )
    op.create_index(
        "caretaker_one_open_restart",
        "caretaker_restarts",
        ["cluster_id"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "caretaker_effects",
        _id(),
        *_of_restart("caretaker_effects"),
        _text("run_id"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        _text("effect"),
        _time("began_at"),
        _time("ended_at", nullable=True),
        _text("result", nullable=True),
        _text("reason", nullable=True),
        sa.PrimaryKeyConstraint("id", name="caretaker_effects_pkey"),
    )
    op.create_index("caretaker_effects_of_restart", "caretaker_effects", ["restart_id", "id"])
    op.create_table(
        "caretaker_decommissions",
        _id(),
        *_of_restart("caretaker_decommissions", nullable=True),
        _text("run_id"),
        _text("cluster_id"),
        _text("namespace"),
        _text("cluster_name"),
        _text("pod_name"),
        _text("strategy"),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        _text("error"),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("restarted_in_place", sa.Boolean(), nullable=False),
        _time("started_at", nullable=True),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("id", name="caretaker_decommissions_pkey"),
    )
    op.create_index("caretaker_decommissions_by_time", "caretaker_decommissions", ["ended_at"])
    op.create_table(
        "caretaker_looks",
        _id(),
        *_of_restart("caretaker_looks"),
        _time("at"),
        _text("health", nullable=True),
        _text("allocation", nullable=True),
        sa.Column("nodes", sa.Integer(), nullable=True),
        sa.Column("relocating", sa.Integer(), nullable=True),
        _text("pod"),
        _text("state"),
        sa.PrimaryKeyConstraint("id", name="caretaker_looks_pkey"),
    )
    op.create_index("caretaker_looks_of_restart", "caretaker_looks", ["restart_id", "id"])


def downgrade() -> None:
    """Drop what `upgrade` made; promises that were not honoured are lost with it."""
    for table in ("looks", "decommissions", "effects", "restarts"):
        op.drop_table(f"caretaker_{table}")
