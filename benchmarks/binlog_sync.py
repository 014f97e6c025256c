"""The sync from end to end against its bare sink: the same documents, server and indexes.

A MySQL has the changes in its binlog already; the sync, a process of its own, writes all of them
into an empty trail, by `direct` and by `staged`. The bare sink gets the very documents that came
out, as raw BSON in `insert_many` of 1,000, from a client that does nothing else. They take turns,
and the best of each counts. `--rows N` asks something else: whether memory and open files of one
sync stay flat over so many rows.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from benchmarks.processes import memory_mb, open_files, processor_seconds
from benchmarks.servers import Sink, Source, sink, source
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.trail import Trail

Figures = dict[str, float | None]

_CHECKOUT = Path(__file__).resolve().parents[1]
_DATABASE = "caretaker_bench"
_BATCH = 1000
_ROWS_A_STATEMENT, _ROWS_A_TRANSACTION = 500, 5000
_TENTHS = 10
_GOALS = {"direct": 0.9, "staged": 0.8}
_RAW: Any = CodecOptions(document_class=RawBSONDocument)


def run(*, quick: bool, rows: int | None = None) -> dict[str, Figures]:
    """Return figures by workload; ServerUnavailableError where this machine has no servers."""
    with ExitStack() as stack:
        bench = _Bench(stack.enter_context(source()), stack.enter_context(sink()))
        if rows is not None:
            return {f"{rows}_rows_into_{bench.sink.name}": bench.endurance(rows)}
        return bench.compared(30_000 if quick else 100_000, turns=2 if quick else 4)


@dataclass
class _Drained:
    """One sync of everything, and what it took."""

    seconds: float
    documents: int
    own_s: float
    source_s: float
    sink_s: float


@dataclass
class _Bench:
    source: Source
    sink: Sink

    def compared(self, rows: int, turns: int) -> dict[str, Figures]:
        """Measure each in turn, so that a busy neighbour is nobody's advantage."""
        start = self._load(rows)
        drained: dict[str, list[_Drained]] = {name: [] for name in _GOALS}
        bare: dict[int, list[_Drained]] = {1: [], 2: []}
        for turn in range(turns):
            for protocol, done in drained.items():
                with self._trail(f"bench_{protocol}_{turn}") as database:
                    done.append(self._drain(database, start, protocol))
                    documents = self._documents(database) if protocol == "direct" else None
                if documents is not None:
                    for flying, inserted in bare.items():
                        with self._trail(f"bench_bare_{turn}") as database:
                            inserted.append(self._insert(database, documents, flying))
        sink_rate = max(each.documents / each.seconds for each in bare[1])
        figures = {
            f"bare_sink_{self.sink.name}_{flying}_in_flight": _figures(done)
            for flying, done in bare.items()
        }
        for protocol, done in drained.items():
            told = _figures(done)
            rate = told["documents_per_s"] or 0.0
            figures[f"{protocol}_into_{self.sink.name}"] = {
                "ratio_vs_bare_sink": rate / sink_rate,
                "goal": _GOALS[protocol],
                **told,
            }
        return figures

    def endurance(self, rows: int) -> Figures:
        """Let one sync write many rows, and look at it at each tenth of them."""
        start = self._load(rows)
        figures: Figures = {}
        with (
            self._trail("bench_long") as database,
            self._syncer(database, start, "staged") as child,
        ):
            began = time.monotonic()
            with self.sink.client() as client:
                offsets = client[database].binlog_offsets
                for tenth in range(1, _TENTHS):  # at the last it is on its way out
                    while child.poll() is None:
                        found = offsets.find_one({"_id": "bench"}, {"seq": 1})
                        if found is not None and found["seq"] >= rows * tenth / _TENTHS:
                            break
                        time.sleep(0.05)
                    if child.poll() is None:
                        figures[f"memory_mb_at_{tenth * 10}_percent"] = memory_mb(child.pid)
                        figures[f"open_files_at_{tenth * 10}_percent"] = float(
                            open_files(child.pid)
                        )
                _ended_well(child)
                figures["seconds"] = time.monotonic() - began
                figures["documents"] = float(client[database].row_changes.count_documents({}))
        return figures

    # --- the source -------------------------------------------------------------------------------

    def _load(self, rows: int) -> str:
        """Put rows into the source, and return from where on they are in its binlog."""
        server = self.source.server
        server.run(
            f"DROP DATABASE IF EXISTS {_DATABASE}",
            f"CREATE DATABASE {_DATABASE}",
            f"CREATE TABLE {_DATABASE}.t (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, "
            "k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL)",
        )
        start = str(server.ask("SELECT @@gtid_executed")[0][0]).replace("\n", "")
        connection = server.connect(autocommit=False, database=_DATABASE)
        with contextlib.closing(connection), connection.cursor() as cursor:
            for first in range(0, rows, _ROWS_A_STATEMENT):
                values = ", ".join(
                    f"({number * 7919 % 1_000_003}, '{number:0>110}', 'pad of {number:0>40}')"
                    for number in range(first, min(first + _ROWS_A_STATEMENT, rows))
                )
                cursor.execute(f"INSERT INTO t (k, c, pad) VALUES {values}")  # noqa: S608 - numbers
                if (first + _ROWS_A_STATEMENT) % _ROWS_A_TRANSACTION == 0:
                    connection.commit()
            connection.commit()
        return f"gtid:{start}"

    # --- the sync ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _trail(self, database: str) -> Iterator[str]:
        """Make an empty trail with its indexes, and remove it afterwards."""
        settings = MongoDBSettings(self.sink.url, database)
        with self.sink.client() as client:
            client.drop_database(database)
            with Trail.open(settings, Protocol.DIRECT) as trail:
                trail.setup()
            try:
                yield database
            finally:
                client.drop_database(database)

    def _drain(self, database: str, start: str, protocol: str) -> _Drained:
        with self._syncer(database, start, protocol) as child:
            # Its imports are behind it, and its interpreter's end is not waited for.
            before = processor_seconds([child.pid])
            measured = self._measured(
                lambda: _written(child), lambda: processor_seconds([child.pid]) - before
            )
        with self.sink.client() as client:
            measured.documents = client[database].row_changes.count_documents({})
        return measured

    @contextlib.contextmanager
    def _syncer(self, database: str, start: str, protocol: str) -> Iterator[subprocess.Popen[str]]:
        """Start a sync that ends at the source's end; it is connected when this returns."""
        order = {
            "mysql_url": self.source.server.url,
            "mongodb_uri": self.sink.url,
            "database": database,
            "policy": {
                "source": "bench",
                "start": start,
                "protocol": protocol,
                "until_current": True,
                "include": [rf"{_DATABASE}\..*"],
            },
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "proofs.binlog_child", json.dumps(order)],
            cwd=_CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            lines = []
            for line in child.stdout or ():
                lines.append(line)
                if line.startswith("ready"):
                    break
            else:
                raise SystemExit(f"the sync did not start: {''.join(lines)}")
            yield child
        finally:
            child.kill()
            child.communicate()

    # --- the bare sink ----------------------------------------------------------------------------

    def _documents(self, database: str) -> list[RawBSONDocument]:
        with self.sink.client() as client:
            rows: Any = client[database].get_collection("row_changes", codec_options=_RAW)
            return list(rows.find())

    def _insert(self, database: str, documents: list[RawBSONDocument], flying: int) -> _Drained:
        with self.sink.client() as client, ThreadPoolExecutor(flying) as threads:
            rows: Any = client[database].get_collection(
                "row_changes",
                codec_options=_RAW,
                write_concern=pymongo.WriteConcern("majority", j=True),
            )
            batches = [documents[n : n + _BATCH] for n in range(0, len(documents), _BATCH)]

            def insert() -> None:
                for _ in threads.map(lambda batch: rows.insert_many(batch, ordered=False), batches):
                    pass

            began = time.process_time()
            measured = self._measured(insert, lambda: time.process_time() - began)
        measured.documents = len(documents)
        return measured

    def _measured(self, work: Callable[[], Any], own: Callable[[], float]) -> _Drained:
        source_s = processor_seconds(self.source.pids)
        sink_s = processor_seconds(self.sink.pids)
        began = time.monotonic()
        work()
        seconds = time.monotonic() - began
        return _Drained(
            seconds,
            0,
            own(),
            processor_seconds(self.source.pids) - source_s,
            processor_seconds(self.sink.pids) - sink_s,
        )


def _written(child: subprocess.Popen[str]) -> None:
    """Return when a sync says that it has written everything."""
    lines = []
    for line in child.stdout or ():
        if line.startswith("Stopped"):
            return
        lines.append(line)
    raise SystemExit(f"the sync failed:\n{''.join(lines)}")


def _ended_well(child: subprocess.Popen[str]) -> None:
    told = child.stdout.read() if child.stdout is not None else ""
    if "failed:" in told:
        raise SystemExit(f"the sync failed:\n{told}")


def _figures(done: list[_Drained]) -> Figures:
    best = max(done, key=lambda each: each.documents / each.seconds)
    return {
        "documents_per_s": best.documents / best.seconds,
        "documents": float(best.documents),
        "seconds": best.seconds,
        "client_processor_seconds": best.own_s,
        "source_processor_seconds": best.source_s,
        "sink_processor_seconds": best.sink_s,
    }
