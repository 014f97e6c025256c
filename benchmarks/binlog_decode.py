"""Rows events to finished audit documents: ours against stock mysql-replication, side by side.

Both get the packets that a real MySQL sent, recorded at the start of the run, without a network.
Ours is what runs in production: framing, checksum, transactions, documents. Stock is its reader,
the dictionary of an audit document, and `bson.encode`. Seconds are the processor's, and the best
of several turns counts: a busy neighbour is no one's advantage.

"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import zstandard

from benchmarks.recorded_binlog import Workload, workloads
from benchmarks.stock_reader import stock_documents
from caretaker.binlog.model import Checkpoint, Flavor, Position, Rows, SourceIdentity
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import TableMaps
from caretaker.binlog.xa import XaSpool

Figures = dict[str, float | None]


def run(*, quick: bool) -> dict[str, Figures]:
    """Return figures by workload."""
    return {workload.name: _measured(workload, quick=quick) for workload in workloads(quick=quick)}


def _measured(workload: Workload, *, quick: bool) -> Figures:
    turns = 2 if quick else 5
    ours: list[float] = []
    rows_only: list[float] = []
    stock: list[float] = []
    for turn in range(turns):
        ours.append(_timed(workload, lambda: _whole(workload)))
        rows_only.append(_timed_documents(workload))
        # Stock's time hardly varies, and is most of the run's.
        if turn < (1 if quick else 2):
            stock.append(_timed(workload, lambda: stock_documents(workload.packets, "binlog")))
    best, best_rows, best_stock = min(ours), min(rows_only), min(stock)
    return {
        "ratio_vs_stock": best_stock / best,
        "ratio_vs_stock_documents_only": best_stock / best_rows,
        "rows_per_s": workload.rows / best,
        "rows_per_s_documents_only": workload.rows / best_rows,
        "rows_per_s_stock": workload.rows / best_stock,
        "rows": float(workload.rows),
    }


def _timed(workload: Workload, read: Callable[[], Iterable[bytes]]) -> float:
    started = time.process_time()
    count = sum(1 for _ in read())
    elapsed = time.process_time() - started
    assert count == workload.rows, (workload.name, count, workload.rows)
    return elapsed


def _whole(workload: Workload) -> Iterator[bytes]:
    encoder = RowsEncoder()
    seq = 1
    for item in _items(workload):
        item.context.seq = seq
        table = item.table
        yield from encoder.documents(item.event_type, item.body, table, item.context).documents  # type: ignore[arg-type]
        seq = item.context.seq


def _timed_documents(workload: Workload) -> float:
    items = list(_items(workload))
    encoder = RowsEncoder()
    started = time.process_time()
    count = 0
    for item in items:
        encoded = encoder.documents(item.event_type, item.body, item.table, item.context)  # type: ignore[arg-type]
        count += len(encoded.documents)
    elapsed = time.process_time() - started
    assert count == workload.rows
    return elapsed


def _items(workload: Workload) -> Iterator[Rows]:
    stream = Stream(
        Source(Flavor.MYSQL, SourceIdentity(b"test")),
        Checkpoint("", Position("binlog.000001", 4), 0),
        TableMaps(Flavor.MYSQL),
        _decompress,
        XaSpool(1 << 20),
    )
    for packet in workload.packets:
        for item in stream.feed(packet):
            if isinstance(item, Rows):
                yield item


def _decompress(data: bytes) -> Iterator[bytes]:
    yield from zstandard.ZstdDecompressor().read_to_iter(data)
