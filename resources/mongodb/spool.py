"""Batches on the local disk while MongoDB is away: durable, in order, bounded.

sqlite in WAL mode with synchronous=FULL, a compressed blob a batch: what `append` returned from
survives a power cut. The binlog could give all of it again for as long as it is kept; the spool is
for sources that keep it less long than MongoDB may be away.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import Checkpoint
from caretaker.errors import CorruptEventError, RefusedError
from resources.mongodb.offsets import Held, Marks, checkpoint_fields, checkpoint_of
from resources.mongodb.staging import cut

_TABLES = """
CREATE TABLE IF NOT EXISTS spool (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    follows INTEGER NOT NULL,
    seq_from INTEGER NOT NULL,
    seq_to INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    server_uuid TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    documents BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS belongs (source TEXT NOT NULL PRIMARY KEY);
"""

_APPEND = """
INSERT INTO spool (follows, seq_from, seq_to, rows, crc, checkpoint, server_uuid, config_hash,
                   documents)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_FIRST = """
SELECT id, seq_from, seq_to, rows, crc, checkpoint, server_uuid, config_hash, documents
FROM spool ORDER BY id LIMIT 1
"""

#: The last batch, if there is one that the trail may lack: one without documents says only how far
#: the source was read.
_END = """
SELECT checkpoint, server_uuid, config_hash FROM spool
WHERE EXISTS (SELECT 1 FROM spool WHERE seq_to > ? OR (seq_to = ? AND rows = 0))
ORDER BY id DESC LIMIT 1
"""

#: Those that the trail has.
_DROP = "DELETE FROM spool WHERE seq_to < ? OR (seq_to = ? AND rows > 0)"

#: The lowest level: the disk or the network is slower than any of them.
_LEVEL = 1
#: What a row takes beside its documents, about.
_ROW_BYTES = 512

_REFUSALS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened or created",
    sqlite3.SQLITE_PERM: "the file may not be opened",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no sqlite database",
    sqlite3.SQLITE_IOERR: "the disk does not answer as it should",
    sqlite3.SQLITE_BUSY: "another process has it open",
}


class SpoolBusyError(RefusedError):
    """Another process writes to it, or replays it."""


def spool_path(folder: str, source: str) -> Path:
    """Return where a source's spool is."""
    return Path(folder) / f"{source}.spool"


@dataclass(frozen=True, slots=True)
class Spooled:
    """A batch as it was spooled."""

    id: int
    batch: Batch
    marks: Marks
    bytes: int


