"""Commands on the store: each takes what came and returns what is answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import bson
from bson import Int64, ObjectId

from lab.mongodb.matching import at, by, equalities, key_of, matches, projected, updated
from lab.mongodb.replies import RefusedCommandError
from lab.mongodb.store import Document, DuplicateError, Namespace, Store, Transaction
from lab.mongodb.wire import MAX_DOCUMENT_BYTES, Request

_CODEC: Any = bson.CodecOptions(tz_aware=True)
_FIRST_PAGE = 101
_PAGE_BYTES = 8_000_000

OK: Document = {"ok": 1.0}


class Commands:
    """Runs commands."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._cursors: dict[int, Iterator[bytes]] = {}
        self._spaces: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self.by_name: dict[str, Callable[[Request, Document, Transaction | None], Document]] = {
            "aggregate": self._aggregate,
            "count": self._count,
            "create": self._create,
            "createIndexes": self._create_indexes,
            "delete": self._delete,
            "distinct": self._distinct,
            "drop": self._drop,
            "dropDatabase": self._drop_database,
            "dropIndexes": self._drop_indexes,
            "find": self._find,
            "findAndModify": self._find_and_modify,
            "getMore": self._get_more,
            "insert": self._insert,
            "killCursors": self._kill_cursors,
            "listCollections": self._list_collections,
            "listDatabases": self._list_databases,
            "listIndexes": self._list_indexes,
            "ping": lambda *_: OK,
            "update": self._update,
        }

    # --- reading ------------------------------------------------------------------------------

    def _find(self, request: Request, body: Document, within: Transaction | None) -> Document:
        found = self._sorted(request, body.get("filter", {}), body.get("sort", {}), within)
        skip, limit = body.get("skip", 0), body.get("limit", 0)
        found = found[skip : skip + limit if limit else None]
        fields = body.get("projection") or {}
        pages = (_shown(raw, fields) for raw in found)
        return self._page(_space(request), pages, body.get("batchSize", _FIRST_PAGE))

    def _sorted(
        self,
        request: Request,
        wanted: Document,
        order: Mapping[str, int],
        within: Transaction | None,
    ) -> list[bytes]:
        found = [raw for _, raw in self.store.documents(_space(request), wanted, within)]
        if order:
            key = by(order)
            found.sort(key=lambda raw: key(bson.decode(raw, _CODEC)))
        return found

    def _aggregate(self, request: Request, body: Document, within: Transaction | None) -> Document:
        found = [bson.decode(raw, _CODEC) for raw in self._sorted(request, {}, {}, within)]
        for stage in body["pipeline"]:
            ((name, told),) = stage.items()
            if name == "$match":
                found = [each for each in found if matches(each, told)]
            elif name == "$sort":
                found.sort(key=by(told))
            elif name == "$skip":
                found = found[told:]
            elif name == "$limit":
                found = found[:told]
            elif name == "$group":
                found = _grouped(found, told)
            else:
                raise RefusedCommandError("CommandNotSupported", f"no stage {name} here")
        size = body.get("cursor", {}).get("batchSize", _FIRST_PAGE)
        return self._page(_space(request), (bson.encode(each) for each in found), size)

    def _count(self, request: Request, body: Document, within: Transaction | None) -> Document:
        found = self.store.documents(_space(request), body.get("query", {}), within)
        return {"n": len(found), "ok": 1.0}

    def _distinct(self, request: Request, body: Document, within: Transaction | None) -> Document:
        found: dict[Any, Any] = {}
        for raw in self._sorted(request, body.get("query", {}), {}, within):
            value = at(bson.decode(raw, _CODEC), body["key"])
            found.setdefault(key_of(value), value)
        return {"values": list(found.values()), "ok": 1.0}

    def _page(self, space: Namespace, documents: Iterator[bytes], size: int) -> Document:
        number = next(self._numbers)
        self._cursors[number] = documents
        self._spaces[number] = ".".join(space)
        return self._next(number, "firstBatch", size)

    def _get_more(self, _: Request, body: Document, __: Transaction | None) -> Document:
        number = int(body["getMore"])
        if number not in self._cursors:
            raise RefusedCommandError("CursorNotFound", f"cursor id {number} not found")
        return self._next(number, "nextBatch", body.get("batchSize", 1 << 30))

    def _next(self, number: int, name: str, size: int) -> Document:
        rest, length = self._cursors[number], 0
        page: list[Any] = []
        more = True
        while len(page) < size and length < _PAGE_BYTES:
            raw = next(rest, None)
            if raw is None:
                more = False
                break
            page.append(bson.raw_bson.RawBSONDocument(raw))
            length += len(raw)
        space = self._spaces[number]
        if not more:
            del self._cursors[number], self._spaces[number]
        return {
            "cursor": {"id": Int64(number if more else 0), "ns": space, name: page},
            "ok": 1.0,
        }

    def _kill_cursors(self, _: Request, body: Document, __: Transaction | None) -> Document:
        killed = [n for n in body["cursors"] if self._cursors.pop(int(n), None) is not None]
        return {"cursorsKilled": killed, "ok": 1.0}

    # --- writing ------------------------------------------------------------------------------

    def _insert(self, request: Request, body: Document, within: Transaction | None) -> Document:
        documents = (
            _cut(request.sequence)
            if request.sequence is not None
            else [bson.encode(each) for each in body["documents"]]
        )
        inserted, errors = 0, []
        for index, raw in enumerate(documents):
            try:
                if len(raw) > MAX_DOCUMENT_BYTES:
                    raise RefusedCommandError("BadValue", f"a document of {len(raw)} bytes")
                self.store.insert(_space(request), raw, within)
                inserted += 1
            except DuplicateError as error:
                errors.append({"index": index, **error.fields})
                if body.get("ordered", True) or within is not None:
                    break
        return _written(inserted, errors)

    def _update(self, request: Request, body: Document, within: Transaction | None) -> Document:
        matched = modified = 0
        upserted, errors = [], []
        for index, each in enumerate(_parts(request, body, "updates")):
            try:
                n, changed, made = self._change(request, each, within)
            except DuplicateError as error:
                errors.append({"index": index, **error.fields})
                break
            matched += n
            modified += changed
            if made is not None:
                upserted.append({"index": index, "_id": made})
        answer = {**_written(matched, errors), "nModified": modified}
        return {**answer, "upserted": upserted} if upserted else answer

    def _change(
        self, request: Request, each: Document, within: Transaction | None
    ) -> tuple[int, int, Any]:
        space, wanted = _space(request), each["q"]
        with self.store.lock:
            found = self.store.documents(space, wanted, within)
            if not found and each.get("upsert"):
                made = self._upsert(space, wanted, each["u"], within)
                return 1, 0, made["_id"]
            changed = matched = 0
            for key, _ in found if each.get("multi") else found[:1]:
                self.store._take(space, key, within)  # noqa: SLF001 - one thing in two modules
                # What was waited for may have changed it.
                again = [r for k, r in self.store.documents(space, wanted, within) if k == key]
                if not again:
                    continue
                before = bson.decode(again[0], _CODEC)
                after = bson.encode(updated(before, each["u"]))
                self.store.replace(space, key, after, within)
                matched += 1
                changed += after != again[0]
            return matched, changed, None

    def _upsert(
        self, space: Namespace, wanted: Document, change: Document, within: Transaction | None
    ) -> Document:
        document = updated(dict(equalities(wanted)), change, inserted=True)
        made = {"_id": document.pop("_id", None) or ObjectId(), **document}
        self.store.insert(space, bson.encode(made), within)
        return made

    def _delete(self, request: Request, body: Document, within: Transaction | None) -> Document:
        deleted = 0
        for each in _parts(request, body, "deletes"):
            with self.store.lock:
                found = self.store.documents(_space(request), each["q"], within)
                for key, _ in found[: each.get("limit") or None]:
                    self.store.replace(_space(request), key, None, within)
                    deleted += 1
        return {"n": deleted, "ok": 1.0}

    def _find_and_modify(
        self, request: Request, body: Document, within: Transaction | None
    ) -> Document:
        space, wanted = _space(request), body.get("query", {})
        with self.store.lock:
            found = self._sorted(request, wanted, body.get("sort", {}), within)
            if not found:
                if not body.get("upsert"):
                    return {"value": None, "ok": 1.0}
                made = self._upsert(space, wanted, body["update"], within)
                return {"value": made if body.get("new") else None, "ok": 1.0}
            key = key_of(bson.decode(found[0], _CODEC)["_id"])
            self.store._take(space, key, within)  # noqa: SLF001 - as in update
            again = [r for k, r in self.store.documents(space, wanted, within) if k == key]
            if not again:
                return {"value": None, "ok": 1.0}
            before = bson.decode(again[0], _CODEC)
            if body.get("remove"):
                self.store.replace(space, key, None, within)
                return {"value": before, "ok": 1.0}
            after = updated(before, body["update"])
            self.store.replace(space, key, bson.encode(after), within)
            return {"value": after if body.get("new") else before, "ok": 1.0}

    # --- collections --------------------------------------------------------------------------

    def _create(self, request: Request, _: Document, __: Transaction | None) -> Document:
        if _space(request) in self.store.collections:
            raise RefusedCommandError(
                "NamespaceExists", f"Collection {'.'.join(_space(request))} already exists."
            )
        self.store.collection(_space(request))
        return OK

    def _drop(self, request: Request, _: Document, __: Transaction | None) -> Document:
        if self.store.collections.pop(_space(request), None) is None:
            raise RefusedCommandError("NamespaceNotFound", "ns not found")
        return OK

    def _drop_database(self, request: Request, _: Document, __: Transaction | None) -> Document:
        for space in [each for each in self.store.collections if each[0] == request.db]:
            del self.store.collections[space]
        return OK

    def _create_indexes(self, request: Request, body: Document, _: Transaction | None) -> Document:
        found = self.store.collection(_space(request))
        before = len(found.indexes)
        for each in body["indexes"]:
            known = found.indexes.get(each["name"])
            if known is not None and known != {"v": 2, **each}:
                raise RefusedCommandError(
                    "IndexOptionsConflict", f"Index {each['name']} exists with other options"
                )
            if each["key"] == {"_id": 1} and each.get("unique"):
                raise RefusedCommandError(
                    197, "The field 'unique' is not valid for an _id index specification."
                )
            found.indexes[each["name"]] = {"v": 2, **each}
        return {"numIndexesBefore": before, "numIndexesAfter": len(found.indexes), "ok": 1.0}

    def _drop_indexes(self, request: Request, body: Document, _: Transaction | None) -> Document:
        found = self.store.collection(_space(request))
        if found.indexes.pop(body["index"], None) is None:
            raise RefusedCommandError("IndexNotFound", f"index not found: {body['index']}")
        return OK

    def _list_indexes(self, request: Request, _: Document, __: Transaction | None) -> Document:
        space = _space(request)
        if space not in self.store.collections:
            raise RefusedCommandError("NamespaceNotFound", f"ns does not exist: {'.'.join(space)}")
        found = self.store.collections[space].indexes.values()
        return self._page(space, (bson.encode(each) for each in found), 1 << 30)

    def _list_collections(
        self, request: Request, body: Document, _: Transaction | None
    ) -> Document:
        named = [
            {"name": name, "type": "collection"}
            for db, name in self.store.collections
            if db == request.db
        ]
        found = (bson.encode(each) for each in named if matches(each, body.get("filter", {})))
        return self._page((request.db, "$cmd.listCollections"), found, 1 << 30)

    def _list_databases(self, _: Request, __: Document, ___: Transaction | None) -> Document:
        names = sorted({db for db, _ in self.store.collections})
        return {"databases": [{"name": name} for name in names], "totalSize": 0, "ok": 1.0}


