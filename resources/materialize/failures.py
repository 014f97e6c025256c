"""The driver's exceptions, turned into what the reader should do. No password gets through."""

from __future__ import annotations

import psycopg

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.materialize.settings import STORE_URL, DatabaseSettings

#: What passes by itself, as SQLSTATE: connection (08), serialization and deadlock (40), too many
#: connections, lock time-out, statement cancelled, server stopping or starting (57P).
_PASSING = ("08", "40", "53300", "55P03", "57014", "57P0")
#: Of these the server may have done what it was told before it said so.
_MAYBE_DONE = ("08", "57014", "57P0")

#: libpq gives no SQLSTATE for a refused connection, only the server's text.
_NO_ENTRY = (
    "authentication failed",
    "invalid password",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "no password supplied",
    "invalid connection option",
    "login",
)
_UNKNOWN_HOST = ("failed to resolve host", "could not translate host name", "Name or service")
_NO_TLS = ("SSL", "certificate")

_NOT_SENT = (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError)

UNDEFINED = frozenset({"42P01", "42703", "42883", "42704"})
NO_PRIVILEGE = "42501"
NO_REPLICA = "0A000"

#: What WAIT UNTIL READY ends with when its time is over: the change was rolled back, as we asked.
_LAPSED = "provided timeout lapsed"
#: A size that is in the catalog, and that this environment does not allow.
_NO_SUCH_SIZE = "unknown cluster replica size"

#: (SQLSTATE or '' for any, beginning or part of the message, what to do about it)
_HINTS = (
    (NO_REPLICA, "has no replicas available",
     f"name one that has in DATABASE_URL (?options=--cluster%3D<name>), or set {STORE_URL}"),
    (NO_PRIVILEGE, "must be owner of CLUSTER",
     "ALTER CLUSTER ... OWNER TO the role of DATABASE_URL, or a role it is a member of"),
    (NO_PRIVILEGE, "", "grant it to the role of the URL; caretaker doctor materialize says which"),
    ("53000", "max_replicas_per_cluster", "lower max_replicas of this cluster to the server's"),
    ("53000", "max_credit_consumption_rate", "set max_credits_per_hour below the server's limit"),
    ("", "cannot create more than one replica of a cluster containing sources or sinks",
     "this version allows one replica there: no strategy that replaces one can work"),
    ("", _LAPSED, "it did not get ready in that time and was rolled back"),
    ("55006", "", "a reconfiguration is under way: the next cycle looks again"),
)  # fmt: skip


class StatementRefusedError(RefusedError):
    """The server answered no to a statement.

    Attributes:
        sqlstate: As it said, '' where it said none.
    """

    def __init__(self, message: str, *, target: object, hint: str, sqlstate: str) -> None:
        super().__init__(message, target=target, hint=hint)
        self.sqlstate = sqlstate


def is_undefined(error: CaretakerError) -> bool:
    """Whether a statement was refused for a relation, column or function that is not there."""
    if not isinstance(error, StatementRefusedError):
        return False
    # Materialize's planner has no SQLSTATE of its own for most of what it does not find.
    return error.sqlstate in UNDEFINED or "unknown catalog item" in str(error)


def is_no_use(error: CaretakerError) -> bool:
    """Whether a size was refused that would be refused, or not get ready, the next time, too."""
    if not isinstance(error, StatementRefusedError):
        return False
    return any(sign in str(error) for sign in (_LAPSED, _NO_SUCH_SIZE))


def is_forbidden(error: CaretakerError) -> bool:
    """Whether a privilege was missing."""
    return isinstance(error, StatementRefusedError) and error.sqlstate == NO_PRIVILEGE


def not_connected(error: psycopg.Error, settings: DatabaseSettings) -> CaretakerError:
    """Return our error for a connection that did not come about: nothing was sent."""
    text = _text(error, settings)
    place, variable = settings.shown, settings.variable
    if any(sign in text for sign in _UNKNOWN_HOST):
        return RefusedError(
            f"{place} cannot be found: {text}", target=variable, hint=f"the host in {variable}"
        )
    if _sqlstate(error).startswith("28") or any(sign in text for sign in _NO_ENTRY):
        return RefusedError(
            f"{place} refuses {settings.user!r}: {text}",
            target=variable,
            hint=f"user and password of {variable}; % and @ in them are written %25 and %40",
        )
    if _sqlstate(error).startswith("MZ"):
        return RefusedError(f"{place} refuses {settings.user!r}: {text}", target=variable)
    if any(sign in text for sign in _NO_TLS):
        return RefusedError(
            f"{place}: {text}", target=variable, hint=f"sslmode and sslrootcert in {variable}"
        )
    return TransientError(f"{place} cannot be reached: {text}", target=variable)


def told(
    error: psycopg.Error, settings: DatabaseSettings, *, late_s: float | None, sent: bool
) -> CaretakerError:
    """Return our error for a statement that failed.

    `late_s`: it was cancelled by us, after so many seconds. `sent`: it changes something, so that
    without an answer its result is unknown.
    """
    state, text = _sqlstate(error), _text(error, settings)
    where, target = settings.shown, settings.variable
    # Without a SQLSTATE the server said nothing, unless the driver refused to ask it at all.
    unsaid = not state and not isinstance(error, _NOT_SENT)
    rolled_back = _LAPSED in text
    maybe_done = state.startswith(_MAYBE_DONE) and not rolled_back
    lost = late_s is not None or unsaid or maybe_done
    if late_s is not None:
        text = f"no answer within {late_s:g} s"
    if lost and sent:
        return UnknownResultError(f"{where}: {text}", target=target, hint="look before sending on")
    if lost or (state.startswith(_PASSING) and not rolled_back):
        return TransientError(f"{where}: {text}", target=target)
    return StatementRefusedError(
        f"{where}: {text}", target=target, hint=_hint(state, text, error), sqlstate=state
    )


def _hint(state: str, text: str, error: psycopg.Error) -> str:
    for wanted, part, hint in _HINTS:
        if wanted in {"", state} and part in text:
            return hint
    return error.diag.message_hint or ""


def _sqlstate(error: psycopg.Error) -> str:
    return error.diag.sqlstate or getattr(error, "sqlstate", None) or ""


def _text(error: psycopg.Error, settings: DatabaseSettings) -> str:
    primary = error.diag.message_primary
    text = " ".join(str(primary or error).split())
    if error.diag.message_detail:
        text += f" ({error.diag.message_detail})"
    if settings.password:
        text = text.replace(settings.password, "***")
    return text
