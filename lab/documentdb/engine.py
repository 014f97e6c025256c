"""Connections to PostgreSQL, the extension's functions, and its errors in MongoDB's words."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

from lab.mongodb.listener import HangUpError
from lab.mongodb.replies import CODES, RefusedCommandError, write_conflict

Pg = psycopg.Connection[tuple[Any, ...]]

_SQLSTATES = {
    "23505": "DuplicateKey",
    "23P01": "DuplicateKey",
    "55P03": "WriteConflict",  # a lock was not to be had
    "40001": "WriteConflict",
    "40P01": "WriteConflict",
    "42P01": "NamespaceNotFound",
    "0A000": "CommandNotSupported",
    "57014": "MaxTimeMSExpired",
}
#: The extension's own states are "M" and a number to the base of 36, in the order of its list.
_ITS_OWN = {
    0: CODES["InternalError"],
    1: CODES["BadValue"],
    4: CODES["TypeMismatch"],
    8: CODES["NamespaceNotFound"],
    15: CODES["NamespaceExists"],
    26: CODES["InvalidNamespace"],
    27: CODES["IndexOptionsConflict"],
    28: CODES["IndexKeySpecsConflict"],
    30: CODES["CommandNotSupported"],
    48: CODES["DuplicateKey"],
    282: 40324,  # an unrecognised pipeline stage
}
_INDEX = re.compile("Index '([^']*)'")
_CONSTRAINT = re.compile(r"^documents_rum_index_(\d+)")
_INDEX_NAME = """
SELECT (index_spec).index_name FROM documentdb_api_catalog.collection_indexes WHERE index_id = %s
"""


class Engine:
    """Borrows out connections, which are opened as needed and used again."""

    def __init__(self, dsn: str) -> None:
        """Take where it listens."""
        self._dsn = dsn
        self._lock = threading.Lock()
        self._idle: list[Pg] = []
        self._kept: set[Pg] = set()

    def take(self) -> Pg:
        """Return a connection in autocommit, to be given back.

        Raises:
            HangUpError: There is no engine; a client sees what it would see of a dead server.

        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            return psycopg.connect(self._dsn, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise HangUpError(str(error)) from error

    def give_back(self, pg: Pg) -> None:
        """Hold it for the next one; where it is broken, so are those that wait here."""
        self._kept.discard(pg)
        if pg.closed or pg.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            pg.close()
            with self._lock:
                broken, self._idle = self._idle, []
            for each in broken:
                each.close()
        else:
            with self._lock:
                self._idle.append(pg)

    def discard(self, pg: Pg) -> None:
        """Close one, and with it what PostgreSQL holds for it."""
        self._kept.discard(pg)
        pg.close()

    def keep(self, pg: Pg) -> None:
        """Take a connection that is lent out for one's own, until it is given back."""
        self._kept.add(pg)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Pg]:
        """Lend a connection."""
        pg = self.take()
        try:
            yield pg
        finally:
            if pg not in self._kept:
                self.give_back(pg)


def call(pg: Pg, function: str, columns: str, *values: str | bytes) -> tuple[Any, ...]:
    """Return the one row of a function of the extension's; bytes are BSON."""
    marks = ", ".join("%b::bytea" if isinstance(value, bytes) else "%s" for value in values)
    row = pg.execute(f"SELECT {columns} FROM {function}({marks})", values, binary=True).fetchone()  # noqa: S608 - names of ours
    return tuple(row or ())


def code_of(state: str) -> int:
    """Return MongoDB's code for an SQLSTATE."""
    if state.startswith("M"):
        return _ITS_OWN.get(int(state[1:], 36), CODES["InternalError"])
    return CODES[_SQLSTATES.get(state, "InternalError")]


def code_of_packed(number: int) -> int:
    """Return MongoDB's code for an SQLSTATE as PostgreSQL packs it into an integer."""
    return code_of("".join(chr(((number >> (6 * i)) & 63) + 48) for i in range(5)))


def index_of(message: str) -> str:
    """Return the name of the index that the extension's complaint of a duplicate is about."""
    found = _INDEX.search(message)
    return found[1] if found else "_id_"


def violated_index(pg: Pg, error: psycopg.Error) -> str:
    """Return the name of the index that PostgreSQL itself complains of, in a new transaction."""
    found = _CONSTRAINT.search(error.diag.constraint_name or "")
    if found is None:
        return index_of(error.diag.message_primary or "")
    row = pg.execute(_INDEX_NAME, (int(found[1]),)).fetchone()
    return str(row[0]) if row is not None else "_id_"


def refusal(error: psycopg.Error, *, in_transaction: bool) -> RefusedCommandError:
    """Return an error of PostgreSQL's as MongoDB would word it.

    Raises:
        HangUpError: The connection is gone, and with it what was to be answered.

    """
    state = error.sqlstate
    # 57P0x: it is being shut down, or was told to end this connection.
    if state is None or state.startswith(("08", "57P")):
        raise HangUpError(str(error)) from error
    code = code_of(state)
    if code == CODES["WriteConflict"]:
        return write_conflict(in_transaction=in_transaction)
    return RefusedCommandError(code, error.diag.message_primary or str(error))
