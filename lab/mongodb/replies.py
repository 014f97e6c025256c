"""What a replica set's primary says: greeting, errors with their labels, times."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from typing import Any

import bson
from bson import Int64, ObjectId, Timestamp

from lab.mongodb.wire import MAX_DOCUMENT_BYTES, MAX_MESSAGE_BYTES

#: MongoDB 7.0's, and the version that goes with it.
WIRE_VERSION = 21
VERSION = (7, 0, 0)

TRANSIENT = "TransientTransactionError"
RETRYABLE = "RetryableWriteError"

CODES = {
    "InternalError": 1,
    "BadValue": 2,
    "FailedToParse": 9,
    "Unauthorized": 13,
    "TypeMismatch": 14,
    "AuthenticationFailed": 18,
    "IllegalOperation": 20,
    "NamespaceNotFound": 26,
    "IndexNotFound": 27,
    "CursorNotFound": 43,
    "NamespaceExists": 48,
    "MaxTimeMSExpired": 50,
    "CommandNotFound": 59,
    "WriteConcernFailed": 64,
    "InvalidNamespace": 73,
    "IndexOptionsConflict": 85,
    "IndexKeySpecsConflict": 86,
    "ShutdownInProgress": 91,
    "WriteConflict": 112,
    "CommandNotSupported": 115,
    "PrimarySteppedDown": 189,
    "TransactionTooOld": 225,
    "NoSuchTransaction": 251,
    "TransactionCommitted": 256,
    "OperationNotSupportedInTransaction": 263,
    "NotWritablePrimary": 10107,
    "DuplicateKey": 11000,
    "InterruptedAtShutdown": 11600,
    "OutOfDiskSpace": 14031,
}
_NAMES = {code: name for name, code in CODES.items()}

_CONFLICT = (
    "Caused by :: Write conflict during plan execution and yielding is disabled. :: "
    "Please retry your operation or multi-document transaction."
)


class RefusedCommandError(Exception):
    """A command that is answered with an error."""

    def __init__(self, code: int | str, message: str, labels: Iterable[str] = ()) -> None:
        """Take the code or its name."""
        super().__init__(message)
        self.code = CODES[code] if isinstance(code, str) else code
        self.message = message
        self.labels = tuple(labels)

    def document(self) -> dict[str, Any]:
        """Return the reply."""
        found: dict[str, Any] = {
            "ok": 0.0,
            "errmsg": self.message,
            "code": self.code,
            "codeName": code_name(self.code),
        }
        if self.labels:
            found["errorLabels"] = list(self.labels)
        return found


def code_name(code: int) -> str:
    """Return the name that MongoDB gives an error's code."""
    return _NAMES.get(code, f"Location{code}")


def write_conflict(*, in_transaction: bool) -> RefusedCommandError:
    """Return what the second writer of a document gets."""
    return RefusedCommandError("WriteConflict", _CONFLICT, [TRANSIENT] if in_transaction else [])


def no_such_transaction(number: int, *, aborted: bool) -> RefusedCommandError:
    """Return what everything gets that comes after the end of a transaction, commit included."""
    message = (
        f"Transaction with {{ txnNumber: {number} }} has been aborted."
        if aborted
        else f"Given transaction number {number} does not match any in-progress transactions."
    )
    return RefusedCommandError("NoSuchTransaction", message, [TRANSIENT])


def duplicate_key(
    namespace: str, index: str, pattern: dict[str, Any], value: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of E11000, as MongoDB words them."""
    shown = ", ".join(
        f'{key}: "{found}"' if isinstance(found, str) else f"{key}: {found}"
        for key, found in value.items()
    )
    return {
        "code": CODES["DuplicateKey"],
        "keyPattern": pattern,
        "keyValue": value,
        "errmsg": f"E11000 duplicate key error collection: {namespace} "
        f"index: {index} dup key: {{ {shown} }}",
    }


def hello(port: int, replica_set: str, connection: int, *, legacy: bool) -> dict[str, Any]:
    """Return how a primary greets; `topologyVersion` is left out, or drivers want to be held."""
    host = f"127.0.0.1:{port}"
    return {
        "ismaster" if legacy else "isWritablePrimary": True,
        "helloOk": True,
        "setName": replica_set,
        "setVersion": 1,
        "electionId": ObjectId("7fffffff0000000000000001"),
        "secondary": False,
        "hosts": [host],
        "primary": host,
        "me": host,
        "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
        "maxMessageSizeBytes": MAX_MESSAGE_BYTES,
        "maxWriteBatchSize": 100_000,
        "localTime": dt.datetime.now(dt.UTC),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": connection,
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": False,
        "ok": 1.0,
    }


def build_info() -> dict[str, Any]:
    """Return which version we claim to be."""
    return {
        "version": ".".join(map(str, VERSION)),
        "versionArray": [*VERSION, 0],
        "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
        "ok": 1.0,
    }


def with_times(document: bytes) -> bytes:
    """Add the cluster's time, which every reply of a replica set carries."""
    now = Timestamp(int(time.time()), 1)
    signature = {"hash": b"\0" * 20, "keyId": Int64(0)}
    times = bson.encode(
        {"$clusterTime": {"clusterTime": now, "signature": signature}, "operationTime": now}
    )
    size = len(document) + len(times) - 5
    return size.to_bytes(4, "little") + document[4:-1] + times[4:]
