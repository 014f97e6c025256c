"""Open cursors: a sorted one lives in the connection that opened it, which it keeps."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from lab.documentdb.engine import Engine, Pg, call
from lab.mongodb.replies import RefusedCommandError
from lab.mongodb.wire import Request

_IDLE_S = 600.0


@dataclass
class Cursor:
    """Where the next page begins; `pg` is None where any connection can give it."""

    continuation: bytes
    pg: Pg | None
    #: It lives in a transaction's connection, which is not ours to give back.
    borrowed: bool = False
    used_at: float = field(default_factory=time.monotonic)


class Cursors:
    """By id."""

    def __init__(self, engine: Engine) -> None:
        """Start with none."""
        self._engine = engine
        self._lock = threading.Lock()
        self._open: dict[int, Cursor] = {}

    def put(self, number: int, cursor: Cursor) -> None:
        """Keep one until its next page is asked for."""
        if cursor.pg is not None and not cursor.borrowed:
            self._engine.keep(cursor.pg)
        with self._lock:
            self._open[number] = cursor

    def next_page(self, request: Request) -> bytes:
        """Return the page that getMore asks for."""
        number = int(request.body["getMore"])
        with self._lock:
            cursor = self._open.pop(number, None)
        if cursor is None:
            raise RefusedCommandError("CursorNotFound", f"cursor id {number} not found")
        pg = cursor.pg if cursor.pg is not None else self._engine.take()
        more = None
        try:
            page, more = call(
                pg,
                "documentdb_api.cursor_get_more",
                "cursorpage::bytea, continuation::bytea",
                request.db,
                request.raw,
                cursor.continuation,
            )
        finally:
            if cursor.pg is None or (more is None and not cursor.borrowed):
                self._engine.give_back(pg)
        if more is not None:
            self.put(number, Cursor(more, cursor.pg, cursor.borrowed))
        return bytes(page)

    def kill(self, numbers: list[int]) -> list[int]:
        """Close cursors, and return those that there were."""
        with self._lock:
            gone = {number: self._open.pop(number) for number in numbers if number in self._open}
        for cursor in gone.values():
            if cursor.pg is not None and not cursor.borrowed:
                self._engine.discard(cursor.pg)
        return list(gone)

    def reap(self) -> None:
        """Close those that nobody has asked for long."""
        now = time.monotonic()
        with self._lock:
            idle = [number for number, one in self._open.items() if now - one.used_at > _IDLE_S]
        self.kill(idle)
