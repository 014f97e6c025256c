"""The connection: transactions that are durable when they end, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from resources.state_store.failures import store_errors

#: How long a write waits for another one, on either database.
BUSY_S = 30

_READ_ONLY = "caretaker_read_only"

_POSTGRES_SESSION = f"""
SELECT set_config('TimeZone', 'UTC', false),
       set_config('lock_timeout', '{BUSY_S}s', false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""

Now = Callable[[], datetime]


class Database:
    """An engine with the two kinds of transaction that the store needs."""

    def __init__(self, url: URL, now: Now) -> None:
        self.url = url
        self.now = now
        with store_errors(url):
            self._engine = _engine(url)
        self._writing = threading.local()
        self._reading = self._engine.execution_options(**{_READ_ONLY: True})

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of ours."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks: on sqlite it waits for no writer."""
        with store_errors(self.url), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, repeatable: bool = True) -> Iterator[Connection]:
        """A transaction that is on disk when the block ends.

        A connection lost before COMMIT is a TransientError, nothing was written. Lost during
        COMMIT it is one too where asking again does no harm (`repeatable`), and otherwise an
        UnknownResultError.
        """
        self._end_what_was_left()
        with store_errors(self.url), self._engine.connect() as connection:
            self._writing.connection = connection
            transaction = connection.begin()
            with transaction:
                yield connection
                with store_errors(self.url, sent=not repeatable):
                    transaction.commit()

    def _end_what_was_left(self) -> None:
        """Roll back a write of this thread that a stop has cut off between BEGIN and its block.

        Nobody ends that one as long as the stop is being handled, and whatever puts back then would
        wait for it: a stop is an exception in the middle of whatever the main thread is doing.
        """
        left: Connection | None = getattr(self._writing, "connection", None)
        if left is not None and not left.closed:
            left.invalidate()
            left.close()

    def insert_if_absent(self, table: Table) -> Any:
        """INSERT ... ON CONFLICT DO NOTHING: no row comes back where a unique key is taken."""
        if self.is_sqlite:
            return sqlite.insert(table).on_conflict_do_nothing()
        return postgresql.insert(table).on_conflict_do_nothing()

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


class Part:
    """A shelf of the store: the methods about one subject, on the shared connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _now(self) -> datetime:
        return self._database.now()


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        wait = {} if "timeout" in url.query else {"timeout": BUSY_S}
        engine = create_engine(url, connect_args=wait)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments: dict[str, object] = {"application_name": "caretaker"}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = 10
    # The ping costs a round trip and saves the first write after a restart of the server.
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True)
    event.listen(engine, "connect", _prepare_postgres)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """WAL, so that readers and the writer do not wait for each other; fsync at every commit."""
    # Python's driver would begin transactions itself, late and DEFERRED: two of those that both
    # read and then write cannot both be saved by waiting.
    connection.isolation_level = None
    deadline = time.monotonic() + BUSY_S
    cursor = connection.cursor()
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # The change to WAL is the one lock that sqlite's own time-out does not wait for.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    only_reads = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _prepare_postgres(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Make a commit mean "on disk" even where the server's default is otherwise."""
    cursor = connection.cursor()
    cursor.execute(_POSTGRES_SESSION)
    cursor.close()
    connection.commit()
