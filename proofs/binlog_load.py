"""Rows that somebody writes all the time: transactions of 1 to 50,000 rows, hot rows among them."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any

#: Rows that every other transaction changes again.
_HOT = 10
#: How many rows, and how often of a thousand.
_SIZES = {1: 350, 2: 200, 5: 150, 30: 130, 200: 100, 1500: 50, 8000: 15, 50_000: 5}
_SHORT_SIZES = {1: 400, 2: 200, 5: 150, 30: 130, 200: 100, 3000: 20}
_ROWS_A_STATEMENT = 5000
#: A transaction is followed by a pause as if so many rows a second were all that is written: a
#: backlog of minutes would have every kill fall into the same few transactions.
_ROWS_A_SECOND = 2500
_LONGEST_PAUSE_S = 8.0
_AHEAD_AT_MOST = 20_000


class Load(threading.Thread):
    """Writes until told to end; what it wrote the source knows, and nobody else is asked.

    Args:
        stored: How many of its changes have arrived; it does not get far ahead of them.

    Attributes:
        changes: Rows inserted, changed and deleted, as the server counted them.
        largest: Rows of the largest transaction.
    """

    def __init__(
        self,
        server: Any,
        database: str,
        seed: int,
        *,
        short: bool,
        stored: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(name="load", daemon=True)
        self._server = server
        self._database = database
        self._chance = random.Random(seed)  # noqa: S311 - a load, no secret
        self._sizes = _SHORT_SIZES if short else _SIZES
        self._stored = stored
        self._known = 0
        self._enough = threading.Event()
        self._next = _HOT + 1
        self.changes = self.largest = 0
        self.failure: BaseException | None = None

    def prepare(self) -> None:
        """Make the table, with its hot rows."""
        hot = ", ".join(f"({number}, 0, 'hot')" for number in range(1, _HOT + 1))
        self._server.run(
            f"CREATE DATABASE {self._database}",
            f"CREATE TABLE {self._database}.t (id INT PRIMARY KEY, n INT, v VARCHAR(60))",
            f"INSERT INTO {self._database}.t VALUES {hot}",  # noqa: S608 - numbers
        )
        self.changes += _HOT

    def run(self) -> None:
        """Write."""
        try:
            connection = self._server.connect(autocommit=False, database=self._database)
            with contextlib.closing(connection), connection.cursor() as cursor:
                # One of the largest for certain, and early.
                size = max(self._sizes)
                while not self._enough.is_set():
                    if self._is_far_ahead():
                        self._enough.wait(_LONGEST_PAUSE_S / 16)
                        continue
                    self._transaction(cursor, size)
                    connection.commit()
                    self.largest = max(self.largest, size)
                    self._enough.wait(min(size / _ROWS_A_SECOND + 0.01, _LONGEST_PAUSE_S))
                    (size,) = self._chance.choices(*zip(*self._sizes.items(), strict=True))
        except Exception as error:  # noqa: BLE001 - the proof judges it
            self.failure = error

    def end(self) -> None:
        """End after the transaction under way."""
        self._enough.set()
        self.join(120.0)
        if self.failure is not None:
            raise self.failure

    def _is_far_ahead(self) -> bool:
        if self._stored is None:
            return False
        if self.changes - self._known > _AHEAD_AT_MOST:
            self._known = self._stored()
        return self.changes - self._known > _AHEAD_AT_MOST

    def _transaction(self, cursor: Any, size: int) -> None:
        left = size
        while left > 0:
            count = min(left, _ROWS_A_STATEMENT)
            first, self._next = self._next, self._next + count
            values = ", ".join(f"({n}, 0, 'row {n}')" for n in range(first, first + count))
            self.changes += cursor.execute(f"INSERT INTO t VALUES {values}")  # noqa: S608 - numbers
            left -= count
        for _ in range(self._chance.randrange(4)):
            hot = self._chance.randrange(1, _HOT + 1)
            self.changes += cursor.execute("UPDATE t SET n = n + 1 WHERE id = %s", (hot,))
        if self._chance.random() < 0.1:  # noqa: PLR2004 - one in ten
            low = self._chance.randrange(_HOT + 1, self._next + 1)
            self.changes += cursor.execute(
                "DELETE FROM t WHERE id BETWEEN %s AND %s", (low, low + 20)
            )
