"""What a sync tells while it works; see `ops.events`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from caretaker.binlog.model import Checkpoint
from ops.events import Event


def _told(name: str, reason: str, level: int = logging.INFO, **fields: Any) -> Event:
    return Event(name, None, {**fields, "reason": reason}, level)


def starting(source: str, checkpoint: Checkpoint, chosen: str) -> Event:
    """The trail is empty."""
    return _told(
        "binlog_starting",
        f"Starting from {place(checkpoint)} ({chosen}): the trail of {source} is empty",
        source=source,
        **_fields(checkpoint),
    )


def resuming(source: str, checkpoint: Checkpoint) -> Event:
    """The trail goes on."""
    what = "saved GTID" if checkpoint.gtid is not None else "saved position"
    within = ""
    if checkpoint.inflight is not None:
        within = f", {checkpoint.inflight.rows} rows into {checkpoint.inflight.transaction}"
    return _told(
        "binlog_resuming",
        f"Resuming from {what} {place(checkpoint)}{within}, seq {checkpoint.seq}",
        source=source,
        **_fields(checkpoint),
    )


def connected(server_uuid: str, checkpoint: Checkpoint) -> Event:
    """A dump has begun."""
    return _told(
        "binlog_connected",
        f"Reading the binlog of {server_uuid} from {place(checkpoint)}",
        server_uuid=server_uuid,
        **_fields(checkpoint),
    )


def waiting_to_begin(error: Exception, pause_s: float, left_s: float) -> Event:
    """An end is away before anything has begun."""
    return _told(
        "binlog_waiting",
        f"Not begun yet ({error}); trying again in {pause_s:.1f} s, for {left_s:.0f} s more",
        logging.WARNING,
        error=str(error),
        pause_s=round(pause_s, 3),
        left_s=round(left_s),
    )


def disconnected(error: Exception, pause_s: float) -> Event:
    """The dump broke."""
    return _told(
        "binlog_disconnected",
        f"The source is away ({error}); trying again in {pause_s:.1f} s",
        logging.WARNING,
        error=str(error),
        pause_s=round(pause_s, 3),
    )


def flushing(events: int) -> Event:
    """A stop has begun."""
    return _told("binlog_flushing", f"Flushing {events} remaining events", events=events)


def flush_failed(events: int, within_s: float) -> Event:
    """A stop ran out of time."""
    return _told(
        "binlog_flush_failed",
        f"failed shutdown flush: {events} events were not written within {within_s:g} s; nothing "
        "is lost, the binlog gives them again",
        logging.CRITICAL,
        events=events,
        within_s=within_s,
    )


def stopped(why: str, checkpoint: Checkpoint | None, rows: int) -> Event:
    """A clean end."""
    where = place(checkpoint) if checkpoint else "nowhere"
    return _told(
        "binlog_stopped",
        f"Stopped ({why}) at {where}; {rows} documents written",
        why=why,
        rows=rows,
    )


def failover(before: str, after: str) -> Event:
    """Another server goes on."""
    return _told(
        "binlog_failover",
        f"The source is {after} now, and was {before}: it has all that the trail has",
        logging.WARNING,
        before=before,
        after=after,
    )


def filters_changed(before: str, after: str) -> Event:
    """Other filters from here on."""
    return _told(
        "binlog_filters_changed",
        f"Other filters from here on ({before[:12]} -> {after[:12]})",
        before=before,
        after=after,
    )


def before_the_trail(xid: str, transaction: str) -> Event:
    """Rows that cannot be in the trail."""
    return _told(
        "binlog_before_the_trail",
        f"{transaction} commits XA {xid}, which was prepared before the trail began: its rows are "
        "not in it",
        logging.WARNING,
        transaction=transaction,
    )


def partly_rolled_back(transaction: str) -> Event:
    """The binlog does not say which rows happened."""
    return _told(
        "binlog_rolled_back",
        f"{transaction} holds a ROLLBACK and is logged for its tables without transactions: rows "
        "of transactional tables in it did not happen, and the binlog does not say which",
        logging.WARNING,
        transaction=transaction,
    )


def guessed_bytes(table: str, columns: Sequence[str]) -> Event:
    """Nobody can say any more whether these were BINARY, UUID or INET."""
    return _told(
        "binlog_guessed_bytes",
        f"{table} is gone from the source, and was never read before: {', '.join(columns)} may "
        "have been UUID or INET, and the trail has the bytes as MariaDB stores them",
        logging.WARNING,
        table_name=table,
        columns=", ".join(columns),
    )


def warned(sentence: str) -> Event:
    """Something somebody should know, and no reason to stop."""
    return _told("binlog_warning", sentence, logging.WARNING)


def of_the_sink(name: str, fields: Mapping[str, Any]) -> Event:
    """What the trail's writer says: breaker, spool, retries, recovery."""
    level = logging.WARNING if name in _WARNINGS else logging.INFO
    if name == "recovering":
        return _told(name, f"Recovering {fields.get('count', 0)} pending batches", **fields)
    told = ", ".join(f"{key} {value}" for key, value in fields.items())
    return Event(name, None, {"reason": f"{name.replace('_', ' ')}: {told}", **fields}, level)


_WARNINGS = {"mongodb_retry", "breaker_open", "spool_full", "unknown_result", "archived"}


def place(checkpoint: Checkpoint) -> str:
    """Return where a checkpoint is, as a person reads it."""
    if checkpoint.gtid is None:
        return str(checkpoint.position)
    return f"{checkpoint.gtid or '(an empty set)'} ({checkpoint.position})"


def _fields(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "gtid": checkpoint.gtid,
        "file": checkpoint.position.file,
        "pos": checkpoint.position.pos,
        "seq": checkpoint.seq,
    }
