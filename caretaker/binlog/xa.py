"""Rows of XA transactions wait here, as the events they came in, until XA COMMIT or XA ROLLBACK.

Nothing of this survives a restart, and nothing has to: the checkpoint never passes an XA
transaction that is not settled (`progress`), so the source sends its rows again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from caretaker.binlog.frames import Event
from caretaker.binlog.model import Gtid
from caretaker.errors import RefusedError

#: Type, timestamp, server id, flags, end position, size, length of the file's name.
_RECORD = struct.Struct("<BIIHQIH")


class XaStore(Protocol):
    """Where rows go that are too many to be kept in memory: a folder, a table.

    It is a spill, not a memory: whoever opens it for a new stream may find it empty.
    """

    def put(self, xid: str, record: bytes) -> None:
        """Append a record to those of `xid`."""
        ...

    def records(self, xid: str) -> Iterator[bytes]:
        """Yield the records of `xid` in the order they were put."""
        ...

    def drop(self, xid: str) -> None:
        """Forget `xid`, which may be unknown."""
        ...


@dataclass(slots=True)
class _Waiting:
    gtid: Gtid | None
    records: list[bytes] = field(default_factory=list)
    bytes: int = 0
    spilled: bool = False


class XaSpool:
    """The XA transactions that are not settled.

    Args:
        limit_bytes: How much is kept in memory, of all of them together.
        store: Where the rest goes; without one, more than `limit_bytes` is refused.
    """

    def __init__(self, limit_bytes: int, store: XaStore | None = None) -> None:
        self._limit = limit_bytes
        self._store = store
        self._used = 0
        self._waiting: dict[str, _Waiting] = {}

    def begin(self, xid: str, gtid: Gtid | None) -> None:
        """Start to collect; what is known of the same xid is from before a restart of the dump."""
        self.drop(xid)
        self._waiting[xid] = _Waiting(gtid)

    def put(self, xid: str, event: Event) -> None:
        """Keep an event."""
        waiting = self._waiting[xid]
        record = _pack(event)
        if not waiting.spilled and self._used + len(record) <= self._limit:
            waiting.records.append(record)
            waiting.bytes += len(record)
            self._used += len(record)
            return
        if self._store is None:
            raise RefusedError(
                f"{event.start}: XA {xid} does not fit into the {self._limit} bytes for"
                " prepared transactions",
                target=xid,
                hint="raise xa_memory_bytes in the run's config: the next run reads them again",
            )
        # From the first record in the store on all others follow it there: order is kept by place.
        waiting.spilled = True
        self._store.put(xid, record)

    def __contains__(self, xid: str) -> bool:
        return xid in self._waiting

    def gtid(self, xid: str) -> Gtid | None:
        """The GTID of the XA PREPARE."""
        return self._waiting[xid].gtid

    def replay(self, xid: str) -> Iterator[Event]:
        """Yield the events of `xid`, in order; memory is that of one."""
        waiting = self._waiting[xid]
        for record in waiting.records:
            yield _unpack(record)
        if waiting.spilled and self._store is not None:
            for record in self._store.records(xid):
                yield _unpack(record)

    def drop(self, xid: str) -> None:
        """Forget `xid`, which may be unknown."""
        waiting = self._waiting.pop(xid, None)
        if waiting is not None:
            self._used -= waiting.bytes
            if waiting.spilled and self._store is not None:
                self._store.drop(xid)


def _pack(event: Event) -> bytes:
    file = event.file.encode()
    head = _RECORD.pack(
        event.type,
        event.timestamp_s,
        event.server_id,
        event.flags,
        event.pos,
        event.size,
        len(file),
    )
    return head + file + event.body


def _unpack(record: bytes) -> Event:
    kind, stamp, server_id, flags, pos, size, name = _RECORD.unpack_from(record)
    at = _RECORD.size + name
    file = record[_RECORD.size : at].decode()
    return Event(kind, stamp, server_id, flags, file, pos, size, record[at:])
