"""Rows events to finished audit documents: rows v1 and v2, MariaDB's compressed, PARTIAL_JSON."""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from caretaker.binlog.changes import TablePlan, key_value, updated, written
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.cursor import Cursor
from caretaker.binlog.decoders import GENERATE_AFTER, Decoders
from caretaker.binlog.document import Envelope, LocalTime, Op, TableParts, row_document
from caretaker.binlog.filters import Filters
from caretaker.binlog.images import Cell, bits, read_image, read_partial_image
from caretaker.binlog.model import EventType, RowContext
from caretaker.binlog.tablemap import TableMap
from caretaker.errors import CorruptEventError, InvalidSettingError, RefusedError

_T = EventType
_INSERTS = {_T.WRITE_ROWS_V1, _T.WRITE_ROWS, _T.WRITE_ROWS_COMPRESSED_V1, _T.WRITE_ROWS_COMPRESSED}
_UPDATES = {
    *(_T.UPDATE_ROWS_V1, _T.UPDATE_ROWS, _T.PARTIAL_UPDATE_ROWS),
    *(_T.UPDATE_ROWS_COMPRESSED_V1, _T.UPDATE_ROWS_COMPRESSED),
}
_DELETES = {
    *(_T.DELETE_ROWS_V1, _T.DELETE_ROWS),
    *(_T.DELETE_ROWS_COMPRESSED_V1, _T.DELETE_ROWS_COMPRESSED),
}
_COMPRESSED = {
    *(_T.WRITE_ROWS_COMPRESSED_V1, _T.UPDATE_ROWS_COMPRESSED_V1, _T.DELETE_ROWS_COMPRESSED_V1),
    *(_T.WRITE_ROWS_COMPRESSED, _T.UPDATE_ROWS_COMPRESSED, _T.DELETE_ROWS_COMPRESSED),
}
_VERSION_2 = {
    *(_T.WRITE_ROWS, _T.UPDATE_ROWS, _T.DELETE_ROWS, _T.PARTIAL_UPDATE_ROWS),
    *(_T.WRITE_ROWS_COMPRESSED, _T.UPDATE_ROWS_COMPRESSED, _T.DELETE_ROWS_COMPRESSED),
}
_OPS: dict[int, Op] = {
    **dict.fromkeys(_INSERTS, Op.INSERT),
    **dict.fromkeys(_UPDATES, Op.UPDATE),
    **dict.fromkeys(_DELETES, Op.DELETE),
}

_TABLE_ID = 6
#: An event's length is 32 bits, inflated ones may be as large as the largest event.
_MOST_INFLATED = 1 << 30
#: Table versions with their decoders; the least recently made goes first.
_MOST_TABLES = 4096


class OnPartialImage(StrEnum):
    """What to do with a row of which the source logged only some columns."""

    STOP = "stop"
    MARK = "mark"


@dataclass(slots=True)
class EncodedRows:
    """The documents of one rows event.

    Attributes:
        documents: Finished BSON, in the order of the rows.
        skipped: How many rows were counted and left out, from the first on.
        rows: The bytes that hold the rows, and `starts` where each begins, the left-out ones too,
            with the end behind the last.
    """

    documents: list[bytes] = field(default_factory=list)
    skipped: int = 0
    rows: bytes = b""
    starts: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[bytes | None, int]]:
        """Yield each row's document, None for those left out, and its crc: for `Batcher.rows`."""
        whole = [None] * self.skipped + self.documents
        rows, starts = self.rows, self.starts
        for place, document in enumerate(whole):
            yield document, zlib.crc32(rows[starts[place] : starts[place + 1]])

    def crc(self, document: int) -> int:
        """Return crc32 of the raw bytes of a document's row, both images of an update.

        What an in-flight mark keeps: the source must send the same again. Computed when asked,
        since one row of a thousand is the last of its batch. `crc(-1)` is the last skipped row's.
        """
        row = document + self.skipped
        return zlib.crc32(self.rows[self.starts[row] : self.starts[row + 1]])


