"""Transactions in progress: each is one of PostgreSQL's, on a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum, auto

import psycopg

from lab.documentdb import sessions
from lab.documentdb.engine import Engine, Pg
from lab.mongodb.listener import HangUpError
from lab.mongodb.replies import RefusedCommandError, no_such_transaction

#: How long a transaction waits for a lock before it counts as a conflict; MongoDB's is 5 ms.
_LOCK_WAIT = "SET LOCAL lock_timeout = '20ms'"
_REMEMBERED_S = 1800.0


class State(Enum):
    """Where a transaction stands."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()
    #: The engine went away while it was committing.
    UNKNOWN = auto()


class Transaction:
    """One session's; its lock is held while one of its commands runs."""

    def __init__(self, engine: Engine, session: bytes, number: int) -> None:
        """Begin it."""
        self.session = session
        self.number = number
        self.state = State.OPEN
        self.born = time.monotonic()
        self.lock = threading.RLock()
        #: What to do when it is over: its cursors end with it.
        self.on_end: list[Callable[[], None]] = []
        self._engine = engine
        self.pg: Pg = engine.take()
        try:
            self.pg.execute("START TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.pg.execute(_LOCK_WAIT)
        except psycopg.OperationalError as error:
            engine.give_back(self.pg)
            raise HangUpError(str(error)) from error

    def commit(self) -> None:
        """Commit it; where that cannot be known, nobody is told that it can."""
        with self.lock:
            try:
                noted = sessions.note(self.pg, self.session, self.number)
            except psycopg.Error:
                self.abort()
                raise
            if not noted:
                self.abort()
                raise no_such_transaction(self.number, aborted=True)
            try:
                self.pg.execute("COMMIT")
            except psycopg.OperationalError as error:
                self._ended(State.UNKNOWN)
                raise HangUpError(str(error)) from error
            except psycopg.Error:
                self.abort()
                raise
            self._ended(State.COMMITTED)

    def abort(self) -> None:
        """Undo it, where it is still open."""
        with self.lock:
            if self.state is not State.OPEN:
                return
            try:
                self.pg.execute("ROLLBACK")
            except psycopg.Error:
                self.pg.close()
            self._ended(State.ABORTED)

    def _ended(self, state: State) -> None:
        self.state = state
        for forget in self.on_end:
            forget()
        self._engine.give_back(self.pg)


class Transactions:
    """The last transaction of each session."""

    def __init__(self, engine: Engine, lifetime_s: float) -> None:
        """`lifetime_s` is MongoDB's transactionLifetimeLimitSeconds."""
        self._engine = engine
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()
        self._last: dict[bytes, Transaction] = {}

    def start(self, session: bytes, number: int) -> Transaction:
        """Begin one; the one before it, still open, is undone."""
        with self._lock:
            before = self._last.get(session)
        if before is not None:
            if before.number >= number:
                raise RefusedCommandError(
                    "TransactionTooOld" if before.number > number else "IllegalOperation",
                    f"Cannot start transaction with {{ txnNumber: {number} }}: "
                    f"the session is at {before.number}.",
                )
            before.abort()
        begun = Transaction(self._engine, session, number)
        with self._lock:
            self._last[session] = begun
        return begun

    def find(self, session: bytes, number: int) -> Transaction | None:
        """Return the one of that number, in whatever state."""
        with self._lock:
            found = self._last.get(session)
        return found if found is not None and found.number == number else None

    def end_session(self, session: bytes) -> None:
        """Undo what it has open."""
        with self._lock:
            found = self._last.pop(session, None)
        if found is not None:
            found.abort()

    def reap(self) -> None:
        """End those that are too old, and forget those that ended long ago."""
        now = time.monotonic()
        with self._lock:
            known = list(self._last.items())
        for session, found in known:
            age = now - found.born
            if found.state is State.OPEN and age > self._lifetime_s:
                found.abort()
            elif found.state is not State.OPEN and age > _REMEMBERED_S:
                with self._lock:
                    if self._last.get(session) is found:
                        del self._last[session]
