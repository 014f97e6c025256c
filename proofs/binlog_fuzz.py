"""Hostile bytes: whatever a source sends, documents that are BSON come out, or errors of ours.

Recordings of real servers are broken by chance and read as the program reads them. A round is
wrong if anything but the named errors comes out, if an error does not say where, if a document is
no BSON, if the generated decoders and the plain ones disagree, if it takes too long, or too much
memory for what was sent.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

import bson
import zstandard

from caretaker.binlog import parts
from caretaker.binlog.batcher import Batcher
from caretaker.binlog.model import (
    Checkpoint,
    Ddl,
    EventType,
    RowContext,
    Rows,
    SourceIdentity,
)
from caretaker.binlog.rows import EncodedRows, OnPartialImage, RowsEncoder
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import TableMap, TableMaps
from caretaker.binlog.xa import XaSpool
from caretaker.errors import (
    CorruptEventError,
    LostPositionError,
    RefusedError,
    TransientError,
)
from proofs.binlog_hostile import Chance, Dump, Events, dumps, rows_events

OURS = (CorruptEventError, LostPositionError, RefusedError, TransientError)
#: The largest dump among the recordings takes a tenth of a second.
TOO_LONG_S = 20
#: Above what the process has at the start.
MOST_MEMORY = 2 << 30
#: How often one rows event is broken: a round's decoders cost more than their use.
BROKEN_EACH = 32
#: Parts of a document are cut at sizes that no row here would reach.
SMALL_DOCUMENT, SMALL_PIECE = 20_000, 5_000


class WrongError(Exception):
    """A promise that a round broke."""


def main(options: list[str]) -> int:
    """Break recordings until the time is over; 1 where a round was wrong."""
    parser = argparse.ArgumentParser(prog="python -m proofs binlog_fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; 3600 to search")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--rounds", type=int, help="so many instead of so long")
    parser.add_argument("--stop", action="store_true", help="at the first round that is wrong")
    given = parser.parse_args(options)
    print(f"seed {given.seed}", flush=True)
    count, wrong = fuzz(given.seed, seconds=given.seconds, rounds=given.rounds, stop=given.stop)
    told = ", ".join(f"{name} {number}" for name, number in sorted(count.items()))
    print(f"{count.total()} rounds: {told}")
    return 1 if wrong else 0


def fuzz(
    seed: int, *, seconds: float, rounds: int | None = None, stop: bool = False
) -> tuple[Counter[str], int]:
    """Return how rounds ended, and how many were wrong; each of those is printed with its seed."""
    corpus = Corpus()
    count: Counter[str] = Counter()
    wrong = 0
    until = time.monotonic() + seconds
    number = seed
    with _bounded():
        while (count.total() < rounds) if rounds else (time.monotonic() < until):
            signal.setitimer(signal.ITIMER_REAL, TOO_LONG_S)
            try:
                count[corpus.round(number)] += 1
            except Exception:  # noqa: BLE001 - anything else is what this looks for
                wrong += 1
                count["WRONG"] += 1
                print(f"--seed {number} --rounds 1\n{traceback.format_exc()}", flush=True)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            number += 1
            if wrong and stop:
                break
    return count, wrong


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Let a hang end and a claimed length of gigabytes fail."""

    def late(_: int, __: FrameType | None) -> None:
        raise WrongError(f"not done after {TOO_LONG_S} s")

    before = signal.signal(signal.SIGALRM, late)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no file of ours
        has = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MOST_MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


class Corpus:
    """What is broken."""

    def __init__(self) -> None:
        self._dumps = [dump for dump in dumps() if len(dump.payloads) > 2]  # noqa: PLR2004
        self._events = rows_events()

    def round(self, seed: int) -> str:
        """Read one broken thing; return how it ended."""
        chance = Chance(f"binlog {seed}")
        try:
            if chance.below(2):
                dump = self._dumps[chance.below(len(self._dumps))]
                foreign = self._dumps[chance.below(len(self._dumps))]
                return _read_dump(chance, dump, foreign)
            return _read_rows(chance, self._events[chance.below(len(self._events))])
        except OURS as error:
            if ":" not in str(error):
                raise WrongError(f"an error that does not say where: {error!r}") from error
            return type(error).__name__


