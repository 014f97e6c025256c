"""Documents in, batches out, each with the checkpoint that is true once it is written.

A batch ends at 1000 documents or 12 MB, wherever that is, so that a transaction of any size passes
through in constant memory: the checkpoint then says how much of it is in the trail (`Inflight`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from caretaker.binlog.model import (
    Abandoned,
    Checkpoint,
    Commit,
    Flavor,
    Inflight,
    Item,
    Prepared,
    RotateTo,
    SchemaChanged,
    Skipped,
)
from caretaker.binlog.progress import progress_from
from caretaker.errors import CorruptEventError, LostPositionError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one transaction of MongoDB takes; a document larger than `bytes` goes alone."""

    documents: int = 1000
    bytes: int = 12_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents and the checkpoint after them.

    Attributes:
        documents: As BSON; none where only the position moved.
        seq_from: Of the first document, and `seq_to` of the last; `seq_to` is one less than
            `seq_from` without documents.
        rows: Number of documents.
        bytes: Their length together.
        crc: crc32 of the documents, one after the other.
        boundary: The end of a transaction that `Batcher.ask_for_boundary` asked for.
    """

    documents: tuple[bytes, ...]
    checkpoint: Checkpoint
    seq_from: int
    seq_to: int
    rows: int
    bytes: int
    crc: int
    boundary: bool = False


class Batcher:
    """Cuts the documents of one stream into batches; begins where its checkpoint says.

    For each item of the stream: `rows` for the documents of `Rows` and `Ddl`, `pass_item` for
    everything else. Both return the batches that are full.
    """

    def __init__(
        self, checkpoint: Checkpoint, flavor: Flavor, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._progress = progress_from(checkpoint, flavor)
        self._resumed = checkpoint.inflight
        self._seq = checkpoint.seq
        self._documents: list[bytes] = []
        self._bytes = 0
        self._moved = False
        self._transaction: str | None = None
        # of the transaction that is open: its rows so far, the crcs of those since the last fold
        self._rows = 0
        self._crc = 0
        self._crcs: list[int] = []
        self._first = 0
        self._left_with_batch = False
        self._wants_boundary = False

    @property
    def next_seq(self) -> int:
        """The number of the next document: `RowContext.seq`, to be set just before encoding."""
        return self._seq + len(self._documents) + 1

    @property
    def to_skip(self) -> int:
        """How many of the next rows are in the trail: they need a crc and no document."""
        return max(self._resumed.rows - self._rows, 0) if self._resumed else 0

    @property
    def pending(self) -> int:
        """Documents that are in no batch yet."""
        return len(self._documents)

    @property
    def between_transactions(self) -> bool:
        """Nothing is in flight: another configuration may take over after a flush."""
        return self._transaction is None and self._resumed is None

    def rows(self, transaction: str, encoded: Iterable[tuple[bytes | None, int]]) -> list[Batch]:
        """Add documents of a transaction, with the crc of the raw bytes of each.

        The first `to_skip` of them are compared and dropped; their document may be None.

        Raises:
            LostPositionError: The source sends other rows than those that are in the trail.
        """
        if transaction != self._transaction:
            self._open(transaction)
        full: list[Batch] = []
        documents, limits = self._documents, self._limits
        for document, crc in encoded:
            if self._resumed is not None:
                self._count(crc)
                self._compare(self._resumed)
                continue
            if document is None:
                raise ValueError("a row that is not in the trail needs a document")
            # Cut before the document that is too many, not after the last that fits: the end of
            # the transaction may follow, and needs no mark then.
            if documents and (
                len(documents) >= limits.documents or self._bytes + len(document) > limits.bytes
            ):
                full.append(self._cut())
                documents = self._documents
            self._count(crc)
            documents.append(document)
            self._bytes += len(document)
        return full

    def pass_item(self, item: Item) -> list[Batch]:
        """Take what is no document: ends of transactions, new schemas, other files."""
        if isinstance(item, Commit):
            return self._commit(item)
        if isinstance(item, SchemaChanged):
            return [self._cut()] if item.known and self._documents else []
        if isinstance(item, Prepared):
            self._progress.prepared(item)
        elif isinstance(item, Skipped):
            self._progress.skipped(item)
        elif isinstance(item, RotateTo):
            self._progress.rotated(item.position)
        elif isinstance(item, Abandoned):
            self._abandon(item)
        else:
            return []
        self._moved = True
        return []

    def flush(self) -> list[Batch]:
        """Return what is pending: documents, or a position that moved without any."""
        return [self._cut()] if self._documents or self._moved else []

    def ask_for_boundary(self) -> None:
        """Cut at the end of the transaction, and mark that batch: then the configuration changes."""
        self._wants_boundary = True

    def checkpoint(self) -> Checkpoint:
        """Return what is true once every document so far is written."""
        gtid, position, ahead = self._progress.marks()
        return Checkpoint(gtid, position, self._seq + len(self._documents), self._inflight(), ahead)

    def _inflight(self) -> Inflight | None:
        # While rows are skipped the trail is where it was.
        if self._resumed is not None:
            return self._resumed
        if self._transaction is None or not self._rows:
            return None
        self._fold()
        return Inflight(self._transaction, self._rows, self._crc)

    def _open(self, transaction: str) -> None:
        if self._transaction is not None:
            raise ValueError(f"{self._transaction} has not ended, and {transaction} begins")
        if self._resumed is not None and self._resumed.transaction != transaction:
            raise LostPositionError(
                f"the trail ends inside {self._resumed.transaction}, the source sent {transaction}",
                target=transaction,
            )
        self._transaction = transaction
        self._rows = self._crc = 0
        self._crcs.clear()
        self._first = len(self._documents)
        self._left_with_batch = self._resumed is not None

    def _count(self, crc: int) -> None:
        self._rows += 1
        self._crcs.append(crc)

    def _fold(self) -> None:
        # in the order of bytes that every machine uses for it: a checkpoint may move to another
        crcs = array("I", self._crcs)
        if crcs.itemsize != 4:  # noqa: PLR2004
            raise AssertionError("array('I') has no four bytes here")
        if _BIG_ENDIAN:
            crcs.byteswap()
        self._crc = crc32(crcs, self._crc)
        self._crcs.clear()

    def _compare(self, resumed: Inflight) -> None:
        if self._rows < resumed.rows:
            return
        self._fold()
        if self._crc != resumed.crc:
            raise LostPositionError(
                f"{resumed.transaction}: the first {resumed.rows} rows that the source sends now"
                " are not those in the trail",
                target=resumed.transaction,
                hint="another server logged the transaction differently",
            )
        self._resumed = None

    def _commit(self, item: Commit) -> list[Batch]:
        if self._resumed is not None:
            raise LostPositionError(
                f"{item.transaction}: the trail has {self._resumed.rows} rows of"
                f" {self._resumed.transaction}, the source sent {self._rows}",
                target=item.transaction,
            )
        if self._transaction is not None and self._transaction != item.transaction:
            raise ValueError(f"{item.transaction} ends while {self._transaction} is open")
        self._progress.committed(item)
        self._transaction = None
        self._moved = True
        if self._wants_boundary:
            self._wants_boundary = False
            return [self._cut(boundary=True)]
        full = len(self._documents) >= self._limits.documents or self._bytes >= self._limits.bytes
        return [self._cut()] if full else []

    def _abandon(self, item: Abandoned) -> None:
        if self._transaction is None and self._resumed is None:
            return
        if self._left_with_batch or self._resumed is not None:
            raise CorruptEventError(
                f"{item.position}: {item.transaction} was never finished by its server, and part"
                " of it is in the trail",
                target=item.position,
            )
        dropped = self._documents[self._first :]
        del self._documents[self._first :]
        self._bytes -= sum(map(len, dropped))
        self._transaction = None

    def _cut(self, *, boundary: bool = False) -> Batch:
        checkpoint = self.checkpoint()
        documents = tuple(self._documents)
        crc = 0
        for document in documents:
            crc = crc32(document, crc)
        batch = Batch(
            documents,
            checkpoint,
            self._seq + 1,
            checkpoint.seq,
            len(documents),
            self._bytes,
            crc,
            boundary,
        )
        self._seq = checkpoint.seq
        # a new list: the old one is the batch's now, and callers keep a reference while they add
        self._documents = []
        self._bytes = 0
        self._first = 0
        self._moved = False
        self._left_with_batch = self._transaction is not None and self._rows > 0
        return batch


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\0\1"
