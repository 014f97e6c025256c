"""insert, update, delete: replies with their write errors, in MongoDB's words."""

from __future__ import annotations

from typing import Any

import bson

from lab.documentdb.engine import Pg, call, code_of_packed, index_of
from lab.mongodb.replies import CODES, duplicate_key, write_conflict
from lab.mongodb.wire import Request


def write(request: Request, pg: Pg) -> tuple[bytes, bool]:
    """Return the reply, and whether all of it was done."""
    sequence = [] if request.sequence is None else [request.sequence]
    reply, good = call(
        pg,
        f"documentdb_api.{request.name}",
        "p_result::bytea, p_success",
        request.db,
        request.raw,
        *sequence,
    )
    if good:
        return bytes(reply), True
    document = bson.decode(reply)
    # Of a thousand duplicates each is one of the same index: it is asked for once.
    patterns: dict[str, dict[str, Any]] = {}
    documents = request.documents() if request.name == "insert" else []
    for error in document.get("writeErrors", []):
        error["code"] = code_of_packed(error["code"])
        if error["code"] == CODES["WriteConflict"]:
            raise write_conflict(in_transaction=request.in_transaction)
        if error["code"] == CODES["DuplicateKey"]:
            index = index_of(error["errmsg"])
            if index not in patterns:
                patterns[index] = _pattern(request, pg, index)
            at = error["index"]
            inserted = documents[at] if at < len(documents) else None
            error.update(_named(request, index, patterns[index], inserted))
    return bson.encode(document), not document.get("writeErrors")


def name_duplicate(request: Request, pg: Pg, index: str) -> dict[str, Any]:
    """Return E11000's fields for whatever was refused; its value is not known."""
    return _named(request, index, _pattern(request, pg, index), None)


def _named(
    request: Request, index: str, pattern: dict[str, Any], inserted: dict[str, Any] | None
) -> dict[str, Any]:
    """Return E11000's fields; the key's value is known of what was inserted only."""
    value = {} if inserted is None else {key: inserted.get(key) for key in pattern}
    return duplicate_key(f"{request.db}.{request.collection}", index, pattern, value)


def _pattern(request: Request, pg: Pg, index: str) -> dict[str, Any]:
    (page,) = call(
        pg,
        "documentdb_api.list_indexes_cursor_first_page",
        "cursorpage::bytea",
        request.db,
        bson.encode({"listIndexes": request.collection}),
    )
    indexes = bson.decode(page)["cursor"]["firstBatch"]
    return next((each["key"] for each in indexes if each["name"] == index), {})
