"""Rows that somebody writes all the time: transactions of 1 to 50,000 rows, hot rows among them."""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Any

#: Rows that every other transaction changes again.
_HOT = 10
_SIZES = (1, 1, 1, 2, 5, 30, 200, 1500, 50_000)
_SHORT_SIZES = (1, 1, 2, 5, 30, 200, 3000)
_ROWS_A_STATEMENT = 5000


class Load(threading.Thread):
    """Writes until told to end; what it wrote the source knows, and nobody else is asked.

    Attributes:
        changes: Rows inserted, changed and deleted, as the server counted them.
    """

    def __init__(self, server: Any, database: str, seed: int, *, short: bool) -> None:
        super().__init__(name="load", daemon=True)
        self._server = server
        self._database = database
        self._chance = random.Random(seed)  # noqa: S311 - a load, no secret
        self._sizes = _SHORT_SIZES if short else _SIZES
        self._enough = threading.Event()
        self._next = _HOT + 1
        self.changes = 0
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
                while not self._enough.wait(self._chance.uniform(0.0, 0.03)):
                    self._transaction(cursor)
                    connection.commit()
        except Exception as error:  # noqa: BLE001 - the proof judges it
            self.failure = error

    def end(self) -> None:
        """End after the transaction under way."""
        self._enough.set()
        self.join(120.0)
        if self.failure is not None:
            raise self.failure

    def _transaction(self, cursor: Any) -> None:
        left = self._chance.choice(self._sizes)
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
