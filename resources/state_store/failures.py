"""Drivers' exceptions, turned into what the reader should do. No password gets through."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.state_store.address import STATE_URL, place

#: What passes by itself, as SQLSTATE: connection (08), serialization and deadlock (40), too many
#: connections, lock time-out, statement cancelled, server stopping or starting (57P).
_PASSING = ("08", "40", "53300", "55P03", "57014", "57P0")

#: libpq gives no SQLSTATE for a refused connection, only the server's text.
_REFUSED_CONNECTIONS = (
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "no password supplied",
    "invalid connection option",
)

_SQLITE_REFUSALS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened or created",
    sqlite3.SQLITE_PERM: "the file may not be opened",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no sqlite database",
    sqlite3.SQLITE_IOERR: "the disk does not answer as it should",
}


@contextmanager
def store_errors(url: URL, *, sent: bool = False) -> Iterator[None]:
    """Let only our own errors out.

    `sent`: a COMMIT that cannot be asked for again is on its way, so that a lost connection
    leaves its result unknown.
    """
    try:
        yield
    except (SQLAlchemyError, UnicodeError, OverflowError) as error:
        # From None: the UI shows the whole chain of causes, and theirs may show the URL.
        raise _told(error, url, sent=sent) from None


def missing_table(error: DBAPIError) -> bool:
    """Whether a query failed because its table does not exist."""
    return _sqlstate(error.orig) == "42P01" or "no such table" in str(error.orig)


def _told(error: Exception, url: URL, *, sent: bool) -> CaretakerError:
    if isinstance(error, StatementError) and isinstance(error.orig, CaretakerError):
        return error.orig  # a column type refused the value
    where = f"the state store ({place(url)})"
    if isinstance(error, PoolTimeoutError):
        return TransientError(f"{where}: all connections are busy", target=STATE_URL)
    if not isinstance(error, DBAPIError):
        return RefusedError(f"{where} cannot hold this: {_text(error, url)}", target=STATE_URL)
    if isinstance(error.orig, sqlite3.Error):
        return _told_by_sqlite(error.orig, where)
    return _told_by_postgres(error, where, _text(error.orig, url), sent=sent)


def _told_by_sqlite(error: sqlite3.Error, where: str) -> CaretakerError:
    # The low byte is the kind; the rest says which of its variants, such as READONLY_DIRECTORY.
    kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TransientError(
            f"{where} is locked: another process kept writing past the time limit",
            target=STATE_URL,
        )
    why = _SQLITE_REFUSALS.get(kind)
    text = f"{why} ({error})" if why else str(error)
    return RefusedError(
        f"{where} refused: {text}",
        target=STATE_URL,
        hint="check the disk's free space and the file's permissions" if why else "",
    )


def _told_by_postgres(error: DBAPIError, where: str, text: str, *, sent: bool) -> CaretakerError:
    state = _sqlstate(error.orig)
    lost = error.connection_invalidated or (state is None and _is_operational(error))
    if lost and any(refusal in text for refusal in _REFUSED_CONNECTIONS):
        return RefusedError(f"{where} refused the connection: {text}", target=STATE_URL)
    if sent and (lost or (state or "").startswith(("08", "57P"))):
        return UnknownResultError(
            f"{where} was lost while it wrote: {text}",
            target=STATE_URL,
            hint="look at what the store says before asking again",
        )
    if lost or (state or "").startswith(_PASSING):
        return TransientError(f"{where} is not available: {text}", target=STATE_URL)
    return RefusedError(f"{where} refused: {text}", target=STATE_URL)


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


def _is_operational(error: DBAPIError) -> bool:
    return type(error).__name__ in ("OperationalError", "InterfaceError")


def _text(error: BaseException | None, url: URL) -> str:
    text = " ".join(str(error).split())
    secrets = [url.password, *url.normalized_query.get("password", ())]
    for secret in secrets:
        if secret:
            text = text.replace(str(secret), "***")
    return text
