"""Run configs of the binlog jobs: the options of the command line, under the same names."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from caretaker.binlog.policy import SyncPolicy

_SOURCE = "Name of the source: of its offset document, and part of every _id."
_PROTOCOL = "staged, direct, idempotent (no transactions), or auto."


class BinlogSyncConfig(dg.Config):
    """What a sync may do. Dagster does not check ranges; the first step does, naming the key."""

    source: str = Field(default="mysql", description=_SOURCE)
    incarnation: int = Field(
        default=0, description="Raise it after RESET BINARY LOGS AND GTIDS, 0 to 255."
    )
    start: str = Field(
        default="saved",
        description="saved (an empty trail: the oldest the source has), earliest, current, "
        "gtid:<set>, file:<name>:<pos>. Another than saved is for an empty trail.",
    )
    until_current: bool = Field(
        default=False, description="End once the source's position at the start is committed."
    )
    protocol: str = Field(default="staged", description=_PROTOCOL)
    batch_rows: int = Field(default=1000, description="Documents in a commit at most.")
    batch_bytes: int = Field(default=12_000_000, description="Bytes in a commit at most.")
    flush_after_s: float = Field(
        default=1.0, description="Seconds after which a batch is written, full or not."
    )
    queue_bytes: int = Field(
        default=64 * 1024 * 1024,
        description="Bytes read and not written, above which reading stops.",
    )
    heartbeat_s: float = Field(
        default=5.0, description="Seconds between the signs of life of an idle source."
    )
    shutdown_flush_s: float = Field(
        default=30.0, description="Seconds that a stop has to write what was read."
    )
    xa_memory_bytes: int = Field(
        default=64 * 1024 * 1024, description="Bytes of memory for prepared XA transactions."
    )
    include: list[str] = Field(default=[], description="Patterns of db.table; none given: all.")
    exclude: list[str] = Field(default=[], description="Patterns of db.table; wins over include.")
    mask: list[str] = Field(default=[], description="Patterns of db.table.column shown as ***.")
    hash: list[str] = Field(
        default=[],
        description="Patterns of db.table.column kept as HMAC-SHA256; the key is the variable "
        "CARETAKER_HASH_SECRET.",
    )
    drop: list[str] = Field(default=[], description="Patterns of db.table.column left out.")
    zone: str | None = Field(
        default=None, description="Time zone of a second spelling of ts, such as Asia/Kolkata."
    )
    zone_name: str = Field(default="local", description="What follows ts_ in its name: ist.")
    on_partial_image: str = Field(
        default="stop", description="stop or mark, for rows logged without all their columns."
    )
    spool_dir: str | None = Field(
        default=None,
        description="Folder where batches wait while MongoDB is away; empty: they wait in the "
        "binlog.",
    )
    spool_bytes: int = Field(default=1 << 30, description="Bytes of the spool at most.")
    cross_check_percent: float = Field(
        default=0.0, description="% of transactions decoded by mysql-replication, too; 0 to 100."
    )
    gap_before: bool = Field(
        default=False,
        description="Go on where an XA COMMIT settles what was prepared before the trail began.",
    )
    observe_every_s: float = Field(
        default=60.0, description="Seconds between the observations of lag, rates and position."
    )

    def policy(self) -> SyncPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return SyncPolicy.checked(**self.model_dump(exclude={"observe_every_s"}))


class BinlogSetupConfig(dg.Config):
    """What the trail's collections and indexes are made for."""

    protocol: str = Field(default="staged", description=_PROTOCOL)
    dry_run: bool = Field(default=False, description="Only say what is missing.")

    def policy(self) -> SyncPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return SyncPolicy.checked(protocol=self.protocol)


class BinlogVerifyConfig(dg.Config):
    """Which tables are held against their trails."""

    source: str = Field(default="mysql", description=_SOURCE)
    tables: list[str] = Field(description="db.table, each to be compared row by row.")
    chunk_rows: int = Field(default=10_000, description="Rows of a key range compared at once.")
    wait_s: float = Field(
        default=60.0, description="Seconds to wait for the trail to reach the snapshot."
    )

    def policy(self) -> SyncPolicy:
        """Return the checked policy, or raise InvalidSettingError naming the key."""
        return SyncPolicy.checked(source=self.source)
