"""Documents in, batches out, each with the checkpoint that is true once it is written.

A batch ends at 1000 documents or 12 MB, wherever that is, so that a transaction of any size passes
through in constant memory: the checkpoint then says how much of it is in the trail (`Inflight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
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


class EncodedRows(Protocol):
    """The documents of one rows event, as `rows.RowsEncoder` gives them."""

    @property
    def documents(self) -> Sequence[bytes]:
        """Finished, in the order of the rows."""
        ...

    @property
    def skipped(self) -> int:
        """How many rows, from the first on, have no document: they are in the trail already."""
        ...

    @property
    def rows(self) -> bytes:
        """The raw bytes of all of them."""
        ...

    @property
    def starts(self) -> Sequence[int]:
        """Where each row begins in `rows`, and behind the last where it ends; empty without."""
        ...


@dataclass(frozen=True, slots=True)
class _Single:
    documents: tuple[bytes, ...]
    skipped: int
    rows: bytes
    starts: tuple[int, int]


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

    For each item of the stream: `rows` for `Rows`, `document` for `Ddl`, `pass_item` for everything
    else. All of them return the batches that are full.
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
        # of the transaction that is open: its documents so far, in the trail or pending
        self._rows = 0
        self._crc = 0
        self._first = 0
        self._left_with_batch = False
        self._wants_boundary = False
        self._begun_s = {checkpoint.position.file: checkpoint.begun_s}

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

    def rows(self, transaction: str, encoded: EncodedRows) -> list[Batch]:
        """Add the rows of an event, of which the encoder was told to skip `to_skip`.

        Raises:
            LostPositionError: The source sends other rows than those that are in the trail.
        """
        if not encoded.starts:
            return []
        if transaction != self._transaction:
            self._open(transaction)
        self._pass_skipped(encoded)
        full: list[Batch] = []
        at, documents, skipped = 0, encoded.documents, encoded.skipped
        while at < len(documents):
            # Cut before the document that is too many, not after the last that fits: the end of
            # the transaction may follow, and needs no mark then.
            count, size = self._fitting(documents, at)
            if not count:
                full.append(self._cut())
                continue
            self._documents.extend(documents[at : at + count])
            self._bytes += size
            self._count(encoded, skipped + at, skipped + at + count)
            at += count
        return full

    def document(self, transaction: str, document: bytes, raw: bytes) -> list[Batch]:
        """Add a document that is no row, made of `raw`; dropped if it is in the trail already."""
        if self.to_skip:
            return self.rows(transaction, _Single((), 1, raw, (0, len(raw))))
        return self.rows(transaction, _Single((document,), 0, raw, (0, len(raw))))

    def _fitting(self, documents: Sequence[bytes], at: int) -> tuple[int, int]:
        """How many documents from `at` on fit into the batch, and their length."""
        room = self._limits.documents - len(self._documents)
        if room <= 0:
            return 0, 0
        size = sum(map(len, documents[at : at + room]))
        if self._bytes + size <= self._limits.bytes:
            return min(room, len(documents) - at), size
        count = size = 0
        for document in documents[at : at + room]:
            first = not self._documents and not count
            if not first and self._bytes + size + len(document) > self._limits.bytes:
                break
            count, size = count + 1, size + len(document)
        return count, size

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
            self._begun_s[item.position.file] = item.begun_s
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
        """Cut at the end of the transaction and mark that batch: the configuration may change."""
        self._wants_boundary = True

    def checkpoint(self) -> Checkpoint:
        """Return what is true once every document so far is written."""
        gtid, position, ahead = self._progress.marks()
        return Checkpoint(
            gtid,
            position,
            self._seq + len(self._documents),
            self._inflight(),
            ahead,
            self._begun_s.get(position.file),
        )

    def _inflight(self) -> Inflight | None:
        # While rows are skipped the trail is where it was.
        if self._resumed is not None:
            return self._resumed
        if self._transaction is None or not self._rows:
            return None
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
        self._first = len(self._documents)
        self._left_with_batch = self._resumed is not None

    def _count(self, encoded: EncodedRows, first: int, end: int) -> None:
        """Take rows into what an in-flight mark says; events may group them as they like."""
        starts = encoded.starts
        raw = memoryview(encoded.rows)[starts[first] : starts[end]]
        self._crc = crc32(raw, self._crc)
        self._rows += end - first

    def _pass_skipped(self, encoded: EncodedRows) -> None:
        due = min(self.to_skip, len(encoded.starts) - 1)
        if encoded.skipped != due:
            raise ValueError(f"{encoded.skipped} rows skipped where {due} are in the trail")
        resumed = self._resumed
        if resumed is None:
            return
        self._count(encoded, 0, due)
        if self._rows < resumed.rows:
            return
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