def _read_dump(chance: Chance, dump: Dump, foreign: Dump) -> str:
    start = Checkpoint(None, dump.start, 0)
    stream = Stream(
        Source(dump.flavor, SourceIdentity(b"fuzz")),
        start,
        TableMaps(dump.flavor),
        _decompress,
        XaSpool(1 << 16),
    )
    batcher = Batcher(start, dump.flavor)
    encoders = Encoders()
    for payload in chance.payloads(dump, foreign):
        for item in stream.feed(payload):
            if isinstance(item, Rows):
                assert isinstance(item.table, TableMap)  # noqa: S101
                item.context.seq = batcher.next_seq
                encoded = encoders.encode(
                    item.event_type, item.body, item.table, item.context, batcher.to_skip
                )
                for _ in batcher.rows(item.transaction, encoded):
                    pass
            elif not isinstance(item, Ddl):
                for _ in batcher.pass_item(item):
                    pass
    return "read"


def _decompress(data: bytes) -> Iterator[bytes]:
    try:
        yield from zstandard.ZstdDecompressor().read_to_iter(data, write_size=1 << 14)
    except zstandard.ZstdError as error:
        raise CorruptEventError(f"zstd: {error}") from None


def _read_rows(chance: Chance, told: Events) -> str:
    """Break table maps and rows apart from any stream: a few events, each more than once."""
    maps = TableMaps(told.flavor)
    encoders = Encoders()
    others = told.events[chance.below(len(told.events))][1]
    good = bad = 0
    for kind, body in _around(told, chance.below(len(told.events))):
        is_map = kind == EventType.TABLE_MAP
        for _ in range(1 if is_map else BROKEN_EACH):
            # The id stays, and most table maps: broken rows of a table that is there.
            as_it_was = is_map and chance.below(4)
            broken = body if as_it_was else body[:6] + chance.broken(body[6:], others)
            try:
                if is_map:
                    maps.add(broken)
                else:
                    table = maps.get(int.from_bytes(body[:6], "little"))
                    encoders.encode(kind, broken, table, _context(), 0)
                    good += 1
            except (CorruptEventError, RefusedError):
                bad += 1
    return "rows, all refused" if bad and not good else "rows"


def _around(told: Events, place: int) -> Iterator[tuple[int, bytes]]:
    """Yield the table map at or before a place, and the rows events that follow it."""
    while place and told.events[place][0] != EventType.TABLE_MAP:
        place -= 1
    yield told.events[place]
    for kind, body in told.events[place + 1 : place + 5]:
        if kind == EventType.TABLE_MAP:
            return
        yield kind, body


def _context() -> RowContext:
    return RowContext(1_790_000_000, 1, "binlog.000001", 4, None, None, bytes(20), {}, 1)


class Encoders:
    """The generated decoders and the plain ones, which must agree."""

    def __init__(self) -> None:
        mark = OnPartialImage.MARK
        self._fast = RowsEncoder(on_partial_image=mark, generate_after=0)
        self._plain = RowsEncoder(on_partial_image=mark, generate_after=None)

    def encode(
        self, kind: int, body: bytes, table: TableMap, context: RowContext, skip: int
    ) -> EncodedRows:
        """Return the documents that both give, or raise the error that both raise."""
        same = replace(context, next_row=dict(context.next_row))
        plain: EncodedRows | str
        try:
            plain = self._plain.documents(kind, body, table, same, skip=skip)
        except OURS as error:
            plain = type(error).__name__
        try:
            fast = self._fast.documents(kind, body, table, context, skip=skip)
        except OURS as error:
            if plain != type(error).__name__:
                raise WrongError(f"only the generated decoder says {error!r}") from error
            if ":" not in str(error):
                raise WrongError(f"an error that does not say where: {error!r}") from error
            raise
        if isinstance(plain, str):
            raise WrongError(f"only the plain decoder raises {plain}")
        if fast != plain:
            raise WrongError(f"decoders disagree: {_first_difference(fast, plain)}")
        for document in fast.documents:
            bson.decode(document)
            split = parts.split(document, largest=SMALL_DOCUMENT, piece_bytes=SMALL_PIECE)
            # Joined, a value is at the end of its column, wherever it was.
            if split.pieces and Counter(parts.join(split.head, split.pieces)) != Counter(document):
                raise WrongError("a document that was split is another when it is joined")
        return fast


def _first_difference(fast: EncodedRows, plain: EncodedRows) -> str:
    for row, (one, other) in enumerate(zip(fast.documents, plain.documents, strict=False)):
        # From the length on: the first four bytes would always be the first to differ.
        for place in range(4, min(len(one), len(other))):
            if one[place] != other[place]:
                start = max(place - 24, 0)
                pieces = f"{one[start : place + 24]!r} and {other[start : place + 24]!r}"
                return f"row {row}, byte {place}: {pieces}"
    return f"{len(fast.documents)} and {len(plain.documents)} documents"
