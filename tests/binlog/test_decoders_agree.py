"""The generated decoders write the same bytes as the plain ones, value by value."""

from __future__ import annotations

import contextlib
import struct

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog import decimals, decoders, temporal
from caretaker.binlog.columns import Column
from caretaker.binlog.columns import ColumnType as C
from caretaker.binlog.filters import Filters
from caretaker.binlog.model import EventType, Flavor
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.tablemap import TableMap
from caretaker.errors import CorruptEventError
from tests.binlog import row_stories
from tests.binlog.captures import ROWS_EVENTS, TABLE_MAP, a_context, recorded
from tests.binlog.sizes import looks

STORIES = [
    *(f"{flavor}-{name}" for flavor in ("mysql", "mariadb") for name in ("types", "keys", "mixed")),
    *(f"{flavor}-{name}" for flavor in ("mysql", "mariadb") for name in ("nulls", "schema")),
    *("mysql-many_columns", "mariadb-many_columns", "mysql-json_null", "mariadb-compressed_rows"),
]
HASHED = Filters(hash=(r".*\.[vja]",), drop=(r".*\.[ce]",), mask=(r".*\.w",), secret=b"s" * 16)


@pytest.mark.parametrize("filters", [Filters(), HASHED], ids=["all", "filtered"])
@pytest.mark.parametrize("name", STORIES)
def test_recordings_give_the_same_bytes_both_ways(name, filters):
    captured = recorded(name)[0]
    known = row_stories.known_types("recorded")
    if filters is HASHED and name.endswith("keys"):
        filters = Filters(hash=HASHED.hash, drop=(r".*\.made\.c",), secret=HASHED.secret)
    if filters is HASHED and name.endswith("schema"):
        filters = Filters(hash=(r".*\.renamed",), secret=HASHED.secret)
    fast = captured.raw_documents(RowsEncoder(filters=filters, generate_after=0), known)
    plain = captured.raw_documents(RowsEncoder(filters=filters, generate_after=None), known)
    assert fast == plain
    assert fast


# --- tables and rows that no server made ----------------------------------------------------------


def _digits(draw: st.DrawFn) -> int:
    return draw(st.integers(0, 6))


@st.composite
def columns(draw: st.DrawFn, index: int = 0) -> Column:
    """A column of any type that a table map can describe."""
    kind = draw(st.sampled_from(_KINDS))
    column = Column(index, f"c{index}", kind, unsigned=draw(st.booleans()))
    match kind:
        case C.NEWDECIMAL:
            precision = draw(st.integers(1, 65))
            scale = draw(st.integers(0, min(30, precision)))
            return _with(column, size=precision, scale=scale)
        case C.BIT:
            return _with(column, size=draw(st.integers(1, 64)))
        case C.ENUM | C.SET:
            most = 300 if kind is C.ENUM else 64
            count = draw(st.integers(1, 12) | st.just(most))
            width = 1 if count < 256 else 2
            if kind is C.SET:
                width = 1 if count <= 8 else 2 if count <= 16 else 8
            labels = tuple(b"l%d" % n for n in range(count))
            return _with(column, size=width, labels=labels, collation=255)
        case C.TIMESTAMP2 | C.DATETIME2 | C.TIME2:
            return _with(column, size=_digits(draw))
        case C.VARCHAR | C.STRING:
            size = draw(st.sampled_from([1, 20, 255, 256, 900]))
            return _with(column, size=size, collation=draw(st.sampled_from([255, 8, 63, 54])))
        case C.BLOB | C.GEOMETRY | C.JSON | C.VECTOR:
            collation = draw(st.sampled_from([255, 8, 63])) if kind is C.BLOB else None
            return _with(column, size=draw(st.integers(1, 4)), collation=collation)
    return column


_KINDS = (
    *(C.TINY, C.SHORT, C.INT24, C.LONG, C.LONGLONG, C.FLOAT, C.DOUBLE, C.YEAR, C.DATE),
    *(C.NEWDECIMAL, C.BIT, C.ENUM, C.SET, C.TIMESTAMP2, C.DATETIME2, C.TIME2, C.VARCHAR),
    *(C.STRING, C.BLOB, C.GEOMETRY, C.VECTOR, C.NEWDECIMAL, C.DATETIME2),
)


def _with(column: Column, **values: object) -> Column:
    told = {name: getattr(column, name) for name in Column.__slots__}
    return Column(**(told | values))