class RowsEncoder:
    """Rows events of one stream to documents.

    `generate_after` so many rows with the same columns NULL a decoder is generated for them, which
    writes the same bytes faster; None is never.
    """

    def __init__(
        self,
        *,
        filters: Filters | None = None,
        charsets: Charsets | None = None,
        local_time: LocalTime | None = None,
        on_partial_image: OnPartialImage = OnPartialImage.STOP,
        generate_after: int | None = GENERATE_AFTER,
    ) -> None:
        self._filters = filters or Filters()
        self._charsets = charsets or Charsets()
        self._local_time = local_time
        self._on_partial_image = on_partial_image
        self._generate_after = generate_after
        self._tables: OrderedDict[TableMap, _Table] = OrderedDict()

    @property
    def filters(self) -> Filters:
        """What is in the trail, and as what."""
        return self._filters

    def covers(self, table: TableMap) -> bool:
        """Whether the table's changes are in the trail."""
        return self._table(table).plan is not None

    def documents(
        self,
        event_type: int,
        body: bytes,
        table: TableMap,
        context: RowContext,
        *,
        skip: int = 0,
    ) -> EncodedRows:
        """Return the documents of one event, its rows numbered on from `context.next_row`.

        `context.seq` is the number of the first document, and is left one past the last.
        The first `skip` rows are in the trail already: read, numbered, and left out of `seq`.

        Raises:
            CorruptEventError: The bytes are no rows of this table, or a value is none of its type.
            RefusedError: The source must be set up differently; the hint says how.
            InvalidSettingError: The filters cannot be applied to this table.
        """
        try:
            known = self._table(table)
            if known.plan is None:
                return EncodedRows()
            event = _event(event_type, body, known, len(table.columns))
            return self._encode(event, known, context, skip)
        except InvalidSettingError:
            raise  # it is in the configuration, not at a place of the binlog
        except (CorruptEventError, RefusedError) as error:
            raise _placed(error, table, context) from None

    def _table(self, table: TableMap) -> _Table:
        known = self._tables.get(table)
        if known is None:
            known = self._new_table(table)
            self._tables[table] = known
            if len(self._tables) > _MOST_TABLES:
                self._tables.popitem(last=False)
        return known

    def _new_table(self, table: TableMap) -> _Table:
        parts = TableParts.of(table.schema, table.name)
        plan = decoders = None
        if self._filters.covers(table.schema, table.name):
            plan = TablePlan.of(table, self._charsets, self._filters)
            if self._generate_after is not None:
                decoders = Decoders(plan, self._charsets, parts.meta, self._generate_after)
        bitmap, all_present = _all_present(len(table.columns))
        filled = b"\xff" * len(bitmap)
        count = _lenenc(len(table.columns))
        return _Table(
            parts,
            plan,
            decoders,
            frozenset((count + bitmap, count + filled)),
            frozenset((count + 2 * bitmap, count + 2 * filled)),
            len(count) + len(bitmap),
            len(bitmap),
            all_present,
        )

    def _encode(self, event: _Event, known: _Table, context: RowContext, skip: int) -> EncodedRows:
        envelope = Envelope.of(event.op, known.parts.hash, context, self._local_time)
        run = _Run(
            EncodedRows(rows=event.rows),
            context.next_row.get(known.parts.row_key, 0),
            # Rows that are skipped take numbers below the first, and none of them is written.
            context.seq - skip,
        )
        if known.plan is None:
            raise AssertionError("a table that is not covered has no rows to encode")
        if event.plain or known.decoders is None:
            self._require_whole(event, known.plan)
            _encode_plainly(event, known, envelope, run)
        else:
            _encode_fast(event, known, known.decoders, envelope, run)
        context.next_row[known.parts.row_key] = run.row
        encoded = run.encoded
        encoded.skipped = min(skip, len(encoded.documents))
        del encoded.documents[: encoded.skipped]
        encoded.starts.append(len(event.rows))
        context.seq += len(encoded.documents)
        return encoded

    def _require_whole(self, event: _Event, plan: TablePlan) -> None:
        if event.partial and self._on_partial_image is OnPartialImage.STOP:
            missing = ", ".join(
                column.name
                for column in plan.columns
                if not (event.before[column.index] and event.after[column.index])
            )
            raise RefusedError(
                f"the source logged the row without {missing}",
                hint="SET GLOBAL binlog_row_image = 'FULL', and no session may set it otherwise; "
                "on_partial_image: mark goes on with what is known",
            )


