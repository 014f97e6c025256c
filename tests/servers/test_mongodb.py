"""The MongoDB that tests get does with transactions what the audit trail is built on."""

from __future__ import annotations

import datetime as dt
import socket
import struct
import threading
import time

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

pytestmark = pytest.mark.live("mongodb")

# A wait for ever is an answer too, and the wrong one.
SHORT = {"serverSelectionTimeoutMS": 15000, "socketTimeoutMS": 30000}


@pytest.fixture
def db(mongodb_server, name):
    """A database of its own; the primary is believed to be one."""
    with mongodb_server.client(**SHORT) as client:
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def other(mongodb_server, db):
    """The same database, seen by somebody else."""
    with mongodb_server.client(**SHORT) as client:
        yield client[db.name]


def await_that(truth, *, within_s=30.0):
    """Ask until it is true, and return what it was."""
    deadline = time.monotonic() + within_s
    while not (answer := truth()):
        assert time.monotonic() < deadline, f"waited {within_s} s, and it was {answer!r}"
        time.sleep(0.05)
    return answer


# --- what a driver believes -----------------------------------------------------------------------


def test_a_driver_takes_it_for_the_primary_of_a_replica_set(db):
    """Only those get sessions and retryable writes from pymongo."""
    assert db.client.is_primary
    greeting = db.client.admin.command("hello")
    assert greeting["setName"]
    assert greeting["logicalSessionTimeoutMinutes"] > 0
    assert "$clusterTime" in greeting


def test_pages_of_a_sorted_read_come_one_after_another(db):
    """Also when two such cursors are read in turn, on the same pool of connections."""
    db.c.insert_many([{"_id": n, "back": -n} for n in range(500)])
    first = db.c.find().sort("back").batch_size(60)
    second = db.c.find({"_id": {"$lt": 300}}).sort("back").batch_size(60)
    pairs = [(next(first)["_id"], next(second)["_id"]) for _ in range(300)]
    assert pairs == [(499 - n, 299 - n) for n in range(300)]
    assert [each["_id"] for each in first] == list(range(199, -1, -1))
    assert db.c.find().sort("back").limit(1).next()["_id"] == 499


def test_a_cursor_that_is_closed_early_leaves_the_rest_working(db):
    """Its connection is not lent to anybody else half-read."""
    db.c.insert_many([{"_id": n} for n in range(300)])
    cursor = db.c.find().sort("_id").batch_size(10)
    next(cursor)
    cursor.close()
    for _ in range(5):
        assert db.c.count_documents({}) == 300


def test_reads_of_all_kinds(db):
    """What status, tail, verify and history ask for."""
    db.c.insert_many([{"_id": n, "kind": n % 3} for n in range(30)])
    assert db.c.estimated_document_count() == 30
    assert sorted(db.c.distinct("kind")) == [0, 1, 2]
    groups = db.c.aggregate(
        [{"$match": {"kind": {"$gt": 0}}}, {"$group": {"_id": "$kind", "n": {"$sum": 1}}}]
    )
    assert {each["_id"]: each["n"] for each in groups} == {1: 10, 2: 10}
    assert db.list_collection_names() == ["c"]
    assert db.name in db.client.list_database_names()


def test_bytes_come_back_as_they_were_sent(db):
    """Documents are encoded by us, and must not be put into another order or type."""
    document = {
        "_id": bson.Binary(b"\x00\x01\xff"),
        "z": bson.Decimal128("12345678901234567890.1234567890"),
        "a": bson.Int64(1),
        "ts": dt.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC),
        "chg": {"col": {"f": None, "t": [1.5, True, "ü"]}},
    }
    sent = bson.encode(document)
    db.c.insert_one(RawBSONDocument(sent))
    raw = db.get_collection("c", bson.CodecOptions(document_class=RawBSONDocument))
    assert raw.find_one({}).raw == sent


# --- transactions ---------------------------------------------------------------------------------


def test_an_abort_leaves_nothing(db):
    """The proof that startTransaction is not merely taken: see a server that ignores it."""
    db.scratch.insert_one({"_id": 0})
    with db.client.start_session() as session:
        session.start_transaction()
        db.scratch.insert_one({"_id": 1}, session=session)
        assert db.scratch.count_documents({}, session=session) == 2
        session.abort_transaction()
    assert [each["_id"] for each in db.scratch.find()] == [0]


