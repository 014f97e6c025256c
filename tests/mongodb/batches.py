"""Batches as the sync cuts them, small enough to count."""

from __future__ import annotations

import datetime as dt
from zlib import crc32

import bson
from bson import Binary, Int64

from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import Checkpoint, Inflight, Position, source_id

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def document(seq: int, *, text: str = "") -> bytes:
    """An audit document; the same for the same seq, as the binlog gives it again."""
    return bson.encode(
        {
            "_id": Binary(source_id("orders") + seq.to_bytes(8, "big")),
            "ts": dt.datetime(2026, 11, 21, tzinfo=dt.UTC),
            "op": "u",
            "meta": {"db": "shop", "tbl": "orders", "pk": Int64(seq % 7)},
            "seq": Int64(seq),
            "chg": {"state": {"f": seq - 1, "t": seq}, "note": {"f": None, "t": text}},
            "src": {"gtid": f"{UUID}:{seq}", "server_id": Int64(1)},
        }
    )


def checkpoint(seq: int, *, inflight: Inflight | None = None) -> Checkpoint:
    return Checkpoint(f"{UUID}:1-{seq}", Position("binlog.000003", 100 + seq), seq, inflight)


def batch(first: int, last: int, *, text: str = "", inflight: Inflight | None = None) -> Batch:
    """The documents from `first` to `last`; none where `last` is before `first`."""
    documents = tuple(document(seq, text=text) for seq in range(first, last + 1))
    data = b"".join(documents)
    after = checkpoint(last, inflight=inflight)
    return Batch(documents, after, first, last, len(documents), len(data), crc32(data))


def batches(count: int, *, rows: int = 10, after: int = 0) -> list[Batch]:
    """`count` batches in a row, the first behind seq `after`."""
    return [batch(after + 1 + n * rows, after + (n + 1) * rows) for n in range(count)]
