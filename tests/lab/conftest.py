"""A lab per test, and a client that sees everything HTTP has to say."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from lab.cratedb import LabCrateDB


@dataclass
class Reply:
    """One answer: status, headers, and the body as text and, where it is one, as JSON."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def rows(self) -> list[list[Any]]:
        found: list[list[Any]] = self.json["rows"]
        return found

    @property
    def code(self) -> int:
        return int(self.json["error"]["code"])

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


class Wire:
    """One connection to one node, kept alive."""

    def __init__(self, url: str, user: str | None = None, password: str = "") -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self.headers = {"Content-Type": "application/json"}
        if user is not None:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self.headers["Authorization"] = f"Basic {token}"

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        self.connection.request(method, path, body, {**self.headers, **headers})
        answer = self.connection.getresponse()
        text = answer.read().decode()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)

    def __call__(
        self,
        stmt: str,
        args: list[Any] | None = None,
        bulk_args: list[Any] | None = None,
        *,
        types: bool = False,
    ) -> Reply:
        body: dict[str, Any] = {"stmt": stmt}
        if args is not None:
            body["args"] = args
        if bulk_args is not None:
            body["bulk_args"] = bulk_args
        path = "/_sql?types" if types else "/_sql"
        return self.raw("POST", path, json.dumps(body).encode())

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def lab() -> Iterator[LabCrateDB]:
    """Three nodes whose recoveries take a tenth of a second."""
    with LabCrateDB(nodes=3, recovery_s=0.1) as running:
        yield running


@pytest.fixture
def still() -> Iterator[LabCrateDB]:
    """Three nodes whose clock stands still until a test pushes it."""
    with LabCrateDB(nodes=3, recovery_s=1.0, speed=0.0) as running:
        yield running


@pytest.fixture
def wire() -> Iterator[Any]:
    """Make connections that are closed when the test is over."""
    made: list[Wire] = []

    def connect(url: str, user: str | None = None, password: str = "") -> Wire:
        made.append(Wire(url, user, password))
        return made[-1]

    yield connect
    for one in made:
        one.close()
