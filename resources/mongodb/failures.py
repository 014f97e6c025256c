"""The driver's exceptions, turned into what the reader should do. No password gets through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.mongodb.settings import MongoDBSettings

#: What passes by itself, by MongoDB's numbers: replication too slow, shutting down, stepped down,
#: not the primary (any more), interrupted by either.
TRANSIENT_CODES = frozenset({64, 91, 189, 10107, 11600, 11602, 13435, 13436})
TRANSIENT_LABELS = ("TransientTransactionError", "RetryableWriteError")
UNKNOWN_COMMIT = "UnknownTransactionCommitResult"

DUPLICATE_KEY = 11000
_WRITE_CONFLICT = 112
_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ILLEGAL_OPERATION = 13, 18, 20
_NAMESPACE_NOT_FOUND = 26
#: "This node was not started with the replSet option", and its like.
_NO_REPLICA_SET = frozenset({_ILLEGAL_OPERATION, 76, 94})
_NO_ROOM = frozenset({14031})
#: Refusals that would be the same for any batch: a disk, a right, a kind of server.
OF_THE_SERVER = frozenset({_UNAUTHORIZED, _AUTHENTICATION_FAILED}) | _NO_REPLICA_SET | _NO_ROOM
_TOO_LARGE = frozenset({10334, 17280, 17419, 17420})

STANDALONE = (
    "start mongod with --replSet rs0 (or replication.replSetName) and run rs.initiate() once, "
    "or choose the protocol idempotent, which needs no transactions"
)


class NoTransactionsError(RefusedError):
    """The server has no transactions, or says so and has none."""


def is_transient(error: PyMongoError) -> bool:
    """Whether the same may succeed in a moment."""
    if isinstance(error, (ConnectionFailure, ServerSelectionTimeoutError)):
        # AutoReconnect, NotPrimaryError, NetworkTimeout; a failed greeting may be a refusal.
        return _refusal_within(error) is None
    if any(error.has_error_label(label) for label in TRANSIENT_LABELS):
        return True
    return code_of(error) in TRANSIENT_CODES | {_WRITE_CONFLICT} or isinstance(
        error, ExecutionTimeout
    )


def is_unknown(error: PyMongoError) -> bool:
    """Whether a commit was sent and may have been applied."""
    return error.has_error_label(UNKNOWN_COMMIT)


def is_connection(error: PyMongoError) -> bool:
    """Whether it is the connection that failed, for the count that an alert watches."""
    return isinstance(error, ConnectionFailure)


def code_of(error: PyMongoError) -> int | None:
    """Return the server's number, of whatever part of its answer has one."""
    details: Any = getattr(error, "details", None)
    if isinstance(error, BulkWriteError) and details:
        for each in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())):
            return int(each["code"])
    if isinstance(error, OperationFailure) and error.code is not None:
        return int(error.code)
    if isinstance(details, dict) and isinstance(details.get("code"), int):
        return int(details["code"])
    return None


@contextmanager
def mongodb_errors(settings: MongoDBSettings) -> Iterator[None]:
    """Let only our own errors out."""
    try:
        yield
    except PyMongoError as error:
        # From None: the UI shows the whole chain of causes, and the driver's may quote the URI.
        raise told(error, settings) from None


def refuse(error: PyMongoError, settings: MongoDBSettings) -> NoReturn:
    """Raise ours for the driver's."""
    raise told(error, settings) from None


def told(error: PyMongoError, settings: MongoDBSettings) -> CaretakerError:
    """Return ours for the driver's: what, where, and what fixes it."""
    where, text, code = settings.place, clean(error, settings), code_of(error)
    refusal = _refusal_within(error)
    if refusal is not None:
        return told(refusal, settings)
    if is_unknown(error):
        return UnknownResultError(f"{where}: a commit was sent and not answered: {text}")
    if code == _AUTHENTICATION_FAILED:
        return RefusedError(
            f"{where} refused user or password of MONGODB_URI",
            target="MONGODB_URI",
            hint="check both, and authSource: the database where the user was made",
            code=code,
        )
    if code == _UNAUTHORIZED:
        return RefusedError(
            f"{where}: the user of MONGODB_URI may not do this: {text}",
            target="MONGODB_URI",
            hint=f'db.grantRolesToUser(USER, [{{role: "readWrite", db: "{settings.database}"}}])',
            code=code,
        )
    if code in _NO_REPLICA_SET:
        return NoTransactionsError(
            f"{where} is no replica set and has no transactions: {text}",
            target="MONGODB_URI",
            hint=STANDALONE,
            code=code,
        )
    if is_transient(error):
        return TransientError(f"{where} is not available: {text}", target="MONGODB_URI")
    if isinstance(error, ConfigurationError):
        return RefusedError(f"MONGODB_URI cannot be used: {text}", target="MONGODB_URI")
    return RefusedError(f"{where} refused: {text}", hint=_hint(code), code=code)


def clean(error: PyMongoError, settings: MongoDBSettings) -> str:
    """Return what the driver says in one line, without the password and the topology's dump."""
    text = " ".join(str(error).split()).partition(", Topology Description:")[0]
    text = text.partition(", full error:")[0]
    for secret in settings.secrets:
        text = text.replace(secret, "***")
    return text


def _hint(code: int | None) -> str:
    if code in _NO_ROOM:
        return "free space on the server's disk"
    if code in _TOO_LARGE:
        return "a document is larger than 16 MB and none of its values could be taken out"
    return ""


def _refusal_within(error: PyMongoError) -> OperationFailure | None:
    """Return the refusal that a failed selection of a server is about: a password, mostly."""
    if isinstance(error, NetworkTimeout):
        return None
    seen: BaseException | None = error.__cause__ or error.__context__
    found: OperationFailure | None = None
    while seen is not None and found is None:
        if (
            isinstance(seen, OperationFailure)
            and not isinstance(seen, WriteConcernError)
            and seen.code in {_AUTHENTICATION_FAILED, _UNAUTHORIZED}
        ):
            found = seen
        seen = seen.__cause__ or seen.__context__
    return found
