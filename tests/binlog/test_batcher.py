"""Batches: small enough, complete together, and each with a checkpoint that can be trusted."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog.batcher import Batch, Batcher, Limits
from caretaker.binlog.model import (
    Abandoned,
    Checkpoint,
    Commit,
    Flavor,
    Inflight,
    MysqlGtid,
    Position,
    RotateTo,
    SchemaChanged,
)
from caretaker.errors import CorruptEventError, LostPositionError
from tests.binlog import wire
from tests.binlog.recordings import OpaqueTable

START = Checkpoint("", Position("binlog.000001", 4), 0)


@dataclass(frozen=True)
class Encoded:
    documents: list[bytes]
    skipped: int
    rows: bytes
    starts: list[int]


def event_of(*rows: bytes, skip: int = 0, size: int = 0) -> Encoded:
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row))
    documents = [b"doc of " + row + bytes(size) for row in rows[skip:]]
    return Encoded(documents, skip, b"".join(rows), starts)


def name(number: int) -> str:
    return f"{wire.SERVER_TEXT}:{number}"


def end_of(number: int, pos: int = 0) -> Commit:
    where = Position("binlog.000001", pos or 100 * number)
    return Commit(name(number), MysqlGtid(wire.SERVER, "", number), where, 1, None, 1)


def batcher(start: Checkpoint = START, documents: int = 1000, size: int = 12_000_000) -> Batcher:
    return Batcher(start, Flavor.MYSQL, Limits(documents, size))


def transaction(into: Batcher, number: int, *rows: bytes, event: int = 10) -> list[Batch]:
    """Feed a transaction in events of so many rows."""
    full = []
    for at in range(0, len(rows), event):
        part = rows[at : at + event]
        full += into.rows(name(number), event_of(*part, skip=min(into.to_skip, len(part))))
    return full + into.pass_item(end_of(number))


def some(count: int) -> list[bytes]:
    return [b"row %d" % number for number in range(count)]


transactions_of_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@given(transactions_of_sizes, st.integers(1, 15), st.integers(1, 12))
def test_whatever_the_cuts_all_documents_come_in_order_and_seq_has_no_hole(sizes, limit, event):
    into = batcher(documents=limit)
    batches = []
    for number, size in enumerate(sizes, 1):
        batches += transaction(into, number, *some(size), event=event)
    batches += into.flush()

    expected = [b"doc of " + row for size in sizes for row in some(size)]
    assert [document for batch in batches for document in batch.documents] == expected
    seq = 0
    for batch in batches:
        assert batch.seq_from == seq + 1
        assert batch.rows == len(batch.documents) <= limit
        assert batch.seq_to == seq + batch.rows == batch.checkpoint.seq
        assert batch.crc == crc32(b"".join(batch.documents))
        assert batch.bytes == sum(map(len, batch.documents))
        seq = batch.seq_to
    assert batches[-1].checkpoint.gtid == f"{wire.SERVER_TEXT}:1-{len(sizes)}".replace(":1-1", ":1")
    assert batches[-1].checkpoint.inflight is None


@given(transactions_of_sizes, st.integers(1, 9), st.integers(1, 7), st.integers(1, 7), st.data())
def test_going_on_after_any_batch_gives_what_is_missing(sizes, limit, event, other, data):
    """The source may group the same rows into other events the second time."""
    into, batches = batcher(documents=limit), []
    for number, size in enumerate(sizes, 1):
        batches += transaction(into, number, *some(size), event=event)
    batches += into.flush()
    done = data.draw(st.integers(1, len(batches)))
    saved = batches[done - 1].checkpoint

    again, rest = batcher(saved, documents=limit), []
    for number, size in enumerate(sizes, 1):
        if f":{number}" in (saved.gtid or "")[-3:] or number <= last_of(saved):
            continue
        rest += transaction(again, number, *some(size), event=other)
    rest += again.flush()

    documents = [d for batch in batches[done:] for d in batch.documents]
    assert [d for batch in rest for d in batch.documents] == documents
    assert again.checkpoint() == batches[-1].checkpoint


def last_of(checkpoint: Checkpoint) -> int:
    text = (checkpoint.gtid or "").partition(":")[2]
    return int(text.rpartition("-")[2]) if text else 0


def test_a_batch_that_ends_with_its_transaction_has_nothing_in_flight():
    [batch] = transaction(batcher(documents=10), 1, *some(10))
    assert batch.checkpoint.inflight is None
    assert batch.checkpoint.gtid == name(1)


def test_a_cut_inside_a_transaction_says_how_far_it_is():
    into = batcher(documents=4)
    [first, second] = into.rows(name(1), event_of(*some(10)))

    assert first.checkpoint.inflight == Inflight(name(1), 4, crc32(b"".join(some(4))))
    assert second.checkpoint.inflight == Inflight(name(1), 8, crc32(b"".join(some(8))))
    assert first.checkpoint.gtid == ""


def test_other_rows_than_those_in_the_trail_are_another_history():
    saved = Checkpoint("", START.position, 2, Inflight(name(1), 2, crc32(b"ab")))

    batcher(saved).rows(name(1), event_of(b"a", b"b", b"c", skip=2))
    with pytest.raises(LostPositionError, match="not those in the trail"):
        batcher(saved).rows(name(1), event_of(b"b", b"a", b"c", skip=2))
    with pytest.raises(LostPositionError, match="ends inside"):
        batcher(saved).rows(name(2), event_of(b"a", skip=0))


def test_fewer_rows_than_are_in_the_trail_are_another_history():
    saved = Checkpoint("", START.position, 3, Inflight(name(1), 3, crc32(b"abc")))
    into = batcher(saved)
    into.rows(name(1), event_of(b"a", b"b", skip=2))
    with pytest.raises(LostPositionError, match="has 3 rows"):
        into.pass_item(end_of(1))


def test_stopping_while_rows_are_skipped_changes_nothing():
    saved = Checkpoint("", START.position, 3, Inflight(name(1), 3, crc32(b"abc")))
    into = batcher(saved)
    into.rows(name(1), event_of(b"a", b"b", skip=2))

    assert into.to_skip == 1
    assert into.flush() == []
    assert into.checkpoint() == saved
    assert into.next_seq == 4


def test_bytes_cut_a_batch_and_a_giant_goes_alone():
    into = batcher(size=1000)
    batches = into.rows(name(1), event_of(*some(3), size=400))
    batches += into.rows(name(1), event_of(b"giant", size=5000))
    batches += into.rows(name(1), event_of(b"last"))
    batches += into.pass_item(end_of(1)) + into.flush()

    assert [batch.rows for batch in batches] == [2, 1, 1, 1]
    assert batches[2].bytes > 1000


def test_memory_does_not_grow_with_the_transaction():
    into = batcher()
    rows = event_of(*some(100), size=100)
    tracemalloc.start()
    for _ in range(2000):
        into.rows(name(1), rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert into.next_seq == 200_001
    assert peak < 2_000_000


def test_a_new_schema_flushes_what_was_encoded_with_the_old_one():
    into = batcher()
    into.rows(name(1), event_of(*some(3)))
    table = OpaqueTable("s", "t")

    assert into.pass_item(SchemaChanged(table, known=False)) == []
    [batch] = into.pass_item(SchemaChanged(table, known=True))
    assert batch.rows == 3
    assert into.pass_item(SchemaChanged(table, known=True)) == []


def test_a_configuration_changes_between_transactions_only():
    into = batcher()
    into.rows(name(1), event_of(*some(3)))
    into.ask_for_boundary()
    assert not into.between_transactions

    assert into.rows(name(1), event_of(*some(3))) == []
    [batch] = into.pass_item(end_of(1))

    assert batch.boundary
    assert batch.checkpoint.inflight is None
    assert into.between_transactions
    assert into.pass_item(end_of(2)) == []


def test_transactions_without_documents_move_the_checkpoint():
    into = batcher()
    assert into.flush() == []
    into.pass_item(end_of(1))
    [batch] = into.flush()

    assert (batch.documents, batch.seq_from, batch.seq_to) == ((), 1, 0)
    assert batch.checkpoint.gtid == name(1)
    assert into.flush() == []


def test_an_event_of_excluded_tables_is_nothing():
    into = batcher()
    assert into.rows(name(1), Encoded([], 0, b"", [])) == []
    into.pass_item(end_of(1))
    assert into.checkpoint().inflight is None


def test_an_abandoned_transaction_leaves_no_trace():
    into = batcher()
    transaction(into, 1, *some(2))
    into.rows(name(2), event_of(*some(5)))
    into.pass_item(Abandoned(name(2), Position("binlog.000002", 127)))
    assert into.next_seq == 3
    transaction(into, 2, b"again")
    [batch] = into.flush()

    assert batch.documents == (b"doc of row 0", b"doc of row 1", b"doc of again")
    assert batch.checkpoint.gtid == f"{wire.SERVER_TEXT}:1-2"


def test_an_abandoned_transaction_of_which_a_part_is_written_is_loud():
    into = batcher(documents=2)
    into.rows(name(1), event_of(*some(5)))
    with pytest.raises(CorruptEventError, match="never finished"):
        into.pass_item(Abandoned(name(1), Position("binlog.000002", 127)))


def test_a_definition_is_a_document_that_is_skipped_like_a_row():
    into = batcher(documents=1)
    [first] = into.document(name(1), b"ddl", b"CREATE") + into.rows(name(1), event_of(b"row"))
    again = batcher(first.checkpoint)
    again.document(name(1), b"ddl", b"CREATE")
    again.rows(name(1), event_of(b"row"))
    again.pass_item(end_of(1))
    [rest] = again.flush()

    assert rest.documents == (b"doc of row",)
    assert rest.seq_from == 2


def test_a_position_of_files_moves_into_the_next_file():
    start = Checkpoint(None, Position("binlog.000001", 4), 0)
    into = Batcher(start, Flavor.MYSQL)
    into.pass_item(RotateTo(Position("binlog.000002", 4)))
    assert into.checkpoint().position == Position("binlog.000002", 4)