@st.composite
def images(draw: st.DrawFn, column: Column) -> bytes:
    """A value as it lies in a row image, its length before it."""
    fixed = {C.TINY: 1, C.SHORT: 2, C.INT24: 3, C.LONG: 4, C.LONGLONG: 8, C.FLOAT: 4, C.DOUBLE: 8}
    if column.type in fixed:
        return draw(st.binary(min_size=fixed[column.type], max_size=fixed[column.type]))
    match column.type:
        case C.YEAR:
            return bytes((draw(st.integers(0, 255)),))
        case C.DATE:
            date = draw(st.integers(0, 9999)) << 9 | draw(st.integers(0, 511))
            return date.to_bytes(3, "little")
        case C.NEWDECIMAL:
            return _decimal(draw, column)
        case C.BIT:
            value = draw(st.integers(0, (1 << column.size) - 1))
            return value.to_bytes((column.size + 7) // 8, "big")
        case C.ENUM:
            index = draw(st.integers(0, len(column.labels or ())))
            return index.to_bytes(column.size, "little")
        case C.SET:
            chosen = draw(st.integers(0, (1 << len(column.labels or ())) - 1))
            return chosen.to_bytes(column.size, "little")
        case C.TIMESTAMP2:
            return draw(st.binary(min_size=4, max_size=4)) + _fraction(draw, column)
        case C.DATETIME2:
            month = draw(st.integers(0, 9999 * 13 + 12))
            packed = 1 << 39 | month << 22 | draw(st.integers(0, (1 << 22) - 1))
            return packed.to_bytes(5, "big") + _fraction(draw, column)
        case C.TIME2:
            head = draw(st.integers(1 << 23, (1 << 24) - 1)).to_bytes(3, "big")
            return head + _fraction(draw, column)
        case C.VECTOR:
            raw = draw(st.binary(max_size=4)) * 4
        case C.VARCHAR | C.STRING | C.BLOB:
            raw = _characters(draw, column)
        case _:
            raw = draw(st.binary(max_size=30))
    if column.type in {C.VARCHAR, C.STRING}:
        prefix = 1 if column.size <= 255 else 2
    else:
        prefix = column.size
    return len(raw).to_bytes(prefix, "little") + raw


def _decimal(draw: st.DrawFn, column: Column) -> bytes:
    packed = b"".join(
        draw(st.integers(0, 10**digits - 1) | st.just(10**digits - 1)).to_bytes(size, "big")
        for size, digits in decimals.groups(column.size, column.scale)
    )
    positive = bytes((packed[0] | 0x80,)) + packed[1:]
    return positive if draw(st.booleans()) else bytes(code ^ 0xFF for code in positive)


def _fraction(draw: st.DrawFn, column: Column) -> bytes:
    width = temporal.fraction_width(column.size)
    return draw(st.integers(0, 10 ** (2 * width) - 1)).to_bytes(width, "big") if width else b""


def _characters(draw: st.DrawFn, column: Column) -> bytes:
    text = draw(st.text("aé日\0", max_size=60))
    match column.collation:
        case 8:
            raw = text.encode("latin-1", "replace")
        case 54:
            raw = text.encode("utf-16-be")
        case _:
            raw = text.encode()
    # A CHAR or VARCHAR of one byte of length holds 255 at most, and no half of a character.
    return raw if len(raw) < 256 else b""


@st.composite
def events(draw: st.DrawFn) -> tuple[TableMap, int, bytes]:
    """A table, and a rows event of it."""
    count = draw(st.integers(1, 10))
    table_columns = tuple(draw(columns(index)) for index in range(count))
    key = tuple(draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True)))
    table = TableMap("s", "t", table_columns, key or None, Flavor.MYSQL, "")
    kind = draw(
        st.sampled_from([EventType.WRITE_ROWS, EventType.UPDATE_ROWS, EventType.DELETE_ROWS])
    )
    size = (count + 7) // 8
    filled = ((1 << count) - 1).to_bytes(size, "little")
    head = bytes(8) + struct.pack("<H", 2) + bytes((count,)) + filled
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        before = draw(rows_of(table_columns))
        rows.append(before)
        if kind == EventType.UPDATE_ROWS:
            rows.append(_changed(draw, table_columns, before))
    if kind == EventType.UPDATE_ROWS:
        head += filled
    return table, kind, head + b"".join(_image(row) for row in rows)


@st.composite
def rows_of(draw: st.DrawFn, table: tuple[Column, ...]) -> list[bytes | None]:
    return [draw(st.none() | images(column) | images(column)) for column in table]


def _changed(
    draw: st.DrawFn, table: tuple[Column, ...], before: list[bytes | None]
) -> list[bytes | None]:
    return [
        old if draw(st.booleans()) else draw(st.none() | images(column))
        for column, old in zip(table, before, strict=True)
    ]


