"""A connection: every statement a transaction of its own, with a deadline behind it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import psycopg

from caretaker.errors import RefusedError
from resources.materialize import types
from resources.materialize.failures import not_connected, told
from resources.materialize.settings import DatabaseSettings

#: After a cancel the server has so long to say that it heard; then the connection is cut.
GRACE_S = 5.0


class Session:
    """One connection, opened when it is first needed and again when it was lost."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Take the settings; nothing is connected yet."""
        self.settings = settings
        self._connection: psycopg.Connection[Any] | None = None
        #: How many statements were sent, for those who count.
        self.sent = 0

    def rows(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that changes nothing.

        TransientError where it may be asked again; StatementRefusedError where it may not.
        """
        cursor = self._execute(sql, args, self.settings.timeout_s, changes=False)
        return cursor.fetchall() if cursor.description else []

    def columns(self, sql: str) -> list[str]:
        """Return the names of a statement's columns."""
        cursor = self._execute(sql, (), self.settings.timeout_s, changes=False)
        return [column.name for column in cursor.description or ()]

    def change(self, sql: str, args: Sequence[Any] = (), *, within_s: float | None = None) -> int:
        """Send a statement that changes something, once; return how many rows it says.

        TransientError: it was not sent, or the server undid it. UnknownResultError: it was sent,
        and no answer came.
        """
        if "\0" in sql:
            # In C this would be the end of the statement.
            raise RefusedError("a statement with NUL is not sent", target=self.settings.variable)
        deadline = self.settings.timeout_s if within_s is None else within_s
        return max(0, self._execute(sql, args, deadline, changes=True).rowcount)

    def parameter(self, name: str) -> str | None:
        """Return what the server said of itself when it greeted us."""
        return self._connected().info.parameter_status(name)

    def close(self) -> None:
        """Close it; never fails. The next statement opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _execute(
        self, sql: str, args: Sequence[Any], within_s: float, *, changes: bool
    ) -> psycopg.Cursor[Any]:
        connection = self._connected()
        self.sent += 1
        with _Deadline(connection, within_s) as deadline:
            try:
                cursor = connection.execute(sql.encode(), args or None)
            except UnicodeError as error:
                # From None: half a surrogate pair has no bytes, and nothing was sent.
                message = f"this cannot be sent as text: {error.reason}"  # type: ignore[attr-defined]
                raise RefusedError(message, target=self.settings.variable) from None
            except psycopg.Error as error:
                late_s = within_s if deadline.passed else None
                problem = told(error, self.settings, late_s=late_s, sent=changes)
                if deadline.passed or connection.broken or connection.closed:
                    self.close()
                raise problem from None
            except BaseException:
                # Interrupted: whatever still runs is cancelled by our going away.
                self.close()
                raise
        if deadline.passed:
            # The answer came, and the cancel may still be on its way to whatever comes next.
            self.close()
        return cursor

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None and (self._connection.closed or self._connection.broken):
            self.close()
        if self._connection is None:
            try:
                self._connection = psycopg.connect(
                    self.settings.conninfo,
                    autocommit=True,
                    # Poolers in between do not know what was prepared on another connection.
                    prepare_threshold=None,
                )
            except psycopg.Error as error:
                raise not_connected(error, self.settings) from None
            types.register(self._connection)
        return self._connection


class _Deadline:
    """Cancels what runs on a connection for too long, and cuts it where a cancel is not heard."""

    def __init__(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._over = False
        self._timer = threading.Timer(seconds, self._cancel)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Behind this lock no cancel is under way: it would meet the next statement.
        with self._lock:
            self._over = True
        self._timer.cancel()

    def _cancel(self) -> None:
        with self._lock:
            if self._over:
                return
            self.passed = True
        # Not under the lock: the statement may be over before the server has heard the cancel.
        # Whatever it says, this connection carries no other statement after it.
        with contextlib.suppress(Exception):
            self._connection.cancel_safe(timeout=GRACE_S)
        self._timer = threading.Timer(GRACE_S, self._cut)
        self._timer.daemon = True
        with self._lock:
            if not self._over:
                self._timer.start()

    def _cut(self) -> None:
        with self._lock:
            if self._over:
                return
            with contextlib.suppress(Exception):
                duplicate = socket.socket(fileno=os.dup(self._connection.fileno()))
                duplicate.shutdown(socket.SHUT_RDWR)
                duplicate.close()