def test_a_transaction_is_seen_whole_or_not_at_all(db, other):
    """By others once it is committed; and what others do meanwhile, it does not see."""
    db.c.insert_one({"_id": 0, "v": 0})
    with db.client.start_session() as session:
        session.start_transaction()
        db.c.update_one({"_id": 0}, {"$set": {"v": 1}}, session=session)
        db.c.insert_many([{"_id": n} for n in range(1, 101)], session=session)
        assert other.c.count_documents({}) == 1
        assert other.c.find_one({"_id": 0})["v"] == 0
        other.c.insert_one({"_id": "outside"})
        assert db.c.count_documents({}, session=session) == 101
        session.commit_transaction()
        session.commit_transaction()  # a driver may send it again
    assert other.c.count_documents({}) == 102
    assert other.c.find_one({"_id": 0})["v"] == 1


def test_the_second_writer_of_a_document_is_told_to_start_over(db, other):
    """A conflict, labelled, at once; nothing of it stays."""
    db.c.insert_one({"_id": 0, "v": 0})
    with db.client.start_session() as one, other.client.start_session() as two:
        one.start_transaction()
        two.start_transaction()
        db.c.update_one({"_id": 0}, {"$set": {"v": 1}}, session=one)
        other.c.insert_one({"_id": "two"}, session=two)
        with pytest.raises(OperationFailure) as caught:
            other.c.update_one({"_id": 0}, {"$set": {"v": 2}}, session=two)
        assert caught.value.code == 112
        assert caught.value.has_error_label("TransientTransactionError")
        one.commit_transaction()
    assert {each["_id"]: each.get("v") for each in db.c.find()} == {0: 1}


def test_a_fenced_update_matches_nothing(db):
    """The former owner's epoch is no longer there; its transaction writes nothing."""
    db.offsets.insert_one({"_id": "source", "epoch": 2, "n": 7})
    with db.client.start_session() as session:
        session.start_transaction()
        fenced = db.offsets.update_one(
            {"_id": "source", "epoch": 1, "n": 7}, {"$inc": {"n": 1}}, session=session
        )
        session.abort_transaction()
    assert fenced.matched_count == 0
    acquired = db.offsets.find_one_and_update(
        {"_id": "source"}, {"$inc": {"epoch": 1}}, return_document=ReturnDocument.AFTER
    )
    assert acquired == {"_id": "source", "epoch": 3, "n": 7}


def test_a_duplicate_in_a_transaction_ends_it(db):
    """E11000 names the document; what came before it is undone, what comes after is refused."""
    db.c.insert_one({"_id": 5})
    with db.client.start_session() as session:
        session.start_transaction()
        db.c.insert_one({"_id": 1}, session=session)
        with pytest.raises(BulkWriteError) as caught:
            db.c.insert_many([{"_id": 4}, {"_id": 5}, {"_id": 6}], session=session)
        (error,) = caught.value.details["writeErrors"]
        assert (error["code"], error["index"], error["keyValue"]) == (11000, 1, {"_id": 5})
        with pytest.raises(OperationFailure) as refused:
            session.commit_transaction()
        assert refused.value.code == 251
    assert [each["_id"] for each in db.c.find()] == [5]


def test_duplicates_in_an_unordered_batch_do_not_keep_out_the_others(db):
    """The protocol without transactions sends the same batch again after a crash."""
    db.c.insert_many([{"_id": n} for n in range(0, 10, 2)])
    with pytest.raises(BulkWriteError) as caught:
        db.c.insert_many([{"_id": n} for n in range(10)], ordered=False)
    assert {each["code"] for each in caught.value.details["writeErrors"]} == {11000}
    assert caught.value.details["nInserted"] == 5
    assert db.c.count_documents({}) == 10
    with pytest.raises(DuplicateKeyError, match=r"E11000 .* index: _id_ dup key: { _id: 3 }"):
        db.c.insert_one({"_id": 3})


