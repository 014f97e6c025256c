"""Which tables hold too much uncommitted translog, why, and which of them may be reset now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from caretaker.translog.model import (
    DEFAULT_FLUSH_THRESHOLD_BYTES,
    MIB,
    Remedy,
    ShardCopy,
    TableObservation,
    Target,
    target_key,
)
from caretaker.translog.policy import ResetPolicy

SYSTEM_SCHEMAS = frozenset({"sys", "information_schema", "pg_catalog", "blob"})

#: Blocks under which ALTER ... SET is refused (4007), or under which no copy should be rebuilt:
#: read_only_allow_delete is set by CrateDB itself when a disk crosses its flood stage.
BLOCKS_THAT_FORBID = frozenset({"read_only", "metadata", "read_only_allow_delete"})


class Cause(StrEnum):
    """Why a copy keeps its translog, by what cures it."""

    SAFE_COMMIT_LAG = "safe_commit_lag"
    SEQ_NO_GAP = "seq_no_gap"
    PRIMARY_TOO = "primary_too"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """A table or partition whose worst started replica exceeds its own threshold.

    Attributes:
        table: As observed.
        worst: The replica with the largest uncommitted translog.
        threshold_bytes: `flush_threshold_size` x 1.1, rounded down.
        percentage: Its uncommitted size in % of that threshold.
        oversized: How many replicas exceed it.
    """

    table: TableObservation
    worst: ShardCopy
    threshold_bytes: int
    percentage: float
    cause: Cause
    oversized: int

    @property
    def target(self) -> Target:
        """The table or partition."""
        return self.table.target

    @property
    def worst_bytes(self) -> int:
        """Uncommitted bytes of the worst replica."""
        return self.worst.uncommitted_bytes or 0

    @property
    def recommended(self) -> Remedy:
        """The gentlest remedy that fits the cause.

        Only rebuilding a copy closes a sequence-number gap; everything else a flush may cure
        without giving up a replica, so where the cause is unknown it is worth its 0.2 s.
        """
        return Remedy.REPLICAS if self.cause is Cause.SEQ_NO_GAP else Remedy.FLUSH_FIRST


@dataclass(frozen=True, slots=True)
class History:
    """What earlier runs did to a target.

    Attributes:
        last_ended_at: When its last reset ended.
        uncured: Resets in a row that did not cure it, since the last cure or an operator's word.
    """

    last_ended_at: datetime
    uncured: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run will do: `chosen` worst first, and for each of the others the reason why not."""

    chosen: tuple[Finding, ...]
    skipped: tuple[tuple[Finding, str], ...]


def threshold_bytes(table: TableObservation) -> int:
    """Return what a replica of `table` may hold: its flush threshold and a tenth more.

    >>> from caretaker.translog.model import TableRef
    >>> round(threshold_bytes(TableObservation(TableRef("doc", "t"), "1", 4)) / MIB, 1)
    563.2
    """
    # Integers: 1.1 has no exact binary form, and the edge decides whether a table is touched.
    return (table.flush_threshold_bytes or DEFAULT_FLUSH_THRESHOLD_BYTES) * 11 // 10


def find_oversized(tables: Iterable[TableObservation]) -> list[Finding]:
    """Return the tables and partitions with a started replica above their threshold, worst first.

    Worst is the highest percentage of the own threshold, so a small table with a small
    threshold is not hidden behind a large one.
    """
    findings = [finding for table in tables if (finding := examine(table)) is not None]
    findings.sort(key=lambda finding: (-finding.percentage, target_key(finding.target)))
    return findings


def examine(table: TableObservation) -> Finding | None:
    """Return what is wrong with one table, or None where nothing is."""
    threshold = threshold_bytes(table)
    oversized = [
        copy
        for copy in table.copies
        if (copy.uncommitted_bytes or 0) > threshold and copy.started and not copy.primary
    ]
    if not oversized or table.target.table.schema in SYSTEM_SCHEMAS:
        return None
    worst = max(oversized, key=lambda copy: copy.uncommitted_bytes or 0)
    return Finding(
        table=table,
        worst=worst,
        threshold_bytes=threshold,
        percentage=(worst.uncommitted_bytes or 0) * 100 / threshold,
        cause=_cause(worst, _primary_of(worst, table), threshold),
        oversized=len(oversized),
    )


