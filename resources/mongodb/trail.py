"""The door to the audit trail: acquire a source, commit batches, read what is there."""

from __future__ import annotations

import contextlib
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from caretaker.binlog.batcher import Batch
from caretaker.binlog.columns import KnownType
from caretaker.binlog.model import Checkpoint
from caretaker.binlog.schema_versions import known_types_of
from caretaker.errors import RefusedError
from resources.clock import Clock
from resources.mongodb import layout
from resources.mongodb.commits import DURABLE, Commits, kill_session
from resources.mongodb.failures import NoTransactionsError
from resources.mongodb.layout import Problem
from resources.mongodb.offsets import Held, Holder, Marks, Offset
from resources.mongodb.proof import prove_transactions
from resources.mongodb.reads import Reads, Status
from resources.mongodb.recovery import Recovered, recover
from resources.mongodb.retries import Counts, OnEvent, Retries, nobody
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.staging import Ahead

T = TypeVar("T")
Document = dict[str, Any]


class Trail:
    """A database with the trails of sources.

    Attributes:
        protocol: What commits are made by; never `auto`.
        warnings: What an operator is to be told once.
        reads: History, status and the like.
        retries: Set its `on_event` and `cancel` to those of the run.
    """

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        settings: MongoDBSettings,
        protocol: Protocol,
        retries: Retries,
        *,
        warnings: Iterable[str] = (),
        clock: Clock | None = None,
    ) -> None:
        """Take an open client; `open` proves what it can do."""
        self.settings = settings
        self.protocol = protocol
        self.warnings = tuple(warnings)
        self.retries = retries
        self._client = client
        self._clock = clock or Clock()
        self._db = client.get_database(settings.database, write_concern=DURABLE)
        self._offsets = self._db[layout.OFFSETS]
        self._commits = Commits(client, self._db, protocol, retries, self._clock)
        self._schemas: set[str] = set()
        self.reads = Reads(self._db)

    @classmethod
    def open(
        cls,
        settings: MongoDBSettings,
        protocol: Protocol = Protocol.STAGED,
        *,
        cancel: threading.Event | None = None,
        on_event: OnEvent = nobody,
    ) -> Self:
        """Connect, and prove that transactions work where the protocol wants them.

        Raises:
            NoTransactionsError: They do not, and the protocol is `staged` or `direct`.
            RefusedError: User, password, rights or address are wrong.
            TransientError: No primary could be found within five tries.
        """
        retries = Retries(settings, cancel or threading.Event(), on_event)
        client = connect(settings)
        try:
            chosen, warnings = _prove(client, settings, protocol, retries)
        except BaseException:
            client.close()
            raise
        for warning in warnings:
            on_event("protocol_chosen", {"protocol": str(chosen), "reason": warning})
        return cls(client, settings, chosen, retries, warnings=warnings)

    @classmethod
    def open_to_read(cls, settings: MongoDBSettings) -> Self:
        """Connect for status, history and pause: nothing is proved, nothing committed."""
        return cls(connect(settings), settings, Protocol.DIRECT, Retries(settings))

    def close(self) -> None:
        """Close the connections; what a session has open is aborted by the server."""
        self._client.close()

    def __enter__(self) -> Self:
        """Return itself, to be closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def counts(self) -> Counts:
        """Attempts, failures, retries and lost connections since it was opened."""
        return self.retries.counts

    # --- collections --------------------------------------------------------------------------

    def setup(self) -> list[str]:
        """Make collections and indexes that are missing, and return what was made."""
        return self._run(lambda: layout.make(self._db), "making collections and indexes")

    def check(self) -> list[Problem]:
        """Return what `setup` would have to make."""
        return self._run(lambda: list(layout.problems(self._db)), "looking at indexes")

    def announces_transactions(self) -> bool:
        """Return whether the server says that it is one of a replica set, or stands before one.

        No proof, which would have to write: `open` proves it.
        """
        said = self._run(lambda: self._client.admin.command("hello"), "asking what it is")
        return "setName" in said or said.get("msg") == "isdbgrid"

    # --- who writes ---------------------------------------------------------------------------

    def acquire(self, source: str, holder: Holder) -> Held:
        """Take a source over: whoever held it commits nothing more.

        What a dead holder's transaction has open is aborted first, or we should wait for its end.
        """
        token = uuid.uuid4().hex
        session = self._client.start_session()

        def attempt() -> Document:
            before = self._offsets.find_one({"_id": source}, {"lsid": 1})
            if before is not None and before.get("lsid") is not None:
                kill_session(self._client, {"id": before["lsid"]})
            with contextlib.suppress(DuplicateKeyError):
                found = self._offsets.find_one_and_update(
                    {"_id": source},
                    {
                        "$inc": {"epoch": 1},
                        "$set": {
                            "token": token,
                            "owner": holder.document(),
                            "lsid": session.session_id["id"],
                            "acquired_at": self._clock.now(),
                        },
                        "$setOnInsert": {"n": 0, "seq": 0, "crc": 0},
                    },
                    upsert=True,
                    return_document=pymongo.ReturnDocument.AFTER,
                )
                if found is not None:
                    return found
            return attempt()  # somebody else made the document in this very moment

        try:
            found = self._run(attempt, f"acquiring {source}")
        except BaseException:
            session.end_session()
            raise
        return Held.by(found, token, session)

    def remember_spool(self, held: Held, path: str) -> None:
        """Write down where batches will wait while MongoDB is away: who mends a loss looks there.

        "" for nowhere.
        """
        if path != held.saved.spool:
            self._run(
                lambda: self._offsets.update_one(
                    {"_id": held.source, "token": held.token}, {"$set": {"spool": path}}
                ),
                "writing down where the spool is",
            )

    def release(self, held: Held) -> None:
        """End the session; the source stays ours in name until somebody acquires it."""
        with contextlib.suppress(PyMongoError):
            held.session.end_session()

    # --- what is written ----------------------------------------------------------------------

    def recover(self, held: Held) -> Recovered:
        """Promote or archive the batches that a dead run staged; before the first commit.

        Without transactions: delete the rows that it inserted and did not count.

        `held.config_hash` must be this run's by now.
        """
        return recover(self._db, self._commits, self.retries, held)

    def commit(self, held: Held, batch: Batch, marks: Marks | None = None) -> None:
        """Make a batch the last one of the trail, once, whatever happens on the way.

        Raises:
            FencedError: Somebody else has acquired the source; nothing was written.
            TransientError: Not within five tries; the same call may be made again.
            RefusedError: It cannot work.
        """
        batch, marks = self.fit(held, batch), marks or held.marks
        staged = self.stage(held, batch, Ahead(held.n + 1, held.crc), marks)
        self.commit_staged(held, batch, staged, marks)

    def fit(self, held: Held, batch: Batch) -> Batch:
        """Return the batch with heads for documents over 16 MB, whose pieces are then there."""
        return self._commits.fit(held, batch)

    def stage(self, held: Held, batch: Batch, ahead: Ahead, marks: Marks) -> str | None:
        """Write a batch down, where the protocol does: it is to be committed as `ahead.n`."""
        if self.protocol is not Protocol.STAGED:
            return None
        return self._commits.stage(held, batch, ahead, marks)

    def commit_staged(self, held: Held, batch: Batch, staged: str | None, marks: Marks) -> None:
        """Commit a batch that fits, and of which `stage` told the key."""
        self._commits.commit(held, batch, staged, marks)

    def clean_up(self, held: Held) -> None:
        """Delete staged batches that are committed: now and then, and at the end."""
        if self.protocol is Protocol.STAGED:
            self._commits.clean_up(held)

    def append(self, held: Held, documents: Sequence[bytes], checkpoint: Checkpoint) -> None:
        """Commit documents of our own: a gap, another topology."""
        data = b"".join(documents)
        rows = len(documents)
        batch = Batch(
            tuple(documents),
            checkpoint,
            held.seq + 1,
            checkpoint.seq,
            rows,
            len(data),
            zlib.crc32(data),
            boundary=True,
        )
        self.commit(held, batch)

    def remember_schema(self, key: str, schema: Mapping[str, Any]) -> bool:
        """Store a schema version once; return whether it was new."""
        if key in self._schemas:
            return False
        document = {"_id": key, **schema, "seen_at": self._clock.now()}

        def attempt() -> bool:
            try:
                self._db[layout.SCHEMAS].insert_one(document)
            except DuplicateKeyError:
                return False
            return True

        new = self._run(attempt, "storing a schema version")
        self._schemas.add(key)
        return new

    def known_types(self, db: str, table: str) -> dict[str, KnownType] | None:
        """Return what was known of a table's columns when it was read last; None if it never was.

        Of MariaDB: types that its table maps do not tell.
        """
        wanted = {"db": db, "tbl": table}
        newest = self._run(
            lambda: list(self._db[layout.SCHEMAS].find(wanted).sort("seen_at", -1).limit(1)),
            "looking for a schema version",
        )
        return known_types_of(newest[0]) if newest else None

    # --- an operator's word -------------------------------------------------------------------

    def pause(self, source: str, by: str, reason: str) -> None:
        """Let nobody begin; who runs looks every few seconds, writes what it has read and ends."""
        told = {"by": by, "reason": reason, "at": self._clock.now()}
        self._run(
            lambda: self._offsets.update_one(
                {"_id": source},
                {"$set": {"paused": told}, "$setOnInsert": {"epoch": 0, "n": 0, "seq": 0}},
                upsert=True,
            ),
            f"pausing {source}",
        )

    def resume(self, source: str) -> bool:
        """Lift the pause; return whether there was one."""
        changed = self._run(
            lambda: self._offsets.update_one(
                {"_id": source, "paused": {"$ne": None}}, {"$unset": {"paused": ""}}
            ),
            f"resuming {source}",
        )
        return bool(changed.matched_count)

    def offset(self, source: str) -> Offset:
        """Return how far a source is, without acquiring it."""
        return self._run(lambda: self.reads.offset(source), "reading the offset")

    def status(self, source: str) -> Status:
        """Return how a source's trail stands."""
        return self._run(lambda: self.reads.status(source), "reading the status")

    def _run(self, attempt: Callable[[], T], doing: str) -> T:
        return self.retries.run(attempt, doing)


