"""A batch and the offset that is true with it, as one: the three protocols.

Every commit must find the offset at (epoch, n) as its holder knows it. Where it does not, or where
its result is unknown, the offset document is asked under our token: it says whether the commit
landed, and None means that somebody else acquired the source.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn

import pymongo
from bson import Binary
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.write_concern import WriteConcern

from caretaker.binlog import parts
from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import source_id
from caretaker.errors import FencedError, RefusedError
from resources.clock import Clock
from resources.mongodb import layout, staging
from resources.mongodb.failures import DUPLICATE_KEY, code_of, is_unknown
from resources.mongodb.offsets import Held, Marks, Offset, advance, offset_of
from resources.mongodb.retries import Retries
from resources.mongodb.settings import Protocol
from resources.mongodb.staging import Ahead, BatchStatus

#: Acknowledged is what a failover keeps; a majority that is not there is noticed.
DURABLE = WriteConcern("majority", j=True, wtimeout=10_000)

#: In an offset document, without transactions: no row that is not committed yet is older.
_SINCE = "uncommitted_since"
#: What a source's clock may go back from one batch to the next before that has to be written down.
_EASE = timedelta(seconds=60)
_MOST_IN = 1000
_INT32, _MILLISECONDS = struct.Struct("<i"), struct.Struct("<q")

#: The head of a large document must fit into its staged batch, too.
_LARGEST = parts.LARGEST_DOCUMENT - 65_536

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Commit:
    """What one commit writes; each attempt the same."""

    held: Held
    batch: Batch
    staged: str | None
    update: Document


class Commits:
    """Writes batches for whoever holds a source."""

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        db: Database[Document],
        protocol: Protocol,
        retries: Retries,
        clock: Clock,
    ) -> None:
        self._client = client
        self._protocol = protocol
        self._retries = retries
        self._clock = clock
        self._db = db.with_options(write_concern=DURABLE)
        self._offsets = self._db[layout.OFFSETS]
        self._staging = self._db[layout.STAGING]
        # Documents are bytes already, in the order in which they are to be kept.
        self._rows = self._db[layout.ROW_CHANGES]
        self._since: dict[str, datetime] = {}

    # --- before the transaction ---------------------------------------------------------------

    def fit(self, held: Held, batch: Batch) -> Batch:
        """Return the batch with heads instead of documents that are too large.

        Their pieces are written first: no head ever points at what is not there.

        Raises:
            FencedError: Pieces of another content are there, and the source is not ours any more.
        """
        if batch.bytes <= _LARGEST:
            return batch
        heads = []
        for document in batch.documents:
            split = parts.split(document, largest=_LARGEST)
            if split.pieces:
                self._put_pieces(held, split.pieces)
            heads.append(split.head)
        # Its crc stays that of the whole documents: what the next batch follows.
        return replace(batch, documents=tuple(heads), bytes=sum(map(len, heads)))

    def stage(self, held: Held, batch: Batch, ahead: Ahead, marks: Marks) -> str:
        """Write a batch down and return its key; again it changes nothing."""
        documents, head = staging.staged(held, batch, ahead, marks, self._clock.now())

        def attempt() -> None:
            try:
                self._staging.insert_many([documents, head], ordered=False)
            except BulkWriteError as error:
                if not _only_doubles(error):
                    raise

        self._retries.run(attempt, "staging a batch")
        return str(head["_id"])

    # --- the commit ---------------------------------------------------------------------------

    def commit(self, held: Held, batch: Batch, staged: str | None, marks: Marks) -> None:
        """Make a batch the last one of the trail, once, whatever happens on the way.

        Raises:
            FencedError: Somebody else has acquired the source; nothing was written.
            TransientError: Not within five tries; the same call may be made again.
            RefusedError: It cannot work.
        """
        commit = _Commit(held, batch, staged, advance(held, batch, marks, self._clock.now()))
        if self._protocol is Protocol.IDEMPOTENT and batch.documents:
            self._reach_back(held, batch, commit.update)
        self._retries.run(lambda: self._attempt(commit), "committing a batch")
        held.moved(batch)

    def clean_up(self, held: Held) -> None:
        """Delete staged batches that are committed."""

        def attempt() -> None:
            wanted = {"status": BatchStatus.COMMITTED, "source": held.source}
            keys = [each["_id"] for each in self._staging.find(wanted, {"_id": 1})]
            if keys:
                documents = [staging.documents_id(key) for key in keys]
                self._staging.delete_many({"_id": {"$in": documents + keys}})

        self._retries.run(attempt, "cleaning up staged batches")

    def archive(self, key: str, reason: str) -> None:
        """Put a staged batch aside, for a week."""
        now = self._clock.now()
        aside = {"status": BatchStatus.ARCHIVED, "reason": reason, "archivedAt": now}

        def attempt() -> None:
            # The week begins now, however long it was pending: the head's, too.
            for each in (staging.documents_id(key), key):
                self._staging.update_one({"_id": each}, {"$set": {**aside, "createdAt": now}})

        self._retries.run(attempt, "archiving a staged batch")

    def _attempt(self, commit: _Commit) -> None:
        held = commit.held
        counts = self._retries.counts
        counts.attempts += 1
        try:
            if self._protocol is Protocol.IDEMPOTENT:
                found = self._insert_then_advance(commit)
            else:
                found = self._transact(commit)
        except PyMongoError as error:
            counts.failed += 1
            if code_of(error) == DUPLICATE_KEY:
                _doubled(held, error)
            if not is_unknown(error):
                raise
            self._retries.note(error)
            found = False
            self._retries.on_event("unknown_result", {"source": held.source, "n": held.n + 1})
        if found or self._settle(held):
            return
        # Our epoch was not the one we thought, or the commit did not land: once more.
        raise AutoReconnect("the commit did not land")

    def _transact(self, commit: _Commit) -> bool:
        """Return whether the offset was where we left it; if so, all is committed."""
        held, batch, staged = commit.held, commit.batch, commit.staged
        session = held.session
        session.start_transaction(write_concern=DURABLE)
        try:
            # The offset first: its lock makes every other holder conflict before it wrote a row.
            moved = self._offsets.update_one(
                {"_id": held.source, "epoch": held.epoch, "n": held.n},
                commit.update,
                session=session,
            )
            if moved.matched_count != 1:
                session.abort_transaction()
                return False
            if batch.documents:
                self._rows.insert_many(
                    [RawBSONDocument(document) for document in batch.documents],
                    ordered=False,
                    session=session,
                )
            if staged is not None:
                self._staging.update_one(
                    {"_id": staged},
                    {"$set": {"status": BatchStatus.COMMITTED}},
                    session=session,
                )
        except BaseException:
            if session.in_transaction:
                session.abort_transaction()
            raise
        session.commit_transaction()
        return True

    def _insert_then_advance(self, commit: _Commit) -> bool:
        """The protocol without transactions: what is inserted twice is the same, by its `_id`."""
        held, batch, staged = commit.held, commit.batch, commit.staged
        if batch.documents:
            try:
                self._rows.insert_many(
                    [RawBSONDocument(document) for document in batch.documents], ordered=False
                )
            except BulkWriteError as error:
                self._pass_doubles(held, batch, error)
        moved = self._offsets.update_one(
            {"_id": held.source, "epoch": held.epoch, "n": held.n},
            commit.update,
        )
        if moved.matched_count != 1:
            return False
        if staged is not None:
            self._staging.update_one({"_id": staged}, {"$set": {"status": BatchStatus.COMMITTED}})
        return True

    def _pass_doubles(self, held: Held, batch: Batch, error: BulkWriteError) -> None:
        """Take E11000, and nothing else, for a document that an earlier try has inserted."""
        if not _only_doubles(error):
            raise error
        errors = (error.details or {}).get("writeErrors", [])
        raw: Collection[Any] = self._db.get_collection(
            layout.ROW_CHANGES, self._db.codec_options.with_options(document_class=RawBSONDocument)
        )
        given = {
            bytes(RawBSONDocument(batch.documents[each["index"]])["_id"]): batch.documents[
                each["index"]
            ]
            for each in errors
        }
        ids = [Binary(key) for key in given]
        for there in raw.find({"_id": {"$in": ids}}):
            ours = given[bytes(there["_id"])]
            if there.raw == ours:
                continue
            if int(there["seq"]) <= held.seq:
                _doubled(held, error)
            # Left behind by a run with other filters, and not committed: the trail is ours now.
            self._rows.replace_one(
                {"_id": there["_id"], "seq": there["seq"]}, RawBSONDocument(ours)
            )

    def _reach_back(self, held: Held, batch: Batch, update: Document) -> None:
        """See that the offset document says how far back rows may be that are not committed.

        Without transactions rows are inserted first. Should we die then, whoever comes next finds
        them by it. Each commit moves it on; before a batch that goes further back it is written.
        """
        oldest = _oldest(batch.documents)
        update["$set"][_SINCE] = reached = oldest - _EASE
        known = self._since.get(held.source)
        if known is None or oldest < known:
            mine = {"_id": held.source, "token": held.token}
            self._retries.run(
                lambda: self._offsets.update_one(mine, {"$set": {_SINCE: reached}}),
                "saying how far back a batch goes",
            )
        self._since[held.source] = reached

    def forget_uncommitted(self, held: Held) -> int:
        """Delete rows that a dead run inserted and did not count; return how many.

        Only the protocol without transactions leaves any. The binlog gives them again, but maybe
        not to us: other filters, or another server, may leave them out.
        """
        if self._protocol is not Protocol.IDEMPOTENT:
            return 0
        offset = self._retries.run(
            lambda: self._offsets.find_one({"_id": held.source}) or {}, "reading the offset"
        )
        since = offset.get(_SINCE)
        if since is None:
            return 0
        ours = source_id(held.source)
        wanted = {"ts": {"$gte": since}, "seq": {"$gt": held.seq}}

        def attempt() -> int:
            found = [each["_id"] for each in self._rows.find(wanted, {"_id": 1})]
            found = [each for each in found if bytes(each).startswith(ours)]
            for start in range(0, len(found), _MOST_IN):
                self._rows.delete_many({"_id": {"$in": found[start : start + _MOST_IN]}})
            return len(found)

        return self._retries.run(attempt, "deleting rows that were not committed")

    def _put_pieces(self, held: Held, pieces: Sequence[bytes]) -> None:
        """Write the pieces of one document, in place of what a run with other filters left."""
        stale = False
        for piece in pieces:
            stale |= self._retries.run(partial(self._put_piece, held, piece), "writing a piece")
        if stale:
            ours = [bytes(RawBSONDocument(piece)["_id"]) for piece in pieces]
            self._retries.run(partial(self._drop_others, ours), "deleting pieces of before")

    def _drop_others(self, ours: Sequence[bytes]) -> None:
        """Delete the pieces of a head that are not among its own; their ids are of one length."""
        collection = self._db[layout.PARTS]
        first, last = parts.piece_ids(ours[0])
        found = collection.find({"_id": {"$gte": Binary(first), "$lte": Binary(last)}}, {"_id": 1})
        others = [each["_id"] for each in found if bytes(each["_id"]) not in ours]
        collection.delete_many({"_id": {"$in": others}})

    def _put_piece(self, held: Held, piece: bytes) -> bool:
        """Write a piece; return whether another one was in its place."""
        collection: Collection[Any] = self._db.get_collection(
            layout.PARTS, self._db.codec_options.with_options(document_class=RawBSONDocument)
        )
        document = RawBSONDocument(piece)
        try:
            collection.insert_one(document)
        except DuplicateKeyError as error:
            mine = {"_id": document["_id"]}
            there = collection.find_one(mine)
            if there is not None and there.raw == piece:
                return False
            self._must_be_ours(held, document["of"], error)
            collection.replace_one(mine, document, upsert=True)
            return True
        return False

    def _must_be_ours(self, held: Held, head: Any, error: DuplicateKeyError) -> None:
        """Refuse to replace pieces of what is committed, by us or by who has the source now."""
        if self._offsets.find_one({"_id": held.source, "token": held.token}) is None:
            fenced(held, self._offset(held))
        there = self._rows.find_one({"_id": head}, {"seq": 1})
        if there is not None and int(there["seq"]) <= held.seq:
            _doubled(held, error)

    # --- the truth ----------------------------------------------------------------------------

    def _settle(self, held: Held) -> bool:
        """Return whether the commit landed; whatever was undecided is decided now.

        Raises:
            FencedError: The source is somebody else's.
        """
        kill_session(self._client, held.session)
        found = self._offsets.find_one_and_update(
            {"_id": held.source, "token": held.token},
            {"$inc": {"epoch": 1}},
            return_document=pymongo.ReturnDocument.AFTER,
        )
        if found is None:
            fenced(held, self._offset(held))
        held.epoch = int(found["epoch"])
        if found["n"] not in {held.n, held.n + 1}:
            fenced(held, offset_of(found))
        return bool(found["n"] == held.n + 1)

    def _offset(self, held: Held) -> Offset:
        return offset_of(self._offsets.find_one({"_id": held.source}) or {"_id": held.source})


def _oldest(documents: Sequence[bytes]) -> datetime:
    """Return the least `ts`, which stands right behind the `_id`."""
    return datetime.fromtimestamp(min(map(_milliseconds, documents)) / 1000, UTC)


def _milliseconds(document: bytes) -> int:
    if document[4:9] == b"\x05_id\0":
        (length,) = _INT32.unpack_from(document, 9)
        at = 14 + length
        if document[at : at + 4] == b"\x09ts\0":
            return int(_MILLISECONDS.unpack_from(document, at + 4)[0])
    raise ValueError("a document that does not begin with _id and ts")


def _only_doubles(error: BulkWriteError) -> bool:
    """Whether all that failed is there already, and the rest is as durable as it was to be."""
    details = error.details or {}
    return not details.get("writeConcernErrors") and all(
        each["code"] == DUPLICATE_KEY for each in details.get("writeErrors", [])
    )


def kill_session(client: pymongo.MongoClient[Document], session: Any) -> None:
    """Abort what a session has open, as far as the server lets us; nothing depends on it."""
    lsid = session if isinstance(session, dict) else getattr(session, "session_id", None)
    if lsid is None:
        return
    with contextlib.suppress(PyMongoError):
        client.admin.command("killSessions", [{"id": lsid["id"]}])


def fenced(held: Held, now: Offset) -> NoReturn:
    """Say who has it."""
    raise FencedError(
        f"{held.source}: acquired by {now.holder} (epoch {now.epoch}, ours was {held.epoch}); "
        "this run writes nothing more",
        target=held.source,
    )


def _doubled(held: Held, error: PyMongoError) -> NoReturn:
    details = (getattr(error, "details", None) or {}).get("writeErrors") or [{}]
    raise RefusedError(
        f"{held.source}: a document after seq {held.seq} is in row_changes already, with other "
        f"content ({details[0].get('errmsg', 'E11000')})",
        target=held.source,
        hint="two sources share a source id, or the source's binlogs were reset: raise its "
        "incarnation",
        code=DUPLICATE_KEY,
    ) from None
