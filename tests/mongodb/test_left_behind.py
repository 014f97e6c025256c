"""What a dead run left behind and did not commit is never taken for the trail."""

from __future__ import annotations

import datetime as dt
from zlib import crc32

import bson
import pytest
from bson import Binary

from caretaker.binlog import parts
from caretaker.binlog.batcher import Batch
from caretaker.errors import FencedError, RefusedError
from lab.faults import Action, Fault
from resources.mongodb.retries import CancelledError
from resources.mongodb.settings import Protocol
from tests.mongodb.batches import batch, checkpoint
from tests.mongodb.place import OTHER, RUN, SOURCE
from tests.mongodb.test_interruptions import leave_staged, recovered


def die_between(place, lab, given):
    """Let a run without transactions insert a batch, and die before it counts it."""
    with place.trail(Protocol.IDEMPOTENT) as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.recover(held)
        trail.commit(held, batch(1, 5))
        counted = Fault("^update .*binlog_offsets", action=Action.RESET_BEFORE)
        lab.faults.add(
            Fault("^insert .*row_changes", times=1, before=lambda _: lab.faults.add(counted))
        )
        place.cancel.set()  # a dead run does not try again
        with pytest.raises(CancelledError):
            trail.commit(held, given)
        lab.faults.clear()
        place.cancel.clear()


def stamped(first, last, year):
    """A batch of another time than all others."""
    documents = []
    for document in batch(first, last).documents:
        told = bson.decode(document)
        told["ts"] = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
        documents.append(bson.encode(told))
    data = b"".join(documents)
    return Batch(
        tuple(documents), checkpoint(last), first, last, len(documents), len(data), crc32(data)
    )


@pytest.mark.parametrize("year", [2026, 1999])
def test_rows_that_were_inserted_and_not_counted_are_gone_before_others_come(lab, place, year):
    """Other filters leave out what the dead run inserted: the number is another row's now."""
    die_between(place, lab, stamped(6, 12, year))
    assert place.seqs() == list(range(1, 13))

    with place.trail(Protocol.IDEMPOTENT) as trail:
        held = trail.acquire(SOURCE, OTHER)
        trail.recover(held)
        assert place.seqs() == [1, 2, 3, 4, 5]
        trail.commit(held, batch(6, 7))

    assert place.seqs() == list(range(1, 8))
    assert place.told("forgotten") == [{"source": SOURCE, "rows": 7}]


def test_rows_of_another_source_stay(lab, place):
    die_between(place, lab, batch(6, 12))
    theirs = {"_id": Binary(b"else" + bytes(8)), "ts": dt.datetime(2030, 1, 1), "seq": 99}  # noqa: DTZ001
    place.db.row_changes.insert_one(theirs)

    with place.trail(Protocol.IDEMPOTENT) as trail:
        trail.recover(trail.acquire(SOURCE, OTHER))

    assert place.seqs() == [1, 2, 3, 4, 5, 99]


def large(seq, *values):
    """A batch of one document of several values, too large for MongoDB."""
    told = bson.decode(batch(seq, seq).documents[0])
    told["chg"] = {f"column_{letter}": {"t": letter * size} for letter, size in values}
    document = bson.encode(told)
    return Batch((document,), checkpoint(seq), seq, seq, 1, len(document), crc32(document))


def whole(place):
    """Return the first letters of the values of the only large document, put together."""
    codec = place.db.codec_options.with_options(document_class=bson.raw_bson.RawBSONDocument)
    (head,) = place.db.row_changes.with_options(codec).find({"parts": {"$exists": True}})
    pieces = place.db.row_changes_parts.with_options(codec).find({"of": head["_id"]})
    told = bson.decode(parts.join(bytes(head.raw), [bytes(piece.raw) for piece in pieces]))
    return {name: (side["t"][0], len(side["t"])) for name, side in told["chg"].items()}


def test_a_large_document_is_not_put_together_of_what_a_dead_run_left(place):
    """Its pieces come first, and other filters take other values out of the same row."""
    with place.trail(Protocol.DIRECT) as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.fit(held, large(1, ("S", 9_000_000), ("P", 8_900_000), ("R", 8_800_000)))

        held = trail.acquire(SOURCE, OTHER)
        trail.commit(held, large(1, ("P", 8_900_000), ("R", 8_300_000)))

    assert whole(place) == {"column_P": ("P", 8_900_000), "column_R": ("R", 8_300_000)}
    assert place.db.row_changes_parts.count_documents({}) == 2


def test_pieces_of_a_committed_document_are_replaced_by_nobody(place):
    first = large(1, ("P", 17_000_000))
    with place.trail(Protocol.DIRECT) as trail:
        fenced = trail.acquire(SOURCE, RUN)
        held = trail.acquire(SOURCE, OTHER)
        trail.commit(held, first)
        with pytest.raises(FencedError):
            trail.commit(fenced, large(1, ("Q", 17_000_000)))
        with pytest.raises(RefusedError, match="already"):
            trail.fit(held, large(1, ("Q", 17_000_000)))

    assert whole(place) == {"column_P": ("P", 17_000_000)}


def test_a_staged_batch_that_mongodb_refuses_is_put_aside(lab, place):
    """The binlog gives it again, to a run that may be set up otherwise by then."""
    leave_staged(place, lab, 2)
    (there,) = batch(11, 11, text="another document of that id").documents
    place.db.row_changes.insert_one(bson.decode(there) | {"seq": 3})

    assert recovered(place) == ((0, 2), checkpoint(10))
    assert place.staged() == [(2, "archived"), (3, "archived")]


def test_a_server_without_room_archives_nothing(lab, place):
    leave_staged(place, lab, 2)
    lab.faults.add(
        Fault("^insert .*row_changes in", action=Action.ERROR, code=14031, message="no space")
    )
    with pytest.raises(RefusedError, match="no space"):
        recovered(place)
    assert place.staged() == [(2, "pending"), (3, "pending")]


def test_a_batch_that_was_pending_for_long_is_kept_for_its_week(lab, place):
    leave_staged(place, lab, 1, config_hash="config-0")
    now = dt.datetime.now(dt.UTC)
    place.db.row_changes_staging.update_many(
        {}, {"$set": {"createdAt": now - dt.timedelta(days=8)}}
    )

    assert recovered(place)[0] == (0, 1)

    assert lab.expire(at=now + dt.timedelta(days=6)) == 0
    assert lab.expire(at=now + dt.timedelta(days=8)) == 2
