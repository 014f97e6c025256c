"""Reading through the official `crate` package, whose own HTTP layer is replaced.

What crate 2.3 does by itself: it sends a statement that met a 503 or a time-out to the next
server, retries a reset connection for ever, waits without a limit, holds any answer in memory and
drops CrateDB's error code (crate/client/http.py). What stays of it: Connection, Cursor, and how
statements and parameters become a request.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from crate.client.connection import Connection  # type: ignore[import-untyped]
from crate.client.http import Client, Server  # type: ignore[import-untyped]

from caretaker.errors import TransientError
from resources.cratedb.answers import NotCrateDBError, nobody_answered, result_of_read
from resources.cratedb.broken import AnswerTooLargeError, BrokenAnswerError, WireError
from resources.cratedb.hosts import Rota, request_headers
from resources.cratedb.settings import CrateDBSettings
from resources.cratedb.wire import Answer, Deadline, connect, exchange
from resources.sql.cratedb import Statement


class Reader:
    """Statements that only read, each answered by the first host that can.

    Every host is asked at most once for a statement, and all of them together have
    `statement_timeout_s`.
    """

    def __init__(self, settings: CrateDBSettings, rota: Rota, tls: ssl.SSLContext) -> None:
        self._connection = Connection(client=_BoundedClient(settings, rota, tls))

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Return the rows of `statement`."""
        cursor = self._connection.cursor()
        cursor.execute(statement.sql, statement.args)
        # Not fetchall(): it takes each of 50,000 rows through three calls.
        return list(map(tuple, cursor.rows or ()))

    def close(self) -> None:
        """Close the connections that were kept."""
        self._connection.close()


class _BoundedClient(Client):  # type: ignore[misc]
    """crate's client with our hosts, deadline, size limit and errors."""

    def __init__(self, settings: CrateDBSettings, rota: Rota, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._rota = rota
        self._tls = tls
        # ca_cert only keeps crate from looking at REQUESTS_CA_BUNDLE and failing on a stale one;
        # the certificates that count are in `tls`.
        super().__init__(list(rota.order()), ca_cert=os.devnull)

    def _create_server(self, server: str, **_: object) -> None:
        self.server_pool[server] = _KeptServer(server, request_headers(self._settings), self._tls)

    def server_infos(self, server: str) -> tuple[str, None, str]:
        """Ask nothing: Connection() would GET / from every host before the first statement."""
        return server, None, "0.0.0"

    def _json_request(self, method: str, path: str, data: bytes) -> dict[str, Any]:
        return self._request(method, path, data=data)

    def _request(
        self, method: str, path: str, server: str | None = None, *, data: bytes = b""
    ) -> dict[str, Any]:
        deadline = Deadline(self._settings.statement_timeout_s)
        failures: dict[str, Exception] = {}
        for host in [server] if server else self._rota.order():
            try:
                answer = self.server_pool[host].request(method, path, data, deadline=deadline)
                return result_of_read(host, answer)
            except (WireError, TransientError, NotCrateDBError) as error:
                failures[host] = error
                self._rota.demote(host)
            # Another host would send the same answer, or has no time left to.
            last = failures[host]
            if isinstance(last, BrokenAnswerError) and (
                last.timed_out or isinstance(last, AnswerTooLargeError)
            ):
                break
        raise nobody_answered(failures) from next(iter(failures.values()), None)


class _KeptServer(Server):  # type: ignore[misc]
    """One host; the connections to it are kept for the next read."""

    def __init__(self, host: str, headers: Mapping[str, str], tls: ssl.SSLContext) -> None:
        # Not calling crate's: all it makes is the urllib3 pool that this class does without.
        self._host = host
        self._headers = {**headers, "Accept-Encoding": "gzip, deflate"}
        self._tls = tls
        self._kept: list[Any] = []

    def request(
        self, method: str, path: str, data: bytes | None = None, *, deadline: Deadline, **_: object
    ) -> Answer:
        """Send a request over a kept connection, or over a new one."""
        request = (method, path, data, self._headers)
        while self._kept:
            connection = self._kept.pop()
            if not connection.is_connected:
                connection.close()
                continue
            try:
                return self._keep(connection, exchange(connection, request, deadline))
            except BrokenAnswerError as error:
                # A kept connection that breaks says nothing about the host: it may have been
                # closed between two looks, and asking twice is harmless for a read.
                if error.timed_out or isinstance(error, AnswerTooLargeError):
                    raise
        connection = connect(self._host, self._tls, deadline)
        return self._keep(connection, exchange(connection, request, deadline))

    def _keep(self, connection: Any, answer: Answer) -> Answer:
        if not connection.is_closed:
            self._kept.append(connection)
        return answer

    def close(self) -> None:
        """Close what was kept."""
        while self._kept:
            self._kept.pop().close()