def _space(request: Request) -> Namespace:
    return request.db, request.collection


def _parts(request: Request, body: Document, name: str) -> list[Document]:
    if request.sequence is not None:
        return bson.decode_all(request.sequence, _CODEC)
    found: list[Document] = body[name]
    return found


def _cut(data: bytes) -> list[bytes]:
    found, start = [], 0
    while start < len(data):
        size = int.from_bytes(data[start : start + 4], "little")
        found.append(data[start : start + size])
        start += size
    return found


def _written(n: int, errors: list[Document]) -> Document:
    answer: Document = {"n": n, "ok": 1.0}
    return {**answer, "writeErrors": errors} if errors else answer


def _shown(raw: bytes, fields: Mapping[str, Any]) -> bytes:
    return bson.encode(projected(bson.decode(raw, _CODEC), fields)) if fields else raw


def _grouped(found: list[Document], told: Document) -> list[Document]:
    groups: dict[Any, Document] = {}
    for each in found:
        name = told["_id"]
        value = at(each, name[1:]) if isinstance(name, str) and name.startswith("$") else name
        group = groups.setdefault(key_of(value), {"_id": value})
        for field, operation in told.items():
            if field != "_id":
                group[field] = group.get(field, 0) + operation["$sum"]
    return list(groups.values())


#: What MongoDB refuses in a transaction.
NOT_IN_TRANSACTION = frozenset(
    {"count", "drop", "dropDatabase", "dropIndexes", "listCollections", "listIndexes"}
)