def test_a_transaction_of_a_client_that_died_is_ended(start_mongodb):
    """After its time, not before: until then its documents are held."""
    server = start_mongodb(transaction_lifetime_s=2.0)
    with server.client(**SHORT) as client, server.client(**SHORT) as heir:
        client.d.c.insert_one({"_id": 0, "v": 0})
        session = client.start_session()
        session.start_transaction()
        client.d.c.update_one({"_id": 0}, {"$set": {"v": 1}}, session=session)
        # Waits for the transaction to end, as an update outside one does.
        assert heir.d.c.update_one({"_id": 0, "v": 0}, {"$set": {"v": 2}}).matched_count == 1
        with pytest.raises(OperationFailure) as caught:
            session.commit_transaction()
        assert caught.value.code == 251
        assert heir.d.c.find_one()["v"] == 2


# --- indexes --------------------------------------------------------------------------------------


def test_only_what_a_partial_ttl_index_covers_expires(db):
    """Archived batches go, pending ones stay, however old."""
    db.staging.create_index(
        "createdAt",
        name="archived_ttl",
        expireAfterSeconds=1,
        partialFilterExpression={"status": "archived"},
    )
    old = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    db.staging.insert_many(
        [{"_id": status, "status": status, "createdAt": old} for status in ("archived", "pending")]
    )
    await_that(lambda: [each["_id"] for each in db.staging.find()] == ["pending"])
    index = db.staging.index_information()["archived_ttl"]
    assert index["expireAfterSeconds"] == 1
    assert dict(index["partialFilterExpression"]) == {"status": "archived"}


def test_a_unique_index_names_itself(db):
    """In an insert and in an update."""
    db.c.create_index([("a", 1), ("b", -1)], unique=True, name="a_b")
    db.c.insert_many([{"_id": 1, "a": 1, "b": 1}, {"_id": 2, "a": 2, "b": 2}])
    with pytest.raises(DuplicateKeyError, match="index: a_b") as caught:
        db.c.insert_one({"a": 1, "b": 1})
    assert caught.value.details is not None
    assert caught.value.details["keyPattern"] == {"a": 1, "b": -1}
    with pytest.raises(DuplicateKeyError, match="index: a_b"):
        db.c.update_one({"_id": 2}, {"$set": {"a": 1, "b": 1}})
    with pytest.raises(DuplicateKeyError, match="index: a_b"):
        db.c.find_one_and_update({"_id": 2}, {"$set": {"a": 1, "b": 1}})


# --- what is sent again ---------------------------------------------------------------------------


def test_a_write_that_is_sent_again_is_done_once(start_mongodb):
    """Also when the server was restarted in between; its reply is the first one's."""
    server = start_mongodb()
    command = {
        "update": "c",
        "updates": [{"q": {"_id": 0}, "u": {"$inc": {"v": 1}}}],
        "lsid": {"id": bson.Binary(b"sixteen bytes ..", 4)},
        "txnNumber": bson.Int64(1),
    }
    with server.client(**SHORT) as client:
        client.d.c.insert_one({"_id": 0, "v": 0})
        replies = [_send(server, "d", command), _send(server, "d", command)]
        server.kill_front()
        server.start_front()
        replies.append(_send(server, "d", command))
        assert client.d.c.find_one()["v"] == 1
        assert [(each["ok"], each["n"]) for each in replies] == [(1, 1)] * 3
        _send(server, "d", {**command, "txnNumber": bson.Int64(2)})
        assert client.d.c.find_one()["v"] == 2


def test_a_commit_that_is_sent_again_to_a_restarted_server_is_believed(start_mongodb):
    """The first one was done, and its answer may have been lost: it is not done twice."""
    server = start_mongodb()
    begin = {
        "insert": "c",
        "documents": [{"_id": 1}],
        "lsid": {"id": bson.Binary(b"sixteen bytes ..", 4)},
        "txnNumber": bson.Int64(1),
        "startTransaction": True,
        "autocommit": False,
    }
    end = {
        "commitTransaction": 1,
        **{key: begin[key] for key in ("lsid", "txnNumber", "autocommit")},
    }
    assert _send(server, "d", begin)["n"] == 1
    assert _send(server, "admin", end)["ok"] == 1
    server.kill_front()
    server.start_front()
    assert _send(server, "admin", end)["ok"] == 1
    assert _send(server, "admin", {**end, "txnNumber": bson.Int64(2)})["code"] == 251
    with server.client(**SHORT) as client:
        assert client.d.c.count_documents({}) == 1


