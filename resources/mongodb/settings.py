"""What is configured of a MongoDB: `MONGODB_URI` and `MONGODB_DATABASE`, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from caretaker.errors import InvalidSettingError

URI = "MONGODB_URI"
DATABASE = "MONGODB_DATABASE"

#: What a database may be called, less what only one platform takes.
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_EXAMPLE = (
    "mongodb://user:password@host:27017/?replicaSet=rs0 or mongodb+srv://..., with user and "
    "password percent-encoded"
)


class Protocol(StrEnum):
    """How a batch and its offset become one."""

    STAGED = "staged"
    DIRECT = "direct"
    IDEMPOTENT = "idempotent"
    #: Staged where transactions work, else idempotent, with a warning.
    AUTO = "auto"


@dataclass(frozen=True)
class MongoDBSettings:
    """Where the trail is kept."""

    uri: str = field(repr=False)
    database: str
    #: How long to look for a primary before a try has failed.
    server_selection_timeout_s: float = 5.0
    #: Longer than a dead client's transaction lives (60 s): what it holds is waited for.
    socket_timeout_s: float = 90.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], **timeouts: float) -> MongoDBSettings:
        """Return what the variables say.

        Raises:
            InvalidSettingError: One is missing or cannot be used; no password in the message.
        """
        uri = environ.get(URI, "").strip()
        if not uri:
            raise InvalidSettingError(URI, "", _EXAMPLE)
        try:
            # Names are looked up when the client connects, not here.
            if not uri.startswith("mongodb+srv://"):
                parse_uri(uri, validate=True, warn=False)
        except (PyMongoError, ValueError):
            # The parser may quote the password, and so might we: who knows where it begins.
            raise InvalidSettingError(URI, f"{uri[:10]}...", _EXAMPLE) from None
        database = environ.get(DATABASE, "").strip()
        if not _DATABASE_NAME.fullmatch(database):
            raise InvalidSettingError(
                DATABASE, database, "the name of a database, such as audit (letters, digits, _ -)"
            )
        return cls(uri, database, **timeouts)

    @property
    def place(self) -> str:
        """The hosts and the database, for messages."""
        return f"MongoDB {hidden(self.uri)}, database {self.database}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be in any message, as given and as decoded."""
        found = re.match(r"[^:]+://[^:@/]*:([^@/]*)@", self.uri)
        if found is None:
            return ()
        given = found.group(1)
        try:
            decoded = parse_uri(self.uri, validate=False, warn=False).get("password")
        except (PyMongoError, ValueError):
            decoded = None
        return tuple({text for text in (given, decoded) if text})

    def options(self) -> dict[str, Any]:
        """Return what the client is told beside the URI; the URI has the last word on time-outs."""
        named = {name.lower() for name in re.findall(r"[?&]([A-Za-z]+)=", self.uri)}
        milliseconds = {
            "serverSelectionTimeoutMS": self.server_selection_timeout_s,
            "connectTimeoutMS": self.server_selection_timeout_s,
            "socketTimeoutMS": self.socket_timeout_s,
        }
        return {
            "appname": "caretaker",
            "tz_aware": True,
            # Our own retries know what they repeat; some servers apply a driver's retry twice.
            "retryWrites": False,
            **{
                name: int(seconds * 1000)
                for name, seconds in milliseconds.items()
                if name.lower() not in named
            },
        }


def hidden(uri: str) -> str:
    """Return the hosts of a URI, and nothing that may be a secret.

    >>> hidden("mongodb://u:p@ss@a:27017,b:27017/?replicaSet=rs0")
    'a:27017,b:27017'
    """
    rest = uri.partition("://")[2]
    return re.split(r"[/?]", rest.rpartition("@")[2], maxsplit=1)[0]
