"""What the trail says: how far it is, and what became of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from bson import Binary, CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

from caretaker.binlog import parts
from caretaker.binlog.history import fates
from caretaker.binlog.model import source_id
from resources.mongodb import layout
from resources.mongodb.offsets import Offset, offset_of
from resources.mongodb.staging import BatchStatus

Document = dict[str, Any]

_RAW: Any = CodecOptions(document_class=RawBSONDocument)
_DECODED: CodecOptions[Document] = CodecOptions(tz_aware=True)


@dataclass(frozen=True, slots=True)
class Status:
    """How a source's trail stands.

    Attributes:
        pending: Staged batches that are not committed, and `oldest_pending_at` since when.
        archived: Staged batches that were put aside.
    """

    offset: Offset
    pending: int
    oldest_pending_at: datetime | None
    archived: int


class Reads:
    """Questions; they change nothing. Documents come whole, large values put together again."""

    def __init__(self, db: Database[Document]) -> None:
        self._db = db
        self._rows: Collection[Any] = db.get_collection(layout.ROW_CHANGES, codec_options=_RAW)
        self._parts: Collection[Any] = db.get_collection(layout.PARTS, codec_options=_RAW)

    def offset(self, source: str) -> Offset:
        """Return a source's offset; one that nobody acquired yet is at epoch 0."""
        found = self._db[layout.OFFSETS].find_one({"_id": source})
        return offset_of(found or {"_id": source})

    def sources(self) -> list[Offset]:
        """Return the offsets of all sources, by name."""
        return [offset_of(each) for each in self._db[layout.OFFSETS].find().sort("_id")]

    def status(self, source: str) -> Status:
        """Return how a source's trail stands."""
        staged = self._db[layout.STAGING]
        pending = {"status": BatchStatus.PENDING, "source": source}
        oldest = next(
            iter(staged.find(pending, {"createdAt": 1}).sort("createdAt", 1).limit(1)), None
        )
        return Status(
            self.offset(source),
            staged.count_documents(pending),
            None if oldest is None else oldest["createdAt"],
            staged.count_documents(
                {"status": BatchStatus.ARCHIVED, "source": source, "n": {"$exists": True}}
            ),
        )

    def history(
        self,
        db: str,
        table: str,
        key: Any,
        *,
        until: datetime | None = None,
        source: str | None = None,
    ) -> Iterator[Document]:
        """Yield the changes of one key, by seq; `key` is a value, or a document in key order.

        Those that made another key this one are among them. No index helps to find them: all
        changes of the table are looked at on the server.
        """
        of_table: Document = {"meta.db": db, "meta.tbl": table}
        if until is not None:
            of_table["ts"] = {"$lte": until}
        found = list(self._by_seq({"meta.pk": key, **of_table}, source))
        columns = self.key_columns(db, table, key)
        if columns:
            seen = {bytes(each["_id"]) for each in found}
            moved = {"op": "u", **of_table, "$or": [_arrives(name, to) for name, to in columns]}
            for each in self._by_seq(moved, source):
                names = [name for name, _ in columns]
                comes = any(pk == key for pk, _ in fates(each, names))
                if comes and bytes(each["_id"]) not in seen:
                    found.append(each)
        yield from sorted(found, key=lambda each: each["seq"])

    def key_columns(self, db: str, table: str, key: Any) -> list[tuple[str, Any]]:
        """Return the columns of a key and their values in it, as far as the trail knows them."""
        if isinstance(key, Mapping):
            return list(key.items())
        versions = self._db[layout.SCHEMAS].find({"db": db, "tbl": table})
        names = {each["pk"][0] for each in versions if len(each.get("pk") or ()) == 1}
        # Of a key that was another column once, moves cannot be told from changes.
        return [(name, key) for name in names] if len(names) == 1 else []

    def types(self, db: str, table: str) -> dict[str, str]:
        """Return the types of a table's columns as they were last, by the binlog's names."""
        versions = self._db[layout.SCHEMAS].find({"db": db, "tbl": table})
        return {
            column["name"]: column["type"].removesuffix("2")
            for version in versions
            for column in version["columns"]
        }

    def definitions(
        self, *, until: datetime | None = None, source: str | None = None
    ) -> Iterator[Document]:
        """Yield the statements that changed no row by themselves, by seq."""
        # None of them has a key: the index on keys finds them.
        wanted: Document = {"meta.pk": None, "op": "ddl"}
        if until is not None:
            wanted["ts"] = {"$lte": until}
        yield from self._by_seq(wanted, source)

    def of_keys(self, db: str, table: str, keys: Iterable[Any]) -> Iterator[Document]:
        """Yield the changes of some keys, by seq: a chunk of what `verify` compares."""
        yield from self._by_seq({"meta.pk": {"$in": list(keys)}, "meta.db": db, "meta.tbl": table})

    def of_table(self, db: str, table: str, *, source: str | None = None) -> Iterator[Document]:
        """Yield all changes of a table and all definitions, by seq; no index helps."""
        wanted = {"$or": [{"meta.db": db, "meta.tbl": table}, {"op": "ddl"}]}
        yield from self._by_seq(wanted, source)

    def of_transaction(self, first: bytes, last: bytes) -> Iterator[Document]:
        """Yield the documents whose `_id` is in a range, both ends in, by seq.

        Both are as long as the ids: the order of BinData begins with its length.
        """
        yield from self._by_seq({"_id": {"$gte": Binary(first), "$lte": Binary(last)}})

    def of_gtid(self, gtid: str, *, source: str | None = None) -> Iterator[Document]:
        """Yield the documents of a transaction by its name; no index helps."""
        yield from self._by_seq({"src.gtid": gtid}, source)

    def latest(self, limit: int) -> list[Document]:
        """Return the last documents by `ts`, in order of seq."""
        found = self._rows.find().sort("ts", -1).limit(limit)
        return sorted((self._whole(each) for each in found), key=lambda each: each["seq"])

    def gaps(self) -> Iterator[Document]:
        """Yield what the trail says it does not have; no index helps."""
        yield from self._by_seq({"op": "gap"})

    def schema(self, key: str) -> Document | None:
        """Return a schema version."""
        return self._db[layout.SCHEMAS].find_one({"_id": key})

    def tables(self, db: str) -> list[str]:
        """Return the tables of a database that the trail has changes of, by name."""
        return sorted(self._db[layout.SCHEMAS].distinct("tbl", {"db": db}))

    def filters(self) -> Iterator[Document]:
        """Yield the patterns of every set of filters that a trail was written with."""
        for each in self._db[layout.SCHEMAS].find({"filters": {"$exists": True}}):
            yield {"fingerprint": each["_id"], **each["filters"]}

    def _by_seq(self, wanted: Mapping[str, Any], source: str | None = None) -> Iterator[Document]:
        # Not asked for by `_id`: ids of several lengths are no one range.
        head = b"" if source is None else source_id(source)
        for each in self._rows.find(wanted, allow_disk_use=True).sort("seq", 1):
            if bytes(each["_id"]).startswith(head):
                yield self._whole(each)

    def _whole(self, head: RawBSONDocument) -> Document:
        raw = bytes(head.raw)
        if "parts" in head:
            pieces = self._parts.find({"_id": _range_of(bytes(head["_id"]))})
            raw = parts.join(raw, [bytes(piece.raw) for piece in pieces])
        return bson.decode(raw, _DECODED)


def _arrives(column: str, value: Any) -> Document:
    if "." in column or column.startswith("$"):
        # No path leads to it; the ones that are meant are found among all.
        return {"op": "u"}
    return {f"chg.{column}.t": value}


def _range_of(head_id: bytes) -> Document:
    # A piece's id is the head's with its place and number behind it: 2 and 4 bytes.
    return {"$gte": Binary(head_id + bytes(6)), "$lte": Binary(head_id + b"\xff" * 6)}