class Spool:
    """One source's file; one process has it open.

    Attributes:
        batches: How many are in it, and `bytes` what they take.
    """

    def __init__(self, path: Path, source: str, *, max_bytes: int) -> None:
        """Open or make the file.

        Raises:
            RefusedError: It cannot be used, is another process's or another source's.
        """
        self.path = path
        self.source = source
        self.max_bytes = max_bytes
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        self.batches = 0
        self.bytes = 0
        self._count()

    def _prepare(self) -> None:
        # Exclusive: two that replay one spool would fence each other for ever.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN IMMEDIATE")
        found = self._db.execute("SELECT source FROM belongs").fetchone()
        if found is None:
            self._db.execute("INSERT INTO belongs VALUES (?)", (self.source,))
        self._db.execute("COMMIT")
        if found is not None and found[0] != self.source:
            raise RefusedError(
                f"the spool {self.path} belongs to {found[0]}, not to {self.source}",
                target=str(self.path),
                hint="give each source a file of its own",
            )

    @property
    def full(self) -> bool:
        """Whether nothing more may be put in; one batch may stand over the edge."""
        return self.bytes >= self.max_bytes

    def append(self, batch: Batch, marks: Marks, follows: int) -> None:
        """Put a batch behind the others; when this returns it is durable.

        Raises:
            RefusedError: The disk is full, or gone: the batch is not in the spool.
        """
        data = zlib.compress(b"".join(batch.documents), _LEVEL)
        row = (
            follows,
            batch.seq_from,
            batch.seq_to,
            batch.rows,
            batch.crc,
            json.dumps(checkpoint_fields(batch.checkpoint)),
            marks.server_uuid,
            marks.config_hash,
            data,
        )
        with self._errors():
            self._db.execute(_APPEND, row)
        self.batches += 1
        self.bytes += len(data) + _ROW_BYTES

    def first(self) -> Spooled | None:
        """Return the oldest batch.

        Raises:
            CorruptEventError: It is not what was spooled.
        """
        with self._errors():
            row = self._db.execute(_FIRST).fetchone()
        if row is None:
            return None
        number, seq_from, seq_to, rows, crc, checkpoint, server_uuid, config_hash, data = row
        after = checkpoint_of(json.loads(checkpoint))
        try:
            joined = zlib.decompress(data)
        except zlib.error as error:
            raise CorruptEventError(f"{self.path}: batch {number}: {error}") from error
        documents = cut(joined)
        if zlib.crc32(joined) != crc or len(documents) != rows or after is None:
            raise CorruptEventError(f"{self.path}: batch {number}: its crc is wrong")
        batch = Batch(documents, after, seq_from, seq_to, rows, len(joined), crc)
        return Spooled(number, batch, Marks(server_uuid, config_hash), len(data) + _ROW_BYTES)

    def drop(self, spooled: Spooled) -> None:
        """Forget a batch that is in MongoDB."""
        with self._errors():
            self._db.execute("DELETE FROM spool WHERE id = ?", (spooled.id,))
        self.batches -= 1
        self.bytes -= spooled.bytes

    def last(self) -> tuple[Checkpoint, int] | None:
        """Return where reading goes on behind it all, and the crc that the next batch follows."""
        with self._errors():
            row = self._db.execute(
                "SELECT checkpoint, follows, crc, rows FROM spool ORDER BY id DESC LIMIT 1"
            ).fetchone()
        if row is None:
            return None
        found = checkpoint_of(json.loads(row[0]))
        if found is None:
            raise CorruptEventError(f"{self.path}: its last batch has no checkpoint")
        return found, row[2] if row[3] else row[1]

    def end(self, saved_seq: int) -> tuple[Checkpoint, Marks] | None:
        """Return where its last batch ends and what it was read with; None if the trail has it all.

        Args:
            saved_seq: Of the last document in the trail.
        """
        with self._errors():
            row = self._db.execute(_END, (saved_seq, saved_seq)).fetchone()
        if row is None:
            return None
        found = checkpoint_of(json.loads(row[0]))
        if found is None:
            raise CorruptEventError(f"{self.path}: its last batch has no checkpoint")
        return found, Marks(row[1], row[2])

    def replay(self, commit: Callable[[Batch, Marks], None]) -> int:
        """Commit everything in it, in order, and return how many batches that was."""
        count = 0
        while (found := self.first()) is not None:
            commit(found.batch, found.marks)
            self.drop(found)
            count += 1
        return count

    def reconcile(self, held: Held) -> int:
        """Drop what is in the trail already and return how many batches that was.

        Raises:
            RefusedError: What is left does not follow the trail: somebody else wrote meanwhile.
        """
        with self._errors():
            dropped = self._db.execute(_DROP, (held.seq, held.seq)).rowcount
            row = self._db.execute(
                "SELECT seq_from, follows FROM spool ORDER BY id LIMIT 1"
            ).fetchone()
        self._count()
        if row is not None and row != (held.seq + 1, held.crc):
            raise RefusedError(
                f"the spool {self.path} begins at seq {row[0]} and does not follow the trail of"
                f" {held.source}, which is at seq {held.seq}",
                target=str(self.path),
                hint="somebody else has written the trail since; move the file away, and the "
                "binlog is read again from the offset",
            )
        return dropped

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._db.close()

    def __enter__(self) -> Self:
        """Return itself, to be closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _count(self) -> None:
        with self._errors():
            self.batches, data = self._db.execute(
                "SELECT count(*), coalesce(sum(length(documents)), 0) FROM spool"
            ).fetchone()
        self.bytes = data + self.batches * _ROW_BYTES

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if kind == sqlite3.SQLITE_BUSY:
                raise SpoolBusyError(
                    f"the spool {self.path}: {_REFUSALS[kind]} ({error})",
                    target=str(self.path),
                    hint="end that process first",
                ) from error
            why = _REFUSALS.get(kind, str(error))
            raise RefusedError(
                f"the spool {self.path}: {why} ({error})",
                target=str(self.path),
                hint="nothing is lost: the trail's offset and the spool are as they were; free "
                "space, or choose another file",
            ) from error
