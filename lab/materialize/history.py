"""What ran where: the statement history, as Materialize keeps it, and the sessions."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

import psycopg


@dataclass(slots=True)
class Running:
    """A statement in the history; `logged` is False where logging was off when it began."""

    id: uuid.UUID
    logged: bool


@dataclass
class History:
    """Writes the history through a connection of its own, so that no rollback takes it back."""

    connection: psycopg.Connection
    #: Off, nothing is logged and nothing that was logged goes away.
    logging: bool = True
    #: The role `lab` does not log itself; these applications are left out on request.
    ignored: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _transactions: int = 0

    def began(
        self,
        *,
        cluster: tuple[str, str] | None,
        application: str,
        database: str,
        strategy: str | None,
    ) -> Running:
        """Write down that a statement runs; until `ended` it has no finished_at."""
        running = Running(uuid.uuid4(), self.logging and application not in self.ignored)
        if running.logged:
            with self._lock:
                self._transactions += 1
                self.connection.execute(
                    "INSERT INTO mz_internal.mz_statement_execution_history VALUES "
                    "(%s, %s, 1.0, %s, %s, %s, %s, '{public}', 'strict serializable', NULL, "
                    "%s::bigint::mz_catalog.uint8, NULL, lab.setting('version'), lab.now(), NULL, "
                    "NULL, NULL, NULL, %s)",
                    (
                        running.id, uuid.uuid4(), cluster[0] if cluster else None, application,
                        cluster[1] if cluster else None, database, self._transactions, strategy,
                    ),
                )  # fmt: skip
        return running

    def ended(self, running: Running, status: str, rows: int | None = None) -> None:
        """Write down how it ended: success, error, canceled or aborted."""
        if running.logged:
            with self._lock:
                self.connection.execute(
                    "UPDATE mz_internal.mz_statement_execution_history SET "
                    "finished_at = lab.now(), finished_status = %s, rows_returned = %s "
                    "WHERE id = %s",
                    (status, rows, running.id),
                )

    def session_began(self, session: uuid.UUID, number: int, user: str, client: str) -> None:
        """Write down that somebody is connected."""
        with self._lock:
            self.connection.execute(
                "INSERT INTO mz_internal.mz_sessions SELECT %s, "
                "%s::bigint::mz_catalog.uint4, id, %s, lab.now() FROM mz_catalog.mz_roles "
                "WHERE name = %s",
                (session, number, client, user),
            )

    def session_ended(self, session: uuid.UUID) -> None:
        """Write down that somebody has gone."""
        with self._lock:
            self.connection.execute("DELETE FROM mz_internal.mz_sessions WHERE id = %s", (session,))