def select(
    findings: Iterable[Finding],
    policy: ResetPolicy,
    *,
    now: datetime,
    history: Mapping[tuple[str, str, str], History],
    held: Collection[tuple[str, str, str]] = (),
) -> Selection:
    """Choose what a run resets; what the policy's own selectors leave out is not mentioned.

    `held` are targets with an open ticket: another run has promised to restore them.
    """
    chosen: list[Finding] = []
    skipped: list[tuple[Finding, str]] = []
    for finding in findings:
        if not selected(finding, policy):
            continue
        reason = (
            why_not_now(finding, held)
            or _why_not_again(history.get(target_key(finding.target)), policy, now)
            or _why_not_that_many(len(chosen), policy)
        )
        if reason:
            skipped.append((finding, reason))
        else:
            chosen.append(finding)
    return Selection(tuple(chosen), tuple(skipped))


def selected(finding: Finding, policy: ResetPolicy) -> bool:
    """Whether percentage, size and name of a finding are what the operator asked for."""
    if finding.worst_bytes * 100 < policy.percentage * finding.threshold_bytes:
        return False
    if policy.size_mb is not None and finding.worst_bytes < policy.size_mb * MIB:
        return False
    pattern = policy.table_pattern
    return pattern is None or pattern.fullmatch(str(finding.target.table)) is not None


def why_not_now(finding: Finding, held: Collection[tuple[str, str, str]] = ()) -> str:
    """Return why a table must be left alone as it is now; '' where nothing forbids it."""
    table = finding.table
    if target_key(table.target) in held:
        return "an open ticket holds it"
    if table.number_of_replicas is None:
        return "its number_of_replicas cannot be read"
    if table.number_of_replicas in {"0", "0-0"}:
        return "it has no replicas to reset"
    if table.closed:
        return "it is closed"
    forbidding = sorted(BLOCKS_THAT_FORBID.intersection(table.blocked))
    if forbidding:
        return f"blocks.{forbidding[0]} is set"
    if table.allocation_enable != "all":
        return (
            f"routing.allocation.enable is {table.allocation_enable!r} on the table: "
            "its replicas would not come back"
        )
    return ""


def _why_not_again(past: History | None, policy: ResetPolicy, now: datetime) -> str:
    if past is None:
        return ""
    if past.uncured >= policy.set_aside_after:
        return (
            f"set aside: {past.uncured} resets did not cure it "
            "(look at its cause, then: caretaker tickets clear)"
        )
    rest = past.last_ended_at + timedelta(seconds=policy.retry_after_s) - now
    if rest > timedelta(0):
        return f"it was reset recently; again in {int(rest.total_seconds())} s"
    return ""


def _why_not_that_many(chosen: int, policy: ResetPolicy) -> str:
    if policy.max_tables is not None and chosen >= policy.max_tables:
        return f"max_tables is {policy.max_tables} and worse tables come first"
    return ""


def _primary_of(copy: ShardCopy, table: TableObservation) -> ShardCopy | None:
    return next((c for c in table.copies if c.primary and c.shard_id == copy.shard_id), None)


def _cause(worst: ShardCopy, primary: ShardCopy | None, threshold: int) -> Cause:
    if primary is not None and (primary.uncommitted_bytes or 0) > threshold:
        return Cause.PRIMARY_TOO
    if worst.max_seq_no is None or worst.local_checkpoint is None:
        return Cause.UNKNOWN
    # A copy that has seen operation n but not everything before it can commit nothing past the
    # hole: flush is a no-op there. (Translog.java:819, InternalEngine.java:1684.)
    if worst.local_checkpoint < worst.max_seq_no:
        return Cause.SEQ_NO_GAP
    return Cause.SAFE_COMMIT_LAG