@dataclass(slots=True)
class _Table:
    """A table version: its parts of a document, and how to decode it if the trail has it.

    Attributes:
        heads: What stands before the rows of inserts and deletes whose images have all columns,
            and `update_heads` of updates: the bits behind the last column are 1 in MySQL, and 0
            in MariaDB.
    """

    parts: TableParts
    plan: TablePlan | None
    decoders: Decoders | None
    heads: frozenset[bytes]
    update_heads: frozenset[bytes]
    head_bytes: int
    bitmap_bytes: int
    all_present: list[bool]


@dataclass(slots=True)
class _Event:
    """The rows of an event, and which columns its images have."""

    op: Op
    rows: bytes
    before: list[bool]
    after: list[bool]
    partial: bool
    json_differences: bool

    @property
    def plain(self) -> bool:
        """Whether the rows need more than the generated decoders know."""
        return self.partial or self.json_differences


@dataclass(slots=True)
class _Run:
    """Where the encoding of an event is."""

    encoded: EncodedRows
    row: int
    seq: int


def _usual(event_type: int, body: bytes, known: _Table) -> _Event | None:
    """Return an event whose images have all columns, uncompressed; None where it is another."""
    kind = _USUAL.get(event_type)
    if kind is None:
        return None
    op, is_version_2 = kind
    place = _TABLE_ID + 2
    if is_version_2:
        # Extra data, whose length counts itself.
        extra = int.from_bytes(body[place : place + 2], "little")
        place += max(2, extra)
    end = place + known.head_bytes
    if op is Op.UPDATE:
        end += known.bitmap_bytes
        if body[place:end] not in known.update_heads:
            return None
    elif body[place:end] not in known.heads:
        return None
    return _Event(op, body[end:], known.all_present, known.all_present, False, False)  # noqa: FBT003


_USUAL = {
    int(kind): (op, kind in _VERSION_2)
    for kind, op in _OPS.items()
    if kind not in _COMPRESSED and kind is not _T.PARTIAL_UPDATE_ROWS
}
_ALL_PRESENT: dict[int, tuple[bytes, list[bool]]] = {}


def _all_present(count: int) -> tuple[bytes, list[bool]]:
    if count not in _ALL_PRESENT:
        bitmap = ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
        _ALL_PRESENT[count] = (bitmap, [True] * count)
    return _ALL_PRESENT[count]


def _event(event_type: int, body: bytes, known: _Table, columns: int) -> _Event:
    usual = _usual(event_type, body, known)
    if usual is not None:
        return usual
    op = _OPS.get(event_type)
    if op is None:
        raise CorruptEventError(f"an event of type {event_type} has no rows")
    cursor = Cursor(body)
    cursor.take(_TABLE_ID + 2)  # the id and flags
    if event_type in _VERSION_2:
        cursor.take(max(cursor.uint(2) - 2, 0))  # extra data
    count = cursor.lenenc()
    if count != columns:
        raise CorruptEventError(f"rows of {count} columns, the table map has {columns}")
    bitmap, all_of_them = _all_present(count)
    size = len(bitmap)
    before = after = all_of_them
    first = cursor.take(size)
    second = cursor.take(size) if op is Op.UPDATE else first
    # The bits behind the last column may be anything.
    partial = _differs(first, bitmap) or _differs(second, bitmap)
    if partial:
        before, after = bits(first, count), bits(second, count)
    rows = cursor.rest()
    if event_type in _COMPRESSED:
        rows = _inflate(rows)
    return _Event(op, rows, before, after, partial, event_type == _T.PARTIAL_UPDATE_ROWS)


