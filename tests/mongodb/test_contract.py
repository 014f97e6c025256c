"""What the trail asks of a MongoDB: the same in the lab and on a real engine."""

from __future__ import annotations

import threading

import pytest
from bson import Int64

from caretaker.binlog.model import Inflight
from caretaker.errors import FencedError, RefusedError
from resources.mongodb.settings import Protocol
from resources.mongodb.sink import Sink
from tests.mongodb.batches import batch, batches, checkpoint, document
from tests.mongodb.place import OTHER, RUN, SOURCE

PROTOCOLS = [Protocol.STAGED, Protocol.DIRECT, Protocol.IDEMPOTENT]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_batches_arrive_once_and_in_order(anywhere, protocol):
    with anywhere.trail(protocol) as trail:
        held = trail.acquire(SOURCE, RUN)
        assert held.checkpoint is None
        with Sink(trail, held) as sink:
            for each in batches(5):
                sink.write(each)
            sink.flush()
    assert anywhere.seqs() == list(range(1, 51))
    assert anywhere.staged() == []
    with anywhere.trail(protocol) as trail:
        held = trail.acquire(SOURCE, OTHER)
    assert held.checkpoint == checkpoint(50)
    assert held.n == 5


def test_a_checkpoint_comes_back_as_it_was(anywhere):
    """In the middle of a transaction, too."""
    inflight = Inflight("3e11fa47-71ca-11e1-9e33-c80aa9429562:7", 10, 0xFFFFFFFF)
    with anywhere.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        held.server_uuid, held.config_hash = "uuid-1", "config-1"
        trail.commit(held, batch(1, 10, inflight=inflight))
        found = trail.offset(SOURCE)
    assert found.checkpoint == checkpoint(10, inflight=inflight)
    assert (found.server_uuid, found.config_hash, found.n, found.epoch) == (
        "uuid-1",
        "config-1",
        1,
        1,
    )
    assert found.holder == RUN


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whoever_was_taken_over_from_writes_nothing_more(anywhere, protocol):
    with anywhere.trail(protocol) as trail, anywhere.trail(protocol) as second:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 10))
        taken = second.acquire(SOURCE, OTHER)
        with pytest.raises(FencedError, match="run-2 on host-b"):
            trail.commit(held, batch(11, 20, text="of the fenced one"))
        second.commit(taken, batch(11, 15))
    found = {each["seq"]: each for each in anywhere.db.row_changes.find()}
    if protocol is not Protocol.IDEMPOTENT:
        assert sorted(found) == list(range(1, 16))
        assert found[11]["chg"]["note"]["t"] == ""
    assert anywhere.offset()["seq"] == 15


def test_two_that_write_at_once_do_not_both_write(anywhere):
    """Each takes the source from the other, again and again; the trail has every row once."""
    done = []

    def run(holder):
        with anywhere.trail(Protocol.DIRECT) as trail:
            for _ in range(6):
                held = trail.acquire(SOURCE, holder)
                try:
                    for _ in range(3):
                        trail.commit(held, batch(held.seq + 1, held.seq + 5))
                except FencedError:
                    done.append("fenced")

    threads = [threading.Thread(target=run, args=(holder,)) for holder in (RUN, OTHER)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    last = anywhere.offset()["seq"]
    assert last > 0
    assert anywhere.seqs() == list(range(1, last + 1))


def test_what_is_twice_in_one_commit_takes_all_of_it_back(anywhere):
    """A document that is there already, with another seq: never passed over in silence."""
    with anywhere.trail(Protocol.DIRECT) as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 3))
        doubled = batch(4, 6)
        again = type(doubled)(
            (document(4), document(2), document(6)), doubled.checkpoint, 4, 6, 3, doubled.bytes, 1
        )
        with pytest.raises(RefusedError, match="row_changes already"):
            trail.commit(held, again)
        assert anywhere.seqs() == [1, 2, 3]
        trail.commit(held, doubled)
    assert anywhere.seqs() == [1, 2, 3, 4, 5, 6]


def test_a_document_over_16_mb_is_cut_and_comes_back_whole(anywhere):
    with anywhere.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 2))
        trail.commit(held, batch(3, 3, text="x" * 17_000_000))
        trail.commit(held, batch(4, 4))
        whole = list(trail.reads.history("shop", "orders", Int64(3)))
    assert anywhere.seqs() == [1, 2, 3, 4]
    assert anywhere.db.row_changes_parts.count_documents({}) > 1
    assert len(whole[0]["chg"]["note"]["t"]) == 17_000_000


def test_the_history_of_a_row_is_told_in_order(anywhere):
    with anywhere.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 20))
        found = [each["seq"] for each in trail.reads.history("shop", "orders", Int64(3))]
        keys = [each["seq"] for each in trail.reads.of_keys("shop", "orders", [Int64(1), 2])]
    assert found == [3, 10, 17]
    assert keys == [1, 2, 8, 9, 15, 16]


def test_setup_says_what_it_makes_and_makes_it_once(anywhere):
    with anywhere.trail() as trail:
        assert trail.setup() == []
        assert trail.check() == []
        anywhere.db.row_changes.drop_index("ts_1")
        assert [each.found for each in trail.check()] == ["row_changes has no index ts_1"]
        assert trail.setup() == ['db.row_changes.createIndex({"ts": 1})']


def test_another_index_of_the_name_is_left_to_the_operator(anywhere):
    """Such as the TTL index over all batches that an older installation made."""
    anywhere.db.row_changes_staging.drop_index("createdAt_1")
    anywhere.db.row_changes_staging.create_index("createdAt", expireAfterSeconds=604800)
    with anywhere.trail() as trail:
        assert "another index" in trail.check()[0].found
        with pytest.raises(RefusedError) as refused:
            trail.setup()
    assert "dropIndex" in refused.value.hint


def test_a_pause_is_seen_and_lifted(anywhere):
    with anywhere.trail() as trail:
        trail.pause(SOURCE, "anna", "upgrade")
        assert trail.offset(SOURCE).paused.by == "anna"
        held = trail.acquire(SOURCE, RUN)
        assert held.checkpoint is None
        trail.commit(held, batch(1, 1))
        assert trail.offset(SOURCE).paused is not None
        assert trail.resume(SOURCE)
        assert not trail.resume(SOURCE)
        assert trail.offset(SOURCE).paused is None


def test_a_schema_version_is_stored_once(anywhere):
    with anywhere.trail() as trail:
        assert trail.remember_schema("abc", {"db": "shop"})
    with anywhere.trail() as trail:
        assert not trail.remember_schema("abc", {"db": "shop"})
    assert anywhere.db.schema_versions.count_documents({}) == 1


def test_an_open_transaction_of_a_dead_run_holds_nobody_up(anywhere):
    """Its session is killed by who acquires the source: not 60 s, but at once."""
    with anywhere.trail() as trail, anywhere.trail() as second:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 5))
        session = held.session
        session.start_transaction()
        trail._offsets.update_one({"_id": SOURCE}, {"$set": {"n": 9}}, session=session)
        taken = second.acquire(SOURCE, OTHER)
        assert taken.n == 1
        second.commit(taken, batch(6, 10))
    assert anywhere.seqs() == list(range(1, 11))
