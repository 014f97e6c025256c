"""Sending a statement that changes something: exactly once, to exactly one host."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import orjson

from caretaker.errors import TransientError, UnknownResultError
from resources.cratedb.answers import check_change, nobody_answered, unknown_after
from resources.cratedb.broken import BrokenAnswerError, NotSentError
from resources.cratedb.hosts import SQL_PATH, Rota, request_headers
from resources.cratedb.settings import CrateDBSettings
from resources.cratedb.wire import Deadline, connect, exchange
from resources.sql.cratedb import Statement


def send_once(
    settings: CrateDBSettings,
    rota: Rota,
    tls: ssl.SSLContext,
    statement: Statement,
    *,
    just_before: Callable[[], None] = lambda: None,
) -> None:
    """Return when CrateDB said that it carried out `statement`.

    A host to which no connection can be made has seen nothing, so the next one is tried. From the
    first byte sent there is no second try: TransientError and RefusedError mean that the statement
    was not carried out, UnknownResultError that it may have been, or may yet be. `just_before` is
    called when only the first byte is left to be sent; what it raises passes, and nothing is sent.
    """
    body = orjson.dumps({"stmt": statement.sql, "args": list(statement.args)})
    deadline = Deadline(settings.statement_timeout_s)
    failures: dict[str, Exception] = {}
    for host in rota.order():
        try:
            # Always a new connection: a kept one may be closed by the server at the moment we
            # write, which cannot be told from a change that was carried out and not answered.
            connection = connect(host, tls, deadline)
        except NotSentError as error:
            failures[host] = error
            rota.demote(host)
            continue
        try:
            request = ("POST", SQL_PATH, body, request_headers(settings))
            just_before()
            answer = exchange(connection, request, deadline)
        except BrokenAnswerError as error:
            rota.demote(host)
            raise unknown_after(host, error) from error
        finally:
            connection.close()
        try:
            check_change(host, answer, statement)
        except (TransientError, UnknownResultError):
            rota.demote(host)
            raise
        return
    raise nobody_answered(failures) from next(iter(failures.values()), None)