def _lenenc(count: int) -> bytes:
    return bytes((count,)) if count < _ONE_BYTE else b"\xfc" + count.to_bytes(2, "little")


#: Length-encoded integers below are one byte.
_ONE_BYTE = 251


def _differs(bitmap: bytes, whole: bytes) -> bool:
    return bitmap != whole and any(~have & want for have, want in zip(bitmap, whole, strict=True))


def _inflate(rows: bytes) -> bytes:
    """Return rows as they were before MariaDB compressed them.

    A byte 0x80 | algorithm << 4 | n, then n big-endian bytes of the length, then the stream.
    """
    cursor = Cursor(rows)
    head = cursor.uint(1)
    length = int.from_bytes(cursor.take(head & 7), "big")
    if head & 0xF0 != 0x80 or not 0 < length <= _MOST_INFLATED:  # noqa: PLR2004
        raise CorruptEventError(f"compressed rows that begin with {rows[:5].hex()}")
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(cursor.rest(), length + 1)
    except zlib.error as error:
        raise CorruptEventError(f"compressed rows that zlib refuses: {error}") from None
    if len(inflated) != length:
        raise CorruptEventError(f"compressed rows of {length} bytes inflate to {len(inflated)}")
    return inflated


def _encode_fast(
    event: _Event,
    known: _Table,
    decoders: Decoders,
    envelope: Envelope,
    run: _Run,
) -> None:
    rows, end = event.rows, len(event.rows)
    encoded = run.encoded
    row, seq, place = run.row, run.seq, 0
    id_head, head, tail = envelope.id_head, envelope.head, envelope.tail
    add, mark = encoded.documents.append, encoded.starts.append
    try:
        while place < end:
            arguments = (end, row, seq, id_head, head, tail, add, mark)
            reached, row, seq = decoders.run(event.op, rows, place, arguments)
            if reached <= place:
                raise CorruptEventError(f"a row without bytes at {place} of {end}")
            place = reached
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, struct.error) as error:
        # The plain way says which column it is; if it finds nothing, the fast one's word stands.
        again = _Run(EncodedRows(rows=rows), run.row, run.seq)
        _encode_plainly(event, known, envelope, again)
        raise CorruptEventError(f"{type(error).__name__} in the rows: {error}") from None
    run.row, run.seq = row, seq


def _encode_plainly(event: _Event, known: _Table, envelope: Envelope, run: _Run) -> None:
    plan = known.plan
    if plan is None:
        return
    codecs = plan.codecs
    types = [column.type for column in plan.columns]
    cursor = Cursor(event.rows)
    encoded = run.encoded
    while cursor.left:
        start = len(event.rows) - cursor.left
        after: list[Cell] = []
        before = read_image(cursor, codecs, event.before)
        if event.json_differences:
            after = read_partial_image(cursor, types, codecs, event.after)
        elif event.op is Op.UPDATE:
            after = read_image(cursor, codecs, event.after)
        if len(event.rows) - cursor.left == start:
            raise CorruptEventError(f"a row without bytes at {start}")
        if event.op is Op.UPDATE:
            changes = updated(plan, before, after)
        else:
            changes = written(plan, before, b"t" if event.op is Op.INSERT else b"f")
        encoded.starts.append(start)
        encoded.documents.append(
            row_document(
                envelope,
                row=run.row,
                meta=known.parts.meta,
                key=key_value(plan, before),
                seq=run.seq,
                changes=changes,
                partial=event.partial,
            )
        )
        run.row += 1
        run.seq += 1


def _placed(
    error: CorruptEventError | RefusedError, table: TableMap, context: RowContext
) -> CorruptEventError | RefusedError:
    """Return the error with where it happened."""
    message = f"{context.file}:{context.pos}: {table}: {error}"
    return type(error)(message, target=f"{context.file}:{context.pos}", hint=error.hint)
