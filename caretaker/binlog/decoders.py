"""Whole rows to audit documents: one Python function generated per table version and null bitmap.

A null bitmap fixes which columns are there, and so where each begins up to the first of varying
length; the function that belongs to it has no branch left but those that depend on values. It
runs over all rows of an event that have the same bitmap. Everything between two values, names and
lengths included, is one constant or one look-up.

An UPDATE compares raw bytes: the before image is walked once, whole segments of columns that are
equal in both images are passed by one comparison, and only a column that differs is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias, TypeVar, cast

from caretaker.binlog.changes import TablePlan
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.document import Op
from caretaker.binlog.emission import SharedLeads
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


class Decoders:
    """The generated functions of one table under one set of filters, made as bitmaps come."""

    def __init__(self, plan: TablePlan, charsets: Charsets, meta: bytes) -> None:
        self._plan = plan
        self._charsets = charsets
        self._meta = meta
        self._shared: SharedLeads = {}
        self._whole: OrderedDict[tuple[Op, bytes], Decoder] = OrderedDict()
        self._updates: OrderedDict[tuple[bytes, bytes], Decoder] = OrderedDict()
        self._walkers: OrderedDict[bytes, Walker] = OrderedDict()
        self._last_after: dict[bytes, bytes] = {}
        self._bitmap = (len(plan.columns) + 7) // 8

    def run(
        self, op: Op, rows: bytes, place: int, arguments: tuple[object, ...]
    ) -> tuple[int, int, int]:
        """Decode rows from `place` on as long as their bitmaps stay; `Decoder` has the rest."""
        bitmap = self._bitmap
        nulls = rows[place : place + bitmap]
        if op is not Op.UPDATE:
            return self._of_whole_rows(op, nulls)(rows, place, *arguments)
        after = self._last_after.get(nulls)
        if after is not None:
            reached = self._of_updates(nulls, after)(rows, place, *arguments)
            if reached[0] != place:
                return reached
        at = self._walker(nulls)(rows, place + bitmap)
        after = rows[at : at + bitmap]
        if len(self._last_after) >= _MOST_DECODERS:
            self._last_after.clear()
        self._last_after[nulls] = after
        return self._of_updates(nulls, after)(rows, place, *arguments)

    def _of_whole_rows(self, op: Op, nulls: bytes) -> Decoder:
        decoder = self._whole.get((op, nulls))
        if decoder is None:
            source = WholeRowSource(self._plan, self._charsets, self._meta, self._shared, op)
            decoder = _compiled(f"{self._plan.table} {op} {nulls.hex()}", *source.write(nulls))
            _keep(self._whole, (op, nulls), decoder)
        return decoder

    def _of_updates(self, before: bytes, after: bytes) -> Decoder:
        decoder = self._updates.get((before, after))
        if decoder is None:
            source = UpdateSource(self._plan, self._charsets, self._meta, self._shared)
            label = f"{self._plan.table} u {before.hex()} {after.hex()}"
            decoder = _compiled(label, *source.write(before, after))
            _keep(self._updates, (before, after), decoder)
        return decoder

    def _walker(self, nulls: bytes) -> Walker:
        walker = self._walkers.get(nulls)
        if walker is None:
            made = _compiled(f"{self._plan.table} {nulls.hex()}", *walker_source(self._plan, nulls))
            walker = cast("Walker", made)
            _keep(self._walkers, nulls, walker)
        return walker


def _keep(made: OrderedDict[_Key, _Made], key: _Key, function: _Made) -> None:
    made[key] = function
    if len(made) > _MOST_DECODERS:
        made.popitem(last=False)


def _compiled(label: str, source: str, scope: dict[str, object]) -> Decoder:
    exec(compile(source, f"<{label}>", "exec"), scope)  # noqa: S102 - our own source
    return cast("Decoder", scope["decode"])