def test_a_commit_that_never_came_is_refused_by_a_restarted_server(start_mongodb):
    """The open transaction died with the front, and its documents are free."""
    server = start_mongodb()
    with server.client(**SHORT) as client:
        client.d.c.insert_one({"_id": 0, "v": 0})
        with client.start_session() as session:
            session.start_transaction()
            client.d.c.update_one({"_id": 0}, {"$set": {"v": 1}}, session=session)
            server.kill_front()
            server.start_front()
            with pytest.raises(PyMongoError) as caught:
                session.commit_transaction()
            assert caught.value.has_error_label("TransientTransactionError")
        assert client.d.c.update_one({"_id": 0, "v": 0}, {"$set": {"v": 2}}).matched_count == 1


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["front", "engine"])
def test_what_was_acknowledged_survives_kill_9(start_mongodb, victim):
    """Transactions of two documents, cut anywhere: both or none; no acknowledged one is lost."""
    server = start_mongodb(fsync=True)
    acknowledged: list[int] = []
    unknown: list[int] = []
    stop = threading.Event()

    def write() -> None:
        with server.client(**SHORT) as client:
            client.d.pairs.insert_one({"_id": "first"})
            for n in range(1_000_000):
                if stop.is_set():
                    return
                try:
                    with client.start_session() as session, session.start_transaction():
                        client.d.pairs.insert_one({"_id": f"a{n}"}, session=session)
                        client.d.pairs.insert_one({"_id": f"b{n}"}, session=session)
                except PyMongoError:
                    unknown.append(n)
                else:
                    acknowledged.append(n)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            so_far = len(acknowledged)
            await_that(lambda so_far=so_far: len(acknowledged) > so_far + 20)
            if victim == "front":
                server.kill_front()
                server.start_front()
            else:
                server.kill_engine()
                server.engine.start()
    finally:
        stop.set()
        writer.join(60)
    with server.client(**SHORT) as client:
        found = {each["_id"] for each in client.d.pairs.find()}
    assert not writer.is_alive()
    assert all({f"a{n}", f"b{n}"} <= found for n in acknowledged)
    assert all((f"a{n}" in found) == (f"b{n}" in found) for n in unknown)


def test_without_its_engine_it_is_as_good_as_dead(start_mongodb):
    """A client finds no server, rather than one that answers with errors; then finds it again."""
    server = start_mongodb()
    with server.client(serverSelectionTimeoutMS=1500) as client:
        client.d.c.insert_one({"_id": 1})
        server.kill_engine()
        with pytest.raises(ConnectionFailure):
            client.d.c.find_one()
        with pytest.raises(ServerSelectionTimeoutError):
            client.d.c.find_one()
        server.engine.start()
        assert client.d.c.find_one() == {"_id": 1}


def test_a_lost_answer_to_a_commit_is_an_unknown_result(start_mongodb):
    """The engine dies below an open transaction: the client is not told what nobody knows."""
    server = start_mongodb()
    with server.client(serverSelectionTimeoutMS=1500) as client:
        client.d.c.insert_one({"_id": 0})
        with client.start_session() as session:
            session.start_transaction()
            client.d.c.insert_one({"_id": 1}, session=session)
            server.kill_engine()
            with pytest.raises(AutoReconnect) as caught:
                session.commit_transaction()
            assert caught.value.has_error_label("UnknownTransactionCommitResult")
            server.engine.start()
            # Sent again it is known: it had not got there.
            with pytest.raises(OperationFailure) as settled:
                session.commit_transaction()
            assert settled.value.has_error_label("TransientTransactionError")
        assert client.d.c.count_documents({}) == 1


def _send(server, db, command):
    """Send a command as it stands, in the session that it names: no driver would let us."""
    document = bson.encode({**command, "$db": db})
    message = struct.pack("<iiiiIB", 21 + len(document), 1, 0, 2013, 0, 0) + document
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(message)
        with connection.makefile("rb") as answer:
            (size,) = struct.unpack("<i", answer.read(4))
            return bson.decode(answer.read(size - 4)[17:])
