"""What the operator allows a sync to do, checked once, with the key named when it is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any
from zoneinfo import ZoneInfo

from caretaker.binlog.batcher import Limits
from caretaker.binlog.document import LocalTime
from caretaker.binlog.filters import Filters
from caretaker.binlog.model import SourceIdentity, source_id
from caretaker.binlog.rows import OnPartialImage
from caretaker.errors import InvalidSettingError

PROTOCOLS = ("staged", "direct", "idempotent", "auto")

#: `start`, but for `gtid:<set>` and `file:<name>:<pos>`.
STARTS = ("saved", "earliest", "current")
SAVED = "saved"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_ZONE_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")
_FILTER_KEYS = ("include", "exclude", "mask", "hash", "drop")

#: What MongoDB takes in one transaction without complaint, and what it is told never to exceed.
_MOST_ROWS, _MOST_BYTES = 10_000, 14_000_000
_MIB = 1024 * 1024


@dataclass(frozen=True)
class SyncPolicy:
    """The limits of one sync.

    Attributes:
        source: Name of the source: of its offset document, and part of every `_id`.
        incarnation: 0 to 255; raised after RESET BINARY LOGS AND GTIDS on the source.
        start: Where to begin: `saved` (the trail's own end; an empty trail begins with the oldest
            transaction that the source has), `earliest`, `current`, `gtid:<set>`,
            `file:<name>:<pos>`. A trail that has an end accepts `saved` only.
        until_current: End once the position that the source had at the start is committed.
        protocol: staged, direct, idempotent or auto.
        batch_rows, batch_bytes: What one commit holds at most.
        flush_after_s: Nothing waits longer than this for a batch to be full.
        queue_bytes: Documents that are read and not written yet; above it reading stops.
        heartbeat_s: How often an idle source says that it is alive.
        shutdown_flush_s: What a stop may take to write what was read.
        xa_memory_bytes: What prepared XA transactions may take of memory.
        include, exclude: Patterns of `db.table`.
        mask, hash, drop: Patterns of `db.table.column`.
        zone: An IANA time zone for a second spelling of `ts`, None for none.
        zone_name: What follows `ts_` in its name.
        on_partial_image: stop or mark, for rows of which the source logged only some columns.
        spool_dir: Where batches wait while MongoDB is away; None: they wait in the binlog.
        spool_bytes: How much of them.
        cross_check_percent: Of the transactions, decoded a second time by mysql-replication.
        gap_before: Go on where an XA COMMIT settles what was prepared before the trail began.
    """

    source: str = "mysql"
    incarnation: int = 0
    start: str = SAVED
    until_current: bool = False
    protocol: str = "staged"
    batch_rows: int = 1000
    batch_bytes: int = 12_000_000
    flush_after_s: float = 1.0
    queue_bytes: int = 64 * _MIB
    heartbeat_s: float = 5.0
    shutdown_flush_s: float = 30.0
    xa_memory_bytes: int = 64 * _MIB
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    zone: str | None = None
    zone_name: str = "local"
    on_partial_image: OnPartialImage = OnPartialImage.STOP
    spool_dir: str | None = None
    spool_bytes: int = 1024 * _MIB
    cross_check_percent: float = 0.0
    gap_before: bool = False

    @classmethod
    def checked(cls, **given: Any) -> SyncPolicy:
        """Build a policy from untyped settings, or say which key holds what it may not.

        None means "not given" for every key, so that a run config may leave any of them empty.
        """
        known = {field.name for field in fields(cls)}
        for key, value in given.items():
            if key not in known:
                raise InvalidSettingError(key, value, f"one of {', '.join(sorted(known))}")
        present = {key: value for key, value in given.items() if value is not None}
        for key in _FILTER_KEYS:
            if key in present:
                present[key] = tuple(present[key])
        if "on_partial_image" in present:
            present["on_partial_image"] = _on_partial_image(present["on_partial_image"])
        policy = cls(**present)
        policy._refuse_what_cannot_work()
        return policy

    @property
    def identity(self) -> SourceIdentity:
        """What the ids of this source's documents begin with."""
        return SourceIdentity(source_id(self.source), self.incarnation)

    @property
    def limits(self) -> Limits:
        """What one commit holds at most."""
        return Limits(self.batch_rows, self.batch_bytes)

    @property
    def local_time(self) -> LocalTime | None:
        """The second spelling of `ts`."""
        return None if self.zone is None else LocalTime(self.zone_name, ZoneInfo(self.zone))

    def filters(self, secret: bytes = b"") -> Filters:
        """Return what is in the trail; `secret` is the key of hashes, and no part of a policy."""
        return Filters(
            include=self.include,
            exclude=self.exclude,
            mask=self.mask,
            hash=self.hash,
            drop=self.drop,
            secret=secret,
        )

    def _refuse_what_cannot_work(self) -> None:
        if not _NAME.fullmatch(self.source):
            raise InvalidSettingError(
                "source", self.source, "a name of letters, digits, dots, dashes, 63 at most"
            )
        _one_of("protocol", self.protocol, PROTOCOLS)
        if self.start not in STARTS and not self.start.startswith(("gtid:", "file:")):
            raise InvalidSettingError(
                "start", self.start, f"{', '.join(STARTS)}, gtid:<set> or file:<name>:<pos>"
            )
        _within("incarnation", self.incarnation, 0, 255)
        _within("batch_rows", self.batch_rows, 1, _MOST_ROWS)
        _within("batch_bytes", self.batch_bytes, 1024, _MOST_BYTES)
        _within("flush_after_s", self.flush_after_s, 0.01, 60)
        _within("queue_bytes", self.queue_bytes, 1024 * 1024, 1 << 36)
        _within("heartbeat_s", self.heartbeat_s, 0.1, 300)
        _within("shutdown_flush_s", self.shutdown_flush_s, 0, 600)
        _within("xa_memory_bytes", self.xa_memory_bytes, 0, 1 << 36)
        _within("spool_bytes", self.spool_bytes, 1024 * 1024, 1 << 44)
        _within("cross_check_percent", self.cross_check_percent, 0, 100)
        if not _ZONE_NAME.fullmatch(self.zone_name):
            raise InvalidSettingError(
                "zone_name", self.zone_name, "lower-case letters, digits and _, 16 at most: ist"
            )
        if self.zone is not None:
            _known_zone(self.zone)
        # The secret is asked for where it is read; any that is long enough will do to look at this.
        self.filters(b"\0" * 16)


def _known_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (OSError, ValueError):
        # ZoneInfoNotFoundError is a KeyError that reads badly; a folder's name is an OSError.
        raise InvalidSettingError("zone", zone, _A_ZONE) from None
    except KeyError:
        raise InvalidSettingError("zone", zone, _A_ZONE) from None


_A_ZONE = "an IANA time zone such as Asia/Kolkata"


def _on_partial_image(value: object) -> OnPartialImage:
    try:
        return OnPartialImage(str(value))
    except ValueError:
        allowed = " or ".join(each.value for each in OnPartialImage)
        raise InvalidSettingError("on_partial_image", value, allowed) from None


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidSettingError(key, value, f"one of {', '.join(allowed)}")


def _within(key: str, value: float, smallest: float, largest: float) -> None:
    # `not <=` rather than `>`: NaN fails it, too.
    if not smallest <= value <= largest:
        raise InvalidSettingError(key, value, f"a number from {smallest:g} to {largest:g}")
