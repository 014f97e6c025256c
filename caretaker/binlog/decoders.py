"""Whole rows to audit documents: one Python function generated per table version and null bitmap.

A null bitmap fixes which columns are there, and so where each begins up to the first of varying
length; the function that belongs to it has no branch left but those that depend on values. It
runs over all rows of an event that have the same bitmap. Everything between two values, names and
lengths included, is one constant or one look-up.

An UPDATE compares raw bytes: the before image is walked once, whole segments of columns that are
equal in both images are passed by one comparison, and only a column that differs is read.

A bitmap that comes rarely gets no function: a table with NULLs all over has more bitmaps than rows
of any of them, and to generate for each row would take hundreds of times what the row takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias, TypeVar, cast

from caretaker.binlog.changes import TablePlan, key_value, updated, written
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.cursor import Cursor
from caretaker.binlog.document import Envelope, Op, row_document
from caretaker.binlog.emission import SharedLeads
from caretaker.binlog.images import bits, read_image
from caretaker.binlog.row_source import UpdateSource, WholeRowSource, walker_source

#: (rows, place, end, row, seq, id_head, head, tail, add document, add start) -> (place, row, seq).
#: It begins at a null bitmap, and returns at the end or at the first row with another bitmap.
Decoder: TypeAlias = Callable[..., tuple[int, int, int]]

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")

#: (rows, place) -> the end of the before image there, where the after image's bitmap is.
Walker: TypeAlias = Callable[[bytes, int], int]

#: Null bitmaps of one table and operation: tables with NULLs all over have many.
_MOST_DECODERS = 256
#: Bitmaps that are counted, until they are all forgotten.
_MOST_SEEN = 4096

#: Rows of one bitmap that are read value by value first: to generate a function takes as long.
GENERATE_AFTER = 16


class Decoders:
    """The generated functions of one table under one set of filters, made as bitmaps come."""

    def __init__(
        self, plan: TablePlan, charsets: Charsets, meta: bytes, generate_after: int = GENERATE_AFTER
    ) -> None:
        self._plan = plan
        self._codecs = plan.codecs
        self._charsets = charsets
        self._meta = meta
        self._generate_after = generate_after
        self._shared: SharedLeads = {}
        self._whole: OrderedDict[tuple[Op, bytes], Decoder] = OrderedDict()
        self._updates: OrderedDict[tuple[bytes, bytes], Decoder] = OrderedDict()
        self._walkers: OrderedDict[bytes, Walker] = OrderedDict()
        self._last_after: dict[bytes, bytes] = {}
        self._seen: dict[object, int] = {}
        self._bitmap = (len(plan.columns) + 7) // 8
        self._all_present = [True] * len(plan.columns)

    def run(
        self, op: Op, rows: bytes, place: int, arguments: tuple[object, ...]
    ) -> tuple[int, int, int]:
        """Decode rows from `place` on as long as their bitmaps stay; `Decoder` has the rest."""
        nulls = rows[place : place + self._bitmap]
        if op is Op.UPDATE:
            return self._run_updates(nulls, rows, place, arguments)
        decoder = self._whole.get((op, nulls))
        if decoder is None:
            if self._is_rare((op, nulls)):
                return self._one_row(op, rows, place, *arguments)  # type: ignore[arg-type]
            decoder = self._of_whole_rows(op, nulls)
        return decoder(rows, place, *arguments)

    def _run_updates(
        self, nulls: bytes, rows: bytes, place: int, arguments: tuple[object, ...]
    ) -> tuple[int, int, int]:
        after = self._last_after.get(nulls)
        if after is not None and (decoder := self._updates.get((nulls, after))) is not None:
            reached = decoder(rows, place, *arguments)
            if reached[0] != place:
                return reached
        walker = self._walkers.get(nulls)
        at = place + self._bitmap
        at = self._end_of_image(nulls, rows, at) if walker is None else walker(rows, at)
        after = rows[at : at + self._bitmap]
        if len(after) != self._bitmap:
            raise ValueError("an update without its after image")
        decoder = self._updates.get((nulls, after))
        if decoder is None:
            if self._is_rare((nulls, after)):
                return self._one_row(Op.UPDATE, rows, place, *arguments)  # type: ignore[arg-type]
            decoder = self._of_updates(nulls, after)
        if len(self._last_after) >= _MOST_DECODERS:
            self._last_after.clear()
        self._last_after[nulls] = after
        return decoder(rows, place, *arguments)

    def _is_rare(self, bitmaps: object) -> bool:
        """Count a row; whether there were too few of its bitmaps for a function of their own."""
        count = self._seen.get(bitmaps, 0) + 1
        if count > self._generate_after:
            return False
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[bitmaps] = count
        return True

    def _one_row(
        self,
        op: Op,
        rows: bytes,
        place: int,
        _end: int,
        row: int,
        seq: int,
        id_head: bytes,
        head: bytes,
        tail: bytes,
        add: Callable[[bytes], None],
        mark: Callable[[int], None],
    ) -> tuple[int, int, int]:
        """Do for one row what a generated function does for many."""
        cursor = Cursor(rows, place)
        before = read_image(cursor, self._codecs, self._all_present)
        if op is Op.UPDATE:
            after = read_image(cursor, self._codecs, self._all_present)
            changes = updated(self._plan, before, after)
        else:
            changes = written(self._plan, before, b"t" if op is Op.INSERT else b"f")
        mark(place)
        add(
            row_document(
                Envelope(id_head, head, tail),
                row=row,
                meta=self._meta,
                key=key_value(self._plan, before),
                seq=seq,
                changes=changes,
            )
        )
        return len(rows) - cursor.left, row + 1, seq + 1

    def _end_of_image(self, nulls: bytes, rows: bytes, at: int) -> int:
        if len(nulls) != self._bitmap:
            raise ValueError("a row without its null bitmap")
        for codec, null in zip(self._codecs, bits(nulls, len(self._codecs)), strict=True):
            if not null:
                prefix = codec.prefix
                length = codec.width or int.from_bytes(rows[at : at + prefix], "little")
                at += prefix + length
        return at

    def _of_whole_rows(self, op: Op, nulls: bytes) -> Decoder:
        source = WholeRowSource(self._plan, self._charsets, self._meta, self._shared, op)
        decoder = _compiled(f"{self._plan.table} {op} {nulls.hex()}", *source.write(nulls))
        _keep(self._whole, (op, nulls), decoder)
        return decoder

    def _of_updates(self, before: bytes, after: bytes) -> Decoder:
        source = UpdateSource(self._plan, self._charsets, self._meta, self._shared)
        label = f"{self._plan.table} u {before.hex()} {after.hex()}"
        decoder = _compiled(label, *source.write(before, after))
        _keep(self._updates, (before, after), decoder)
        if before not in self._walkers:
            label = f"{self._plan.table} {before.hex()}"
            walker = _compiled(label, *walker_source(self._plan, before))
            _keep(self._walkers, before, cast("Walker", walker))
        return decoder


def _keep(made: OrderedDict[_Key, _Made], key: _Key, function: _Made) -> None:
    made[key] = function
    if len(made) > _MOST_DECODERS:
        made.popitem(last=False)


def _compiled(label: str, source: str, scope: dict[str, object]) -> Decoder:
    exec(compile(source, f"<{label}>", "exec"), scope)  # noqa: S102 - our own source
    return cast("Decoder", scope["decode"])
