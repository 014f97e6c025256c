"""The source read as the program reads it: dump, stream, encoder, batcher."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import bson

from caretaker.binlog.batcher import Batch, Batcher, Limits
from caretaker.binlog.model import (
    Checkpoint,
    Ddl,
    EndOfLog,
    Item,
    Rows,
    SourceIdentity,
)
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import TableMap, TableMaps
from caretaker.binlog.xa import XaSpool
from resources.mysql.dump import Dump
from resources.mysql.known_types import AskedTypes
from resources.mysql.source import MySQLSource
from resources.mysql.zstd import decompress

IDENTITY = SourceIdentity(b"test")
PATIENCE_S = 60.0


@dataclass
class Reading:
    """What a dump gave: the trail's documents, and the items of the stream by themselves.

    Attributes:
        checkpoint: Of the last batch: where the next reading begins.
    """

    start: Checkpoint
    items: list[Item] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [bson.decode(each) for batch in self.batches for each in batch.documents]

    @property
    def checkpoint(self) -> Checkpoint:
        return self.batches[-1].checkpoint if self.batches else self.start

    def statements(self) -> list[str]:
        return [each["ddl"]["sql"] for each in self.documents if each["op"] == "ddl"]

    def kinds(self) -> list[str]:
        return [type(item).__name__ for item in self.items]

    def values(self, column: str = "v") -> list[Any]:
        """What was inserted into a column, in order."""
        return [
            document["chg"][column]["t"] for document in self.documents if document["op"] == "i"
        ]


class Reader:
    """One dump, driven as far as a test wants."""

    def __init__(
        self,
        source: MySQLSource,
        checkpoint: Checkpoint,
        *,
        limits: Limits | None = None,
        gap_before: bool = False,
        **options: Any,
    ) -> None:
        self.dump: Dump = source.dump(checkpoint, **options)
        flavor = source.flavor()
        self.known_types = source.known_types()
        tables = TableMaps(flavor, self.known_types)
        self.stream = Stream(
            Source(flavor, IDENTITY, gap_before=gap_before),
            checkpoint,
            tables,
            decompress,
            XaSpool(1 << 24),
        )
        self.encoder: Any = RowsEncoder()
        self.batcher = Batcher(checkpoint, flavor, limits)
        self.reading = Reading(checkpoint)
        self._payloads: list[bytes] = []

    def until(self, *kinds: type, times: int = 1) -> Reading:
        """Read up to an item of one of these kinds; the reading so far."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            self._payloads += self.dump.read(1.0) if not self._payloads else []
            while self._payloads:
                for item in self.stream.feed(self._payloads.pop(0)):
                    self._take(item)
                    times -= isinstance(item, kinds)
                if times <= 0:
                    self.reading.batches += self.batcher.flush()
                    return self.reading
        raise AssertionError(f"no {kinds} came; {self.reading.kinds()}")

    def _take(self, item: Item) -> None:
        batcher, reading = self.batcher, self.reading
        reading.items.append(item)
        if isinstance(item, Rows):
            item.context.seq = batcher.next_seq
            encoded = self.encoder.documents(
                item.event_type,
                item.body,
                cast("TableMap", item.table),
                item.context,
                skip=batcher.to_skip,
            )
            reading.batches += batcher.rows(item.transaction, encoded)
        elif isinstance(item, Ddl):
            if isinstance(self.known_types, AskedTypes):
                self.known_types.forget()
            item.context.seq = batcher.next_seq
            document = bson.encode({"op": "ddl", "seq": batcher.next_seq, "ddl": {"sql": item.sql}})
            reading.batches += batcher.document(item.transaction, document, item.raw)
        else:
            reading.batches += batcher.pass_item(item)

    def close(self) -> None:
        self.dump.close()


def read(source: MySQLSource, checkpoint: Checkpoint, **options: Any) -> Reading:
    """Read all there is behind a checkpoint."""
    reader = Reader(source, checkpoint, wait=False, **options)
    try:
        return reader.until(EndOfLog)
    finally:
        reader.close()


def follow(source: MySQLSource, checkpoint: Checkpoint, **options: Any) -> Reader:
    """Begin a dump that waits."""
    return Reader(source, checkpoint, heartbeat_s=0.2, **options)