def _image(row: list[bytes | None]) -> bytes:
    nulls = sum(1 << place for place, value in enumerate(row) if value is None)
    bitmap = nulls.to_bytes((len(row) + 7) // 8, "little")
    return bitmap + b"".join(value for value in row if value is not None)


@looks(150, 20000)
@given(event=events(), start=st.integers(0, 2**31))
def test_random_rows_give_the_same_bytes_both_ways(event, start):
    table, kind, body = event
    context, same = a_context(seq=start), a_context(seq=start)
    fast = RowsEncoder(generate_after=0).documents(kind, body, table, context)
    plain = RowsEncoder(generate_after=None).documents(kind, body, table, same)
    for one, other in zip(fast.documents, plain.documents, strict=True):
        assert bson.decode(one)["chg"] == bson.decode(other)["chg"] or one == other
    assert fast.documents == plain.documents
    assert (fast.starts, fast.rows) == (plain.starts, plain.rows)
    assert (context.seq, context.next_row) == (same.seq, same.next_row)
    for document in fast.documents:
        bson.decode(document)


_PLACE = "binlog.000007:5000000000: s.t: "


@looks(150, 20000)
@given(event=events(), data=st.data())
def test_a_row_cut_anywhere_is_refused_by_both(event, data):
    table, kind, body = event
    length = data.draw(st.integers(0, len(body) - 1))
    outcomes: list[str | list[bytes]] = []
    for after in (0, 1, None):
        try:
            encoded = RowsEncoder(generate_after=after).documents(
                kind, body[:length], table, a_context()
            )
        except CorruptEventError as error:
            outcomes.append(str(error)[: len(_PLACE)])
        else:
            outcomes.append(encoded.documents)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    # Whole rows are an event, too.
    assert outcomes[0] == _PLACE or isinstance(outcomes[0], list)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (C.DATE, (10000 << 9 | 1 << 5 | 1).to_bytes(3, "little")),
        (C.DATETIME2, (1 << 39 | 10000 * 13 << 22).to_bytes(5, "big")),
        (C.DATETIME2, bytes(5)),
        (C.NEWDECIMAL, b"\x80\xff\xff\xff\xff\x00"),
        (C.NEWDECIMAL, b"\x80\x00\x00\x00\x00\x64"),
        (C.NEWDECIMAL, b"\x7f\x00\x00\x00\x00\xff"),
        (C.NEWDECIMAL, b"\x8a\x00\x00\x00\x00\x00"),
        (C.ENUM, b"\x04"),
        (C.SET, b"\x08"),
    ],
)
@pytest.mark.parametrize("after", [0, 1, None], ids=["generated", "rare", "plain"])
def test_a_value_that_no_server_writes_is_refused(kind, raw, after):
    """It would be another value in the trail, or one that shifts its neighbours."""
    sizes = {C.NEWDECIMAL: (12, 2), C.ENUM: (1, 0), C.SET: (1, 0)}
    size, scale = sizes.get(kind, (0, 0))
    column = Column(
        *(0, "c", kind), size=size, scale=scale, labels=(b"a", b"b", b"c"), collation=255
    )
    table = TableMap("s", "t", (column,), None, Flavor.MYSQL, "")
    body = bytes(8) + b"\x02\x00" + b"\x01\x01" + b"\x00" + raw
    with pytest.raises(CorruptEventError, match=r"s\.t: .*column 'c'"):
        RowsEncoder(generate_after=after).documents(EventType.WRITE_ROWS, body, table, a_context())


def test_an_event_that_was_refused_does_not_spoil_the_next():
    captured = recorded("mysql-nulls")[0]
    encoder = RowsEncoder(generate_after=0)
    table = captured.tables()[0]
    for kind, body in captured.events:
        if kind in ROWS_EVENTS:
            whole = (
                RowsEncoder(generate_after=0).documents(kind, body, table, a_context()).documents
            )
            for length in range(len(body) - 40, len(body)):
                with contextlib.suppress(CorruptEventError):
                    encoder.documents(kind, body[:length], table, a_context())
            assert encoder.documents(kind, body, table, a_context()).documents == whole
        else:
            assert kind == TABLE_MAP


def test_a_table_with_nulls_all_over_gets_no_function_for_each_row(monkeypatch):
    """To generate one takes as long as dozens of rows; one that many rows share is worth it."""
    made: list[str] = []
    compiled = decoders._compiled

    def counted(label, source, scope):
        made.append(label)
        return compiled(label, source, scope)

    monkeypatch.setattr(decoders, "_compiled", counted)
    tiny = tuple(Column(number, f"c{number}", C.TINY) for number in range(8))
    table = TableMap("s", "t", tiny, None, Flavor.MYSQL, "")
    encoder = RowsEncoder()

    def written(rows: list[list[bytes | None]]) -> int:
        body = bytes(8) + b"\x02\x00" + b"\x08\xff" + b"".join(map(_image, rows))
        return len(encoder.documents(EventType.WRITE_ROWS, body, table, a_context()).documents)

    everywhere = [[None if n >> bit & 1 else b"\7" for bit in range(8)] for n in range(256)]
    assert written(everywhere) == 256
    assert made == []
    assert written([[b"\7"] * 8] * 100) == 100
    assert len(made) == 1
