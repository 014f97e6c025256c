"""Collections in memory, with versions: a transaction sees those that were committed before it."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from lab.mongodb.matching import at, key_of, matches
from lab.mongodb.replies import (
    RefusedCommandError,
    duplicate_key,
    no_such_transaction,
    write_conflict,
)

Document = dict[str, Any]
Namespace = tuple[str, str]


@dataclass(slots=True)
class Version:
    """A document since a commit; `raw` is None where it was deleted."""

    since: int
    raw: bytes | None
    _decoded: Document | None = None

    @property
    def decoded(self) -> Document:
        """The document, as often as it is asked for."""
        if self._decoded is None:
            self._decoded = bson.decode(self.raw or b"\x05\0\0\0\0", _CODEC)
        return self._decoded


_CODEC: bson.CodecOptions[Document] = bson.CodecOptions(tz_aware=True)


@dataclass(slots=True)
class Collection:
    """Its documents by key, and its indexes by name."""

    versions: dict[Any, list[Version]] = field(default_factory=dict)
    indexes: dict[str, Document] = field(
        default_factory=lambda: {"_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}
    )


@dataclass(slots=True, eq=False)
class Transaction:
    """What a session has open.

    Attributes:
        since: It sees what was committed up to here.
        writes: What it has written, by namespace and key; None is a deletion.
    """

    session: bytes
    number: int
    since: int
    born: float
    writes: dict[tuple[Namespace, Any], bytes | None] = field(default_factory=dict)
    state: str = "open"


class DuplicateError(Exception):
    """E11000, as the fields of a write error."""

    def __init__(self, fields: Document) -> None:
        super().__init__(fields["errmsg"])
        self.fields = fields


class Store:
    """All databases of a server; one lock for all of it."""

    def __init__(self, *, transaction_lifetime_s: float = 60.0) -> None:
        self.lock = threading.RLock()
        self.collections: dict[Namespace, Collection] = {}
        self.transactions: dict[bytes, Transaction] = {}
        self._lifetime_s = transaction_lifetime_s
        self._released = threading.Condition(self.lock)
        self._clock = itertools.count(1)
        self._now = 0
        # Which open transaction has written a document.
        self._locks: dict[tuple[Namespace, Any], Transaction] = {}

    # --- reading ------------------------------------------------------------------------------

    def documents(
        self, space: Namespace, wanted: Document, within: Transaction | None
    ) -> list[tuple[Any, bytes]]:
        """Return keys and documents that a filter means, in the order in which they came."""
        with self.lock:
            found = self.collections.get(space)
            written = self._written(space, within)
            if found is None and not written:
                return []
            keys = self._candidates(found, written, wanted)
            result = []
            for key in keys:
                version = self._visible(found, space, key, within)
                if version.raw is not None and matches(version.decoded, wanted):
                    result.append((key, version.raw))
            return result

    def _candidates(
        self, found: Collection | None, written: dict[Any, bytes | None], wanted: Document
    ) -> Iterator[Any] | list[Any]:
        if "_id" in wanted and not isinstance(wanted["_id"], dict):
            return [key_of(wanted["_id"])]
        asked = wanted.get("_id")
        if isinstance(asked, dict) and list(asked) == ["$in"]:
            return [key_of(each) for each in asked["$in"]]
        there = found.versions if found is not None else {}
        return [*there, *(key for key in written if key not in there)]

    def _written(self, space: Namespace, within: Transaction | None) -> dict[Any, bytes | None]:
        if within is None:
            return {}
        return {key: raw for (where, key), raw in within.writes.items() if where == space}

    def _visible(
        self, found: Collection | None, space: Namespace, key: Any, within: Transaction | None
    ) -> Version:
        if within is not None and (space, key) in within.writes:
            return Version(0, within.writes[space, key])
        versions = found.versions.get(key, []) if found is not None else []
        until = self._now if within is None else within.since
        for version in reversed(versions):
            if version.since <= until:
                return version
        return Version(0, None)

    # --- writing ------------------------------------------------------------------------------

    def insert(self, space: Namespace, raw: bytes, within: Transaction | None) -> None:
        """Insert a document.

        Raises:
            DuplicateError: There is one of its `_id`, or of a unique index's key.
        """
        identity = RawBSONDocument(raw, _RAW)["_id"]
        key = key_of(identity)
        with self.lock:
            self._take(space, key, within, conflicts=False)
            found = self.collection(space)
            now = self._latest(found, space, key, within)
            if now is not None:
                raise DuplicateError(
                    duplicate_key(".".join(space), "_id_", {"_id": 1}, {"_id": identity})
                )
            self._check_unique(space, found, key, raw, within)
            if within is not None and found.versions.get(key):
                self._take(space, key, within)
            self._put(space, key, raw, within)

    def replace(
        self, space: Namespace, key: Any, raw: bytes | None, within: Transaction | None
    ) -> None:
        """Change or delete a document."""
        with self.lock:
            self._take(space, key, within)
            if raw is not None:
                self._check_unique(space, self.collection(space), key, raw, within)
            self._put(space, key, raw, within)

    def collection(self, space: Namespace) -> Collection:
        """Return a collection, made where it is missing."""
        with self.lock:
            return self.collections.setdefault(space, Collection())

    def _latest(
        self, found: Collection, space: Namespace, key: Any, within: Transaction | None
    ) -> bytes | None:
        if within is not None and (space, key) in within.writes:
            return within.writes[space, key]
        versions = found.versions.get(key)
        return versions[-1].raw if versions else None

    def _check_unique(
        self,
        space: Namespace,
        found: Collection,
        key: Any,
        raw: bytes,
        within: Transaction | None,
    ) -> None:
        unique = [index for index in found.indexes.values() if index.get("unique")]
        if not unique:
            return
        document = bson.decode(raw, _CODEC)
        for index in unique:
            if not matches(document, index.get("partialFilterExpression", {})):
                continue
            mine = {path: _or_none(at(document, path)) for path in index["key"]}
            others = self.documents(space, mine, within)
            if any(other != key for other, _ in others):
                raise DuplicateError(
                    duplicate_key(".".join(space), index["name"], index["key"], mine)
                )

    def _take(
        self, space: Namespace, key: Any, within: Transaction | None, *, conflicts: bool = True
    ) -> None:
        """Lock a document, or wait for its lock; a transaction waits for nobody."""
        while (holder := self._locks.get((space, key))) is not None and holder is not within:
            if within is not None:
                raise write_conflict(in_transaction=True)
            self._released.wait(0.02)
            self.reap()
        if within is None:
            return
        versions = self.collection(space).versions.get(key)
        if conflicts and versions and versions[-1].since > within.since:
            raise write_conflict(in_transaction=True)
        self._locks[space, key] = within

    def _put(
        self, space: Namespace, key: Any, raw: bytes | None, within: Transaction | None
    ) -> None:
        if within is not None:
            within.writes[space, key] = raw
            return
        self._now = next(self._clock)
        self._apply(space, key, raw)

    def _apply(self, space: Namespace, key: Any, raw: bytes | None) -> None:
        versions = self.collection(space).versions
        history = versions.setdefault(key, [])
        history.append(Version(self._now, raw))
        oldest = min(
            (each.since for each in self.transactions.values() if each.state == "open"),
            default=self._now,
        )
        while len(history) > 1 and history[1].since <= oldest:
            history.pop(0)
        if history[0].raw is None and len(history) == 1:
            del versions[key]

    # --- transactions -------------------------------------------------------------------------

    def begin(self, session: bytes, number: int) -> Transaction:
        """Begin one; what the session had open is undone."""
        with self.lock:
            before = self.transactions.get(session)
            if before is not None:
                if before.number >= number:
                    raise RefusedCommandError(
                        "TransactionTooOld", f"txnNumber {number} is not past {before.number}"
                    )
                self.end(before, "aborted")
            begun = Transaction(session, number, self._now, time.monotonic())
            self.transactions[session] = begun
            return begun

    def find(self, session: bytes, number: int) -> Transaction:
        """Return one by its number, in whatever state."""
        with self.lock:
            self.reap()
            found = self.transactions.get(session)
            if found is None or found.number != number:
                raise no_such_transaction(number, aborted=False)
            return found

    def end(self, transaction: Transaction, state: str) -> None:
        """Commit it or undo it, where it is still open."""
        with self.lock:
            if transaction.state != "open":
                return
            transaction.state = state
            if state == "committed":
                self._now = next(self._clock)
                for (space, key), raw in transaction.writes.items():
                    self._apply(space, key, raw)
            for place in [p for p, holder in self._locks.items() if holder is transaction]:
                del self._locks[place]
            transaction.writes.clear()
            self._released.notify_all()

    def end_session(self, session: bytes) -> None:
        """Undo what it has open."""
        with self.lock:
            found = self.transactions.pop(session, None)
            if found is not None:
                self.end(found, "aborted")

    def reap(self) -> None:
        """Undo transactions that are too old, and delete what has expired."""
        now = time.monotonic()
        with self.lock:
            for each in list(self.transactions.values()):
                if each.state == "open" and now - each.born > self._lifetime_s:
                    self.end(each, "aborted")

    def expire(self, now: dt.datetime) -> int:
        """Delete what TTL indexes say is over; return how many documents."""
        gone = 0
        with self.lock:
            for space, found in list(self.collections.items()):
                for index in found.indexes.values():
                    if "expireAfterSeconds" in index:
                        gone += self._expire(space, index, now)
        return gone

    def _expire(self, space: Namespace, index: Document, now: dt.datetime) -> int:
        (path,) = index["key"]
        before = now - dt.timedelta(seconds=index["expireAfterSeconds"])
        wanted = {**index.get("partialFilterExpression", {}), path: {"$lt": before}}
        found = self.documents(space, wanted, None)
        for key, _ in found:
            self.replace(space, key, None, None)
        return len(found)


_RAW: Any = bson.CodecOptions(document_class=RawBSONDocument, tz_aware=True)


def _or_none(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bytes, dict, list, bool)) else None
