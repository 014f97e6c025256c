"""Run configs of the translog jobs: the options of the command line, under the same names."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from caretaker.translog.policy import DEFAULT_LADDER_S, ResetPolicy

_TABLE = "Regular expression that the whole schema.table must match; empty for every table."
_PERCENTAGE = "Act where the worst replica holds at least this % of its own threshold."
_REMEDY = "replicas, or flush_first: reset only what a flush does not cure."
_NUDGE = "Ask CrateDB to sync leases at once instead of every 30 s."
_SIZE_MB = "Act only where the worst replica holds at least this many MiB."


class TranslogReportConfig(dg.Config):
    """What a report looks at; it changes nothing."""

    percentage: int = Field(default=200, description=_PERCENTAGE, examples=[200])
    size_mb: float | None = Field(default=None, description=_SIZE_MB)
    table: str | None = Field(default=None, description=_TABLE)
    remedy: str = Field(default="replicas", description=f"Of the statements: {_REMEDY}")
    nudge: bool = Field(default=True, description=f"Of the statements: {_NUDGE}")

    def policy(self) -> ResetPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return ResetPolicy.checked(**self.model_dump())


class TranslogResetConfig(dg.Config):
    """What a reset may do. Dagster does not check ranges; the first step does, naming the key."""

    percentage: int = Field(default=200, description=_PERCENTAGE, examples=[200])
    size_mb: float | None = Field(default=None, description=_SIZE_MB)
    table: str | None = Field(default=None, description=_TABLE)
    max_tables: int | None = Field(
        default=None, description="Reset at most this many, worst first; empty for all."
    )
    max_wait_s: float = Field(
        default=720.0, description="Seconds to wait for retention leases, replicas being at 0."
    )
    concurrent: int = Field(
        default=1,
        description="Tables at 0 replicas at one moment, 1 to 8. Above 1: a process each.",
    )
    remedy: str = Field(default="replicas", description=_REMEDY)
    nudge: bool = Field(default=True, description=_NUDGE)
    expected_nodes: int | None = Field(
        default=None, description="Refuse to begin unless exactly this many nodes are present."
    )
    retry_after_s: float = Field(
        default=21600.0, description="No table twice within this many seconds."
    )
    set_aside_after: int = Field(
        default=3, description="Resets without cure after which a table waits for an operator."
    )
    restore_timeout_s: float = Field(
        default=300.0, description="Seconds to keep trying to restore before calling a human."
    )
    verify_timeout_s: float = Field(
        default=300.0, description="Seconds to wait for replicas to be started and small again."
    )
    settle_s: float = Field(
        default=60.0,
        description="Seconds to watch a table whose ALTER got no answer before closing its ticket.",
    )
    wait_ladder_s: list[float] = Field(
        default=list(DEFAULT_LADDER_S), description="Seconds between looks at the leases."
    )
    dry_run: bool = Field(
        default=False, description="Only say which statements would run; change nothing."
    )

    def policy(self) -> ResetPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return ResetPolicy.checked(**self.model_dump(exclude={"dry_run"}))


class TranslogRestoreConfig(dg.Config):
    """Which tickets to honour."""

    ticket_ids: list[int] | None = Field(
        default=None, description="Tickets to restore now; empty for all whose run is dead."
    )
    restore_timeout_s: float = Field(
        default=300.0, description="Seconds to keep trying before calling a human."
    )
    verify_timeout_s: float = Field(
        default=300.0, description="Seconds to wait for replicas to be started again."
    )
    settle_s: float = Field(
        default=60.0,
        description="Seconds to watch a table whose ALTER got no answer before closing its ticket.",
    )

    def policy(self) -> ResetPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return ResetPolicy.checked(**self.model_dump(exclude={"ticket_ids"}))
