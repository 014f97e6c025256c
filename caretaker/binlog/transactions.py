"""A transaction while it is read: its names, the ids of its documents, what is to become of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from caretaker.binlog.frames import Event, file_order
from caretaker.binlog.gtid import mariadb_text
from caretaker.binlog.model import (
    Gtid,
    MariadbGtid,
    MysqlGtid,
    Position,
    RowContext,
    SourceIdentity,
)


@dataclass(slots=True)
class Transaction:
    """One transaction of the source.

    Attributes:
        name: Its GTID as text, or where it starts.
        gtid_text: None for a source without GTIDs.
        id_prefix: Of the ids of its documents.
        opened: BEGIN, or what stands for it, has been read: rows may follow.
        skip: It is in the trail already, and comes again for the sake of an XA transaction.
        xid: Where its rows wait, for one that XA PREPARE ends.
        undone: It holds a ROLLBACK, of all or to a savepoint.
        silent: Its statement changes nothing by itself: half of an ALTER in two.
    """

    name: str
    gtid: Gtid | None
    gtid_text: str | None
    start: Position
    commit_us: int | None
    id_prefix: bytes
    opened: bool = False
    skip: bool = False
    xid: str | None = None
    undone: bool = False
    silent: bool = False
    next_row: dict[object, int] = field(default_factory=dict)

    def context(self, event: Event) -> RowContext:
        """What its documents say of where they come from."""
        return RowContext(
            event.timestamp_s,
            event.server_id,
            event.file,
            event.pos,
            self.gtid_text,
            self.commit_us,
            self.id_prefix,
            self.next_row,
        )


class Naming:
    """Names transactions, and begins the ids of their documents.

    The ids of one server sort in commit order: source and incarnation (5 bytes), then uuid (16),
    tag with its length in front, number (8) for MySQL; domain (4), server (4), number (8) for
    MariaDB; number of the file (4), start in it (8) without GTIDs. The tag is not hashed: two tags
    of one hash would give two transactions the same ids.
    """

    def __init__(self, identity: SourceIdentity) -> None:
        self._prefix = identity.prefix
        self._heads: dict[tuple[bytes, str], tuple[str, bytes]] = {}

    def mysql(self, gtid: MysqlGtid, event: Event, commit_us: int | None) -> Transaction:
        """Begin a transaction of MySQL."""
        key = (gtid.uuid, gtid.tag)
        head = self._heads.get(key)
        if head is None:
            tag = f"{gtid.tag}:" if gtid.tag else ""
            text = f"{uuid.UUID(bytes=gtid.uuid)}:{tag}"
            length = bytes((len(gtid.tag),))
            head = (text, self._prefix + gtid.uuid + length + gtid.tag.encode())
            self._heads[key] = head
        name = f"{head[0]}{gtid.gno}"
        prefix = head[1] + gtid.gno.to_bytes(8, "big")
        return Transaction(name, gtid, name, event.start, commit_us, prefix)

    def mariadb(self, gtid: MariadbGtid, event: Event) -> Transaction:
        """Begin a transaction of MariaDB."""
        name = mariadb_text(gtid)
        numbers = gtid.domain.to_bytes(4, "big") + gtid.server.to_bytes(4, "big")
        prefix = self._prefix + numbers + gtid.seq.to_bytes(8, "big")
        return Transaction(name, gtid, name, event.start, None, prefix)

    def anonymous(self, event: Event, commit_us: int | None) -> Transaction:
        """Begin a transaction that has no GTID."""
        start = event.start
        number, pos = file_order(start)
        prefix = self._prefix + (number & 0xFFFFFFFF).to_bytes(4, "big") + pos.to_bytes(8, "big")
        return Transaction(str(start), None, None, start, commit_us, prefix)
