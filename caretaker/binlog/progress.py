"""How far a trail is, and where a dump has to begin so that nothing is missed.

The two differ while an XA transaction is prepared and not settled: its rows must come again after a
restart, although later transactions are in the trail.

- MySQL with GTIDs: the set simply lacks the GTID of the XA PREPARE. A server sends what a set
  lacks, that transaction and no other. A purge that takes it with it is found like any other:
  `GTID_SUBSET(gtid_purged, saved)` is false.
- MariaDB, and files: a position has no holes, so the dump begins before the oldest such
  transaction, and `ahead` tells the stream up to where all else is in the trail already.
"""

from __future__ import annotations

from typing import Protocol

from caretaker.binlog.frames import file_order
from caretaker.binlog.gtid import GtidSet, MariadbPosition
from caretaker.binlog.model import (
    Checkpoint,
    Commit,
    Flavor,
    MariadbGtid,
    Mode,
    MysqlGtid,
    Position,
    Prepared,
    Skipped,
)
from caretaker.errors import CaseError, CorruptEventError


class Progress(Protocol):
    """The part of a checkpoint that says where to begin: `gtid`, `position`, `ahead`."""

    def committed(self, item: Commit) -> None:
        """A transaction is in the trail."""
        ...

    def skipped(self, item: Skipped) -> None:
        """A transaction came again that is in the trail."""
        ...

    def prepared(self, item: Prepared) -> None:
        """An XA transaction waits."""
        ...

    def rotated(self, position: Position) -> None:
        """The next transaction is in another file."""
        ...

    def marks(self) -> tuple[str | None, Position, str | None]:
        """`gtid`, `position` and `ahead` of a checkpoint between two transactions."""
        ...


def progress_from(checkpoint: Checkpoint, flavor: Flavor) -> Progress:
    """Go on from a checkpoint."""
    if checkpoint.gtid is None:
        return FileProgress(checkpoint)
    if flavor is Flavor.MARIADB:
        return MariadbProgress(checkpoint)
    return MysqlProgress(checkpoint)


def mode_of(checkpoint: Checkpoint) -> Mode:
    """Whether the source is read by GTID."""
    return Mode.FILE if checkpoint.gtid is None else Mode.GTID


def has_reached(checkpoint: Checkpoint, goal: Checkpoint, flavor: Flavor) -> bool:
    """Whether everything before `goal` is before `checkpoint`, too, as far as GTIDs tell."""
    if checkpoint.gtid is None or goal.gtid is None:
        return False
    if flavor is Flavor.MYSQL:
        return GtidSet.parse(goal.gtid).issubset(GtidSet.parse(checkpoint.gtid))
    here = MariadbPosition.parse(checkpoint.ahead or checkpoint.gtid)
    there = MariadbPosition.parse(goal.gtid)
    return all(
        (last := here.last(domain)) is not None and last.seq >= due.seq
        for domain in there.domains()
        if (due := there.last(domain)) is not None
    )


class MysqlProgress:
    """A GTID set, with holes where XA transactions wait."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._set = GtidSet.parse(checkpoint.gtid or "")
        self._position = checkpoint.position
        self._text: str | None = None

    def committed(self, item: Commit) -> None:
        if not isinstance(item.gtid, MysqlGtid):
            raise CorruptEventError(f"{item.transaction}: not a GTID of MySQL")
        self._set.add(item.gtid)
        if isinstance(item.released, MysqlGtid):
            self._set.add(item.released)
        self._position = item.position
        self._text = None

    def skipped(self, item: Skipped) -> None:
        self._position = item.position

    def prepared(self, item: Prepared) -> None:
        self._position = item.position

    def rotated(self, position: Position) -> None:
        self._position = position

    def marks(self) -> tuple[str | None, Position, str | None]:
        if self._text is None:
            self._text = str(self._set)
        return self._text, self._position, None


class MariadbProgress:
    """The last transaction of each domain, and of each domain before the oldest that waits."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._began = checkpoint
        self._walked = MariadbPosition.parse(checkpoint.gtid or "")
        self._done = MariadbPosition.parse(checkpoint.ahead or checkpoint.gtid or "")
        self._catching_up = behind(checkpoint)
        self._position = checkpoint.position
        self._held: dict[str, str] = {}

    def committed(self, item: Commit) -> None:
        self._settle(item.releases)
        self._advance(item.gtid, item.position)

    def skipped(self, item: Skipped) -> None:
        self._settle(item.releases)
        self._advance(item.gtid, item.position)

    def prepared(self, item: Prepared) -> None:
        self._held[item.xid] = str(self._walked)
        self._advance(item.gtid, item.position)

    def rotated(self, position: Position) -> None:
        self._position = position

    def marks(self) -> tuple[str | None, Position, str | None]:
        if self._catching_up:
            return self._began.gtid, self._position, self._began.ahead
        done = str(self._done)
        if self._held:
            return next(iter(self._held.values())), self._position, done
        return done, self._position, None

    def _settle(self, xid: str | None) -> None:
        if xid is not None:
            self._held.pop(xid, None)

    def _advance(self, gtid: object, position: Position) -> None:
        if not isinstance(gtid, MariadbGtid):
            raise CorruptEventError(f"{position}: a transaction without a GTID of MariaDB")
        self._position = position
        self._walked.add(gtid)
        due = self._catching_up.get(gtid.domain)
        if due is None:
            self._done.add(gtid)
        elif gtid == due:
            del self._catching_up[gtid.domain]


class FileProgress:
    """The end of the last transaction, and the start of the oldest that waits."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._began = checkpoint
        self._done = ahead_position(checkpoint)
        self._walked = checkpoint.position
        self._held: dict[str, Position] = {}

    def committed(self, item: Commit) -> None:
        self._settle(item.releases)
        self._advance(item.position)

    def skipped(self, item: Skipped) -> None:
        self._settle(item.releases)
        self._advance(item.position)

    def prepared(self, item: Prepared) -> None:
        self._held[item.xid] = item.start
        self._advance(item.position)

    def rotated(self, position: Position) -> None:
        self._advance(position)

    def marks(self) -> tuple[str | None, Position, str | None]:
        if file_order(self._walked) < file_order(self._done):
            return None, self._began.position, self._began.ahead
        if self._held:
            return None, next(iter(self._held.values())), str(self._done)
        return None, self._done, None

    def _settle(self, xid: str | None) -> None:
        if xid is not None:
            self._held.pop(xid, None)

    def _advance(self, position: Position) -> None:
        self._walked = position
        if file_order(position) > file_order(self._done):
            self._done = position


def behind(checkpoint: Checkpoint) -> dict[int, MariadbGtid]:
    """Return, by domain, the transaction up to which a dump of MariaDB brings what is known."""
    if checkpoint.ahead is None or checkpoint.gtid is None:
        return {}
    start = MariadbPosition.parse(checkpoint.gtid)
    ahead = MariadbPosition.parse(checkpoint.ahead)
    due = {domain: ahead.last(domain) for domain in ahead.domains()}
    return {
        domain: gtid
        for domain, gtid in due.items()
        if gtid is not None and gtid != start.last(domain)
    }


def ahead_position(checkpoint: Checkpoint) -> Position:
    """Return how far the trail of a source without GTIDs is."""
    if checkpoint.ahead is None:
        return checkpoint.position
    file, colon, pos = checkpoint.ahead.rpartition(":")
    if not colon or not pos.isascii() or not pos.isdigit():
        raise CaseError(f"{checkpoint.ahead!r} is no file and position", target=checkpoint.ahead)
    return Position(file, int(pos))
