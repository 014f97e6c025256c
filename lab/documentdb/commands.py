"""Every other command, each a function of the extension's or an answer of our own."""

from __future__ import annotations

import re
from collections.abc import Callable

import bson

from lab.documentdb.cursors import Cursor, Cursors
from lab.documentdb.engine import Engine, Pg, call
from lab.documentdb.transactions import Transaction, Transactions
from lab.documentdb.writes import write
from lab.mongodb.replies import RefusedCommandError, build_info
from lab.mongodb.wire import Request

OK = bson.encode({"ok": 1.0})

#: What MongoDB refuses in a transaction, and what the engine cannot do in one.
NOT_IN_TRANSACTION = {
    "collMod",
    "count",
    "createIndexes",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "listCollections",
    "listDatabases",
    "listIndexes",
    "renameCollection",
}


class Commands:
    """Runs commands on a connection that it is given."""

    def __init__(self, engine: Engine, transactions: Transactions) -> None:
        """Nothing is open yet."""
        self.cursors = Cursors(engine)
        self._transactions = transactions
        self._by_name: dict[str, Callable[[Request, Pg], bytes]] = {
            "aggregate": self._first_page,
            "buildInfo": lambda *_: bson.encode(build_info()),
            "buildinfo": lambda *_: bson.encode(build_info()),
            "collMod": _alter_collection,
            "collStats": _collection_statistics,
            "connectionStatus": lambda *_: _nobody(),
            "count": _query,
            "create": _create,
            "createIndexes": _create_indexes,
            "dbStats": _database_statistics,
            "distinct": _query,
            "drop": _drop,
            "dropDatabase": _drop_database,
            "dropIndexes": _drop_indexes,
            "endSessions": self._end_sessions,
            "find": self._first_page,
            "findAndModify": _find_and_modify,
            "findandmodify": _find_and_modify,
            "killCursors": self._kill_cursors,
            "killSessions": self._end_sessions,
            "listCollections": self._first_page,
            "listDatabases": _list_databases,
            "listIndexes": self._first_page,
            "ping": lambda *_: OK,
            "refreshSessions": lambda *_: OK,
            "renameCollection": _rename,
            "startSession": lambda *_: OK,
        }

    def run(
        self, request: Request, pg: Pg, transaction: Transaction | None = None
    ) -> tuple[bytes, bool]:
        """Return the reply, and whether all of it was done."""
        if transaction is not None and request.name in NOT_IN_TRANSACTION:
            raise RefusedCommandError(
                "OperationNotSupportedInTransaction",
                f"Cannot run '{request.name}' in a multi-document transaction.",
            )
        if request.name in {"insert", "update", "delete"}:
            return write(request, pg)
        if request.name in {"find", "aggregate"} and transaction is not None:
            return self._first_page(request, pg, transaction), True
        known = self._by_name.get(request.name)
        if known is None:
            raise RefusedCommandError("CommandNotFound", f"no such command: '{request.name}'")
        return known(request, pg), True

    def _first_page(
        self, request: Request, pg: Pg, transaction: Transaction | None = None
    ) -> bytes:
        words = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", request.name)
        page, more, keeps, number = call(
            pg,
            f"documentdb_api.{words}_cursor_first_page",
            "cursorpage::bytea, continuation::bytea, persistconnection, cursorid",
            request.db,
            request.raw,
        )
        if more is not None:
            inside = transaction is not None
            self.cursors.put(number, Cursor(more, pg if keeps or inside else None, inside))
            if transaction is not None:
                transaction.on_end.append(lambda: self._forget(number))
        return bytes(page)

    def _forget(self, number: int) -> None:
        self.cursors.kill([number])

    def _kill_cursors(self, request: Request, _pg: Pg) -> bytes:
        asked = [int(number) for number in request.body["cursors"]]
        killed = self.cursors.kill(asked)
        return bson.encode(
            {
                "cursorsKilled": killed,
                "cursorsNotFound": [number for number in asked if number not in killed],
                "cursorsAlive": [],
                "cursorsUnknown": [],
                "ok": 1.0,
            }
        )

    def _end_sessions(self, request: Request, _pg: Pg) -> bytes:
        for session in request.body[request.name]:
            self._transactions.end_session(bytes(session["id"]))
        return OK


def _query(request: Request, pg: Pg) -> bytes:
    function = f"documentdb_api.{request.name}_query"
    return bytes(call(pg, function, "document::bytea", request.db, request.raw)[0])


def _find_and_modify(request: Request, pg: Pg) -> bytes:
    function = "documentdb_api.find_and_modify"
    return bytes(call(pg, function, "p_result::bytea", request.db, request.raw)[0])


def _create_indexes(request: Request, pg: Pg) -> bytes:
    function = "documentdb_api_internal.create_indexes_non_concurrently"
    done = pg.execute(
        f"SELECT {function}(%s, %b::bytea, true)::bytea", (request.db, request.raw), binary=True
    ).fetchone()
    reply = bson.decode(done[0]) if done else {}
    return bson.encode(reply.get("raw", {}).get("defaultShard", reply))


def _drop_indexes(request: Request, pg: Pg) -> bytes:
    pg.execute(
        "CALL documentdb_api.drop_indexes(%s, %b::bytea::documentdb_core.bson, NULL)",
        (request.db, request.raw),
    )
    return OK


def _drop(request: Request, pg: Pg) -> bytes:
    pg.execute("SELECT documentdb_api.drop_collection(%s, %s)", (request.db, request.collection))
    return OK


def _drop_database(request: Request, pg: Pg) -> bytes:
    pg.execute("SELECT documentdb_api.drop_database(%s)", (request.db,))
    return OK


def _create(request: Request, pg: Pg) -> bytes:
    pg.execute(
        "SELECT documentdb_api.create_collection_view(%s, %b::bytea)", (request.db, request.raw)
    )
    return OK


def _alter_collection(request: Request, pg: Pg) -> bytes:
    pg.execute(
        "SELECT documentdb_api.coll_mod(%s, %s, %b::bytea)",
        (request.db, request.collection, request.raw),
    )
    return OK


def _rename(request: Request, pg: Pg) -> bytes:
    db, _, old = request.collection.partition(".")
    new = str(request.body["to"]).partition(".")[2]
    replaces = bool(request.body.get("dropTarget"))
    pg.execute("SELECT documentdb_api.rename_collection(%s, %s, %s, %s)", (db, old, new, replaces))
    return OK


def _list_databases(request: Request, pg: Pg) -> bytes:
    row = pg.execute(
        "SELECT documentdb_api.list_databases(%b::bytea)::bytea", (request.raw,), binary=True
    ).fetchone()
    return bytes(row[0]) if row else OK


def _collection_statistics(request: Request, pg: Pg) -> bytes:
    function = "documentdb_api.coll_stats"
    return bytes(call(pg, function, "coll_stats::bytea", request.db, request.collection)[0])


def _database_statistics(request: Request, pg: Pg) -> bytes:
    return bytes(call(pg, "documentdb_api.db_stats", "db_stats::bytea", request.db)[0])


def _nobody() -> bytes:
    """Say that nobody is logged in: who reaches loopback is trusted."""
    none: list[object] = []
    users = {"authenticatedUsers": none, "authenticatedUserRoles": none}
    return bson.encode({"authInfo": users, "ok": 1.0})
