"""JSON over HTTP to an API server, for the lab's own kubelet and controllers of one's own."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]

_WITHIN_S = 20.0
_MERGE = "application/merge-patch+json"


class RestError(Exception):
    """An answer that is no success; `status` 0: there was none."""

    def __init__(self, status: int, message: str) -> None:
        """Take both."""
        super().__init__(message)
        self.status = status


@dataclass
class Rest:
    """An API server, and who we are there."""

    url: str
    token: str
    ca_cert: str = ""
    _tls: ssl.SSLContext | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Load the authority."""
        if self.url.startswith("https"):
            self._tls = ssl.create_default_context(cafile=self.ca_cert or None)

    def ask(self, method: str, path: str, body: Any = None, *, within_s: float = _WITHIN_S) -> Json:
        """Return what is answered; RestError otherwise."""
        # Never a kept one: it may have been the last API server's.
        connection = self._new(within_s)
        kind = _MERGE if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RestError(0, f"{self.url}: {error}") from error
        finally:
            connection.close()
        if answer.status >= 300:  # noqa: PLR2004 - no success
            raise RestError(answer.status, _message(text))
        try:
            found: Json = json.loads(text)
        except ValueError as error:
            raise RestError(answer.status, f"no JSON: {text[:80]!r}") from error
        return found

    def watch(self, path: str, version: str, seconds: int = 30) -> Iterator[Json]:
        """Yield events until the API server ends it; RestError where it does not end well."""
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        connection = self._new(seconds + _WITHIN_S)
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            connection.request("GET", f"{path}?{urlencode(query)}", headers=headers)
            answer = connection.getresponse()
            if answer.status >= 300:  # noqa: PLR2004 - no success
                raise RestError(answer.status, _message(answer.read()))
            while line := answer.readline():
                event: Json = json.loads(line)
                if event["type"] == "ERROR":
                    raise RestError(int(event["object"].get("code") or 0), str(event["object"]))
                yield event
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise RestError(0, f"{self.url}: {error}") from error
        finally:
            connection.close()

    def _new(self, within_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host, port = str(parts.hostname), parts.port
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=within_s, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=within_s)


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text).get("message") or text[:200])
    except (ValueError, AttributeError):
        return text[:200].decode(errors="replace")
