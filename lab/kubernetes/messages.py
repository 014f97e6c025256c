"""Requests and answers between the front, which has the sockets, and whoever knows the answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from lab.kubernetes.errors import ApiError, bad_request
from lab.kubernetes.kinds import BY_KEY, Kind
from lab.kubernetes.rights import Wanted

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request, with the socket it came over for what leaves HTTP behind."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """Its parameters."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def parameter(self, name: str) -> str:
        """One parameter; '' where it is not given."""
        return (self.query.get(name) or [""])[0]

    @property
    def upgrades(self) -> bool:
        """Whether it asks for a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    def document(self) -> dict[str, Any]:
        """The body; 400 for what is no JSON object."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise bad_request("the body is no JSON object")
        return found


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means.

    Attributes:
        kind: None for what is no object: /version, access reviews.
    """

    kind: Kind | None
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str

    def wanted(self, request: Request) -> Wanted:
        """The request as RBAC and the lab's rules see it."""
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return Wanted(self.verb(request), self.group, resource, self.namespace, self.name)

    def verb(self, request: Request) -> str:
        """As RBAC has it; a WebSocket begins as a GET."""
        if request.method != "GET":
            return _VERBS.get(request.method, request.method.lower())
        if self.name:
            return "get"
        return "watch" if request.parameter("watch") in {"true", "1"} else "list"


def route(request: Request) -> Route:
    """Take a path apart; 404 for what the lab does not know."""
    parts = [unquote(part) for part in request.path.strip("/").split("/")]
    if parts[:1] == ["api"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"]:
        group, rest = "/".join(parts[1:2]), parts[3:]
    else:
        return Route(None, "", request.path, "", "", "")
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:  # noqa: PLR2004 - namespaces/NAME/...
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "", "")[:3]
    kind = BY_KEY.get((group, resource))
    return Route(kind, group, resource, subresource, namespace, name)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Any, status: int = 200) -> Reply:
        """JSON."""
        return cls(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    @classmethod
    def refusal(cls, error: ApiError) -> Reply:
        """A Status."""
        headers = {"Content-Type": "application/json"}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
        return cls(error.code, json.dumps(error.body).encode(), headers)


class Chunks(Protocol):
    """What comes bit by bit, and may be left."""

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""

    def __next__(self) -> bytes:
        """The next bit."""

    def close(self) -> None:
        """Let go of what it comes from."""


@dataclass(frozen=True, slots=True)
class Events:
    """An answer without an end: the chunks of a watch."""

    chunks: Chunks


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A connection to whom the rest of this one is passed on, both ways.

    Attributes:
        head: What it has answered to the handshake.
    """

    sock: socket.socket
    head: bytes


Answer = Reply | Events | Tunnel


class Backend(Protocol):
    """Knows the answer."""

    def answer(self, request: Request) -> Answer:
        """Answer a request; ApiError is a Status."""

    def user(self, request: Request) -> str:
        """Who asks, for the lab's rules; '' where that is not known."""
