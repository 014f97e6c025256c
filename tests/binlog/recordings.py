"""Recordings of real servers, read back; and a reader of them that knows nothing of columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import zstandard

from caretaker.binlog.batcher import Batch, Batcher, Limits
from caretaker.binlog.frames import Packets
from caretaker.binlog.model import (
    Checkpoint,
    Ddl,
    Flavor,
    Item,
    Position,
    Rows,
    SourceIdentity,
)
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.xa import XaSpool, XaStore
from caretaker.errors import CorruptEventError

RECORDED = Path(__file__).parent / "recorded"
IDENTITY = SourceIdentity(b"test")


@dataclass(frozen=True)
class Recording:
    """What a server sent, and what it was told before.

    Attributes:
        packets: As they came over the wire, headers included.
        tables: Rows of each table at the end.
    """

    story: str
    flavor: Flavor
    version: str
    statements: list[list[str]]
    dumped_from: Position
    executed_after: str
    tables: dict[str, int]
    known: str | None
    marks: dict[str, str]
    packets: tuple[bytes, ...]

    @property
    def wire(self) -> bytes:
        return b"".join(self.packets)

    @property
    def payloads(self) -> list[bytes]:
        return Packets().feed(self.wire)

    def start(self, gtid: str | None = None) -> Checkpoint:
        """A checkpoint at its beginning: by GTID where one is given, else by file."""
        return Checkpoint(gtid, self.dumped_from, 0)


@cache
def recording(name: str) -> Recording:
    """Load `mysql-plain` and its like."""
    about, *lines = gzip.decompress((RECORDED / f"{name}.gz").read_bytes()).decode().split("\n")
    told = json.loads(about)
    file, pos = told["dumped_from"]
    return Recording(
        told["story"],
        Flavor(told["flavor"]),
        told["version"],
        told["statements"],
        Position(file, pos),
        told["executed_after"],
        told["tables"],
        told["known"],
        told["marks"],
        tuple(map(bytes.fromhex, lines)),
    )


def all_recordings() -> list[str]:
    return sorted(path.stem for path in RECORDED.glob("*.gz"))


@dataclass(frozen=True)
class OpaqueTable:
    """A table map of which only the names are known."""

    schema: str
    name: str


class OpaqueTables:
    """Table maps as bytes."""

    def __init__(self) -> None:
        self._by_body: dict[bytes, OpaqueTable] = {}
        self._by_id: dict[int, OpaqueTable] = {}

    def add(self, body: bytes) -> OpaqueTable:
        if len(body) < 10:
            raise CorruptEventError("a table map cut short")
        key = body[6:]
        if key not in self._by_body:
            try:
                end = 9 + body[8]
                schema = body[9:end].decode()
                name = body[end + 2 : end + 2 + body[end + 1]].decode()
            except (IndexError, UnicodeDecodeError) as error:
                raise CorruptEventError(f"a table map: {error}") from None
            self._by_body[key] = OpaqueTable(schema, name)
        table = self._by_body[key]
        self._by_id[int.from_bytes(body[:6], "little")] = table
        return table

    def get(self, table_id: int) -> OpaqueTable:
        if table_id not in self._by_id:
            raise CorruptEventError(f"rows of table {table_id}, which no table map introduced")
        return self._by_id[table_id]


def decompress(data: bytes) -> Iterator[bytes]:
    """Inflate zstd as the program does: in pieces, with errors of ours."""
    try:
        yield from zstandard.ZstdDecompressor().read_to_iter(data, write_size=1 << 14)
    except zstandard.ZstdError as error:
        raise CorruptEventError(f"zstd: {error}") from None


def a_stream(
    told: Recording,
    checkpoint: Checkpoint | None = None,
    *,
    spool_bytes: int = 1 << 20,
    store: XaStore | None = None,
    gap_before: bool = False,
) -> Stream:
    return Stream(
        Source(told.flavor, IDENTITY, gap_before=gap_before),
        checkpoint or told.start(),
        OpaqueTables(),
        decompress,
        XaSpool(spool_bytes, store),
    )


def items_of(told: Recording, stream: Stream | None = None) -> list[Item]:
    """Everything that a recording gives."""
    return drained(stream or a_stream(told), told.payloads)


def drained(stream: Stream, payloads: Iterable[bytes]) -> list[Item]:
    """All items of some payloads."""
    return [item for payload in payloads for item in stream.feed(payload)]


def image_of(item: Rows) -> bytes:
    """What a rows event carries behind its table id and flags."""
    return item.body[8:]


@dataclass(frozen=True)
class OpaqueRows:
    """One document an event, which names what it was made of: shows losses and doubles."""

    documents: tuple[bytes, ...]
    skipped: int
    rows: bytes
    starts: tuple[int, ...]


def document_of(item: Rows | Ddl, seq: int) -> bytes:
    raw = item.raw if isinstance(item, Ddl) else image_of(item)
    key = "ddl" if isinstance(item, Ddl) else str(item.table)
    row = item.context.next_row.get(key, 0)
    item.context.next_row[key] = row + 1
    prefix = item.context.id_prefix.hex()
    return f"{item.transaction} {key} {row} {crc32(raw)} {prefix} #{seq}".encode()


def batches_of(items: Iterable[Item], batcher: Batcher) -> Iterator[Batch]:
    """Drive a batcher as the program does."""
    for item in items:
        if isinstance(item, Rows):
            raw, skip = image_of(item), min(batcher.to_skip, 1)
            document = document_of(item, batcher.next_seq)
            rows = OpaqueRows(() if skip else (document,), skip, raw, (0, len(raw)))
            yield from batcher.rows(item.transaction, rows)
        elif isinstance(item, Ddl):
            document = document_of(item, batcher.next_seq)
            yield from batcher.document(item.transaction, document, item.raw)
        else:
            yield from batcher.pass_item(item)
    yield from batcher.flush()


def trail_of(
    told: Recording, checkpoint: Checkpoint | None = None, limits: Limits | None = None
) -> list[Batch]:
    """Read a recording to its end."""
    start = checkpoint or told.start()
    items = items_of(told, a_stream(told, start))
    return list(batches_of(items, Batcher(start, told.flavor, limits)))


def documents_of(batches: Iterable[Batch]) -> list[bytes]:
    return [document for batch in batches for document in batch.documents]