def connect(settings: MongoDBSettings) -> pymongo.MongoClient[Document]:
    """Return a client; nothing is sent yet.

    Raises:
        RefusedError: The URI names what cannot be had, such as a host without SRV records.
    """
    try:
        return pymongo.MongoClient(settings.uri, **settings.options())
    except (PyMongoError, ValueError, TypeError) as error:
        text = str(error)
        for secret in settings.secrets:
            text = text.replace(secret, "***")
        raise RefusedError(f"MONGODB_URI cannot be used: {text}", target="MONGODB_URI") from None


def _prove(
    client: pymongo.MongoClient[Document],
    settings: MongoDBSettings,
    protocol: Protocol,
    retries: Retries,
) -> tuple[Protocol, list[str]]:
    db = client.get_database(settings.database)
    if protocol is Protocol.IDEMPOTENT:
        retries.run(lambda: layout.create(db, layout.PROOF), "looking for the right to write")
        return protocol, []
    try:
        retries.run(lambda: prove_transactions(client, db, settings.place), "proving transactions")
    except NoTransactionsError as error:
        if protocol is not Protocol.AUTO:
            raise
        return Protocol.IDEMPOTENT, [f"{error}: going on without transactions (idempotent)"]
    return (Protocol.STAGED if protocol is Protocol.AUTO else protocol), []
