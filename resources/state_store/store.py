"""The store as a whole: open it, use it, close it."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from sqlalchemy import URL

from resources.clock import utc_now
from resources.state_store.address import parse_url, place
from resources.state_store.audit import Audit
from resources.state_store.database import Database, Now
from resources.state_store.locks import Locks
from resources.state_store.outcomes import Outcomes
from resources.state_store.restarts import Restarts
from resources.state_store.samples import Samples
from resources.state_store.schema import migrate
from resources.state_store.tickets import Tickets


class StateStore(Tickets, Locks, Audit, Outcomes, Samples, Restarts):
    """Durable when a method returns; safe to share between threads, not across a fork.

    Raises TransientError where trying again may help, RefusedError where it will not, and
    UnknownResultError where a connection was lost in the middle of COMMIT.
    """

    @classmethod
    def open(cls, url: URL | str, *, clock: Now = utc_now) -> Self:
        """Connect, and bring the tables up to date; cheap where they are."""
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        database = Database(parse_url(text), clock)
        try:
            migrate(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def place(self) -> str:
        """Name the store: for messages, and to tell it from every other one."""
        here = f" on {socket.gethostname()}" if self._database.is_sqlite else ""
        return f"{place(self._database.url)}{here}"

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
