"""A connection: opened, asked, closed; an error of the driver is one of ours when it gets out."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT
from pymysql.converters import conversions

from caretaker.binlog.refusals import server_error
from caretaker.errors import InvalidSettingError, RefusedError, TransientError
from resources.mysql.settings import MYSQL_URL, MySQLSettings
from resources.sql.mysql import Statement

#: Wrong user or password; a user without a password where one is needed; one who may not come from
#: here.
_NO_ENTRY = frozenset((1045, 1698, 1130, 1044, 1862, 1820, 3118, 4151))
#: Of the client: TLS, authentication plugins.
_NO_TLS, _NO_PLUGIN = 2026, frozenset((2059, 2061))
_DENIED = frozenset((1227, 1142, 1143, 1370, 1044))
#: Values of ours are written, values of rows are left as they came.
_WRITE_ONLY = {kind: write for kind, write in conversions.items() if not isinstance(kind, int)}
#: "You have an error in your SQL syntax": a statement of another version.
NO_SUCH_STATEMENT = frozenset((1064, 1295))


class UnknownHostError(InvalidSettingError):
    """Nobody knows the name: a typing error, or a name server's moment without an entry."""


class Session:
    """One connection, opened at once, autocommit on, text in UTF-8."""

    def __init__(self, settings: MySQLSettings, *, raw_values: bool = False) -> None:
        """Connect; `raw_values` gives every value of a row as the bytes that came."""
        self._settings = settings
        options: dict[str, Any] = {"conv": _WRITE_ONLY, "use_unicode": False} if raw_values else {}
        self.connection = _connected(settings, options)

    @property
    def version(self) -> str:
        """As the greeting has it; a MariaDB may put 5.5.5- before its own."""
        return str(self.connection.get_server_info())

    def rows(self, statement: Statement | str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        sql, args = (
            (statement, ()) if isinstance(statement, str) else (statement.sql, statement.args)
        )
        with self._told(), self.connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    def tell(self, statement: Statement | str) -> None:
        """Run a statement that has no rows."""
        self.rows(statement)

    def close(self) -> None:
        """Close it; never fails."""
        with contextlib.suppress(Exception):
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (pymysql.MySQLError, OSError) as error:
            raise told(error, self._settings) from error


def denied(error: RefusedError) -> bool:
    """Whether it is a privilege that is missing."""
    return error.code in _DENIED


class _Connection(Connection):  # type: ignore[misc]
    """PyMySQL's, but for TLS that was left open: it checks nothing then, and needs no authorities.

    PyMySQL loads all of the machine's for every connection, which takes longer than the rest of it.
    """

    def _create_ssl_ctx(self, sslp: ssl.SSLContext | dict[str, Any]) -> ssl.SSLContext:
        return sslp if isinstance(sslp, ssl.SSLContext) else _unverified()


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connected(settings: MySQLSettings, options: dict[str, Any]) -> Any:
    context = settings.tls_context()
    try:
        return _Connection(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=settings.timeout_s,
            read_timeout=settings.timeout_s,
            write_timeout=settings.timeout_s,
            ssl=context,
            ssl_disabled=settings.tls is False,
            client_flag=CLIENT.MULTI_RESULTS,
            **options,
        )
    except (pymysql.MySQLError, OSError) as error:
        raise told(error, settings) from error
    except RuntimeError as error:
        # PyMySQL's way to say that `cryptography` is missing, or that a server's greeting is none.
        raise RefusedError(f"{settings.shown}: {error}", target=MYSQL_URL) from error


def told(error: Exception, settings: MySQLSettings) -> Exception:
    """Return our error for one of the driver's."""
    code, message = _parts(error)
    place = settings.shown
    cause = getattr(error, "original_exception", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RefusedError(
            f"{place}: its certificate is not accepted: {cause.verify_message or cause}",
            target=MYSQL_URL,
            hint="ssl_ca names the authority's file; ssl_verify=ca accepts a certificate of"
            " another host, ssl_verify=false any",
        )
    if isinstance(cause, ssl.SSLError):
        return RefusedError(f"{place}: TLS failed: {cause}", target=MYSQL_URL)
    if code == _NO_TLS:
        return RefusedError(
            f"{place}: {message}", target=MYSQL_URL, hint="leave out ssl_*, or give it TLS"
        )
    if _is_unknown_host(cause):
        return UnknownHostError(
            MYSQL_URL, f"host {settings.host}", f"a host that can be found ({cause})"
        )
    if code in _NO_ENTRY:
        return RefusedError(
            f"{place} refuses {settings.user!r}: {message}",
            target=MYSQL_URL,
            hint="user and password of MYSQL_URL; % and @ in them are written %25 and %40",
            code=code,
        )
    if code in _NO_PLUGIN:
        return RefusedError(f"{place}: {message}", target=MYSQL_URL, code=code)
    if isinstance(error, OSError) or code == 0:
        return TransientError(f"{place}: {error}", target=MYSQL_URL)
    if isinstance(error, pymysql.err.InternalError) and code < 1000:  # noqa: PLR2004
        return TransientError(f"{place}: the connection broke: {message}", target=MYSQL_URL)
    result = server_error(code, message)
    result.target = MYSQL_URL
    result.args = (f"{place}: {result}",)
    return result


def _parts(error: Exception) -> tuple[int, str]:
    args = error.args
    if len(args) >= 2 and isinstance(args[0], int):  # noqa: PLR2004
        return args[0], str(args[1])
    return 0, str(error)


def _is_unknown_host(cause: BaseException) -> bool:
    permanent = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    return isinstance(cause, socket.gaierror) and cause.errno in permanent
