"""What became of a request to the API server: done, try again, refused, or unknown.

The status decides, and for a change whether it can have arrived at all.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

import orjson
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.kubernetes.rights import Need
from resources.kubernetes.transport import AnswerTooLargeError, NoJsonError

UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
GONE = 410
BUSY = 429

#: Why an eviction is answered with 429, beside load.
_BUDGET = "DisruptionBudget"

_LOOK_FIRST = "look at what is there before anything is sent again"
#: What a missing `create` on pods/exec is answered with: no reason at all (seen live, 1.35).
_BARE = re.compile(r"is forbidden:\s*$")

_USER = re.compile(r'User "([^"]+)"')
_NOT_SENT = (NewConnectionError, ConnectTimeoutError, ProxyError, SSLError)


class BusyError(TransientError):
    """429: the API server sheds load; nothing was applied.

    Attributes:
        retry_after_s: How long it asks to be left alone; None where it does not say.
    """

    def __init__(self, message: str, *, target: object, retry_after_s: float | None) -> None:
        super().__init__(message, target=target)
        self.retry_after_s = retry_after_s


class ExpiredError(TransientError):
    """410: what was asked for is older than the API server remembers; list again."""


class Told:
    """An API server's `Status`, as far as it is one."""

    def __init__(self, status: int, reason: str, body: str, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = {key.lower(): value for key, value in headers.items()}
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        found: dict[str, Any] = document if isinstance(document, dict) else {}
        self.is_status = found.get("kind") == "Status"
        self.reason = str(found.get("reason") or reason or "")
        self.message = str(found.get("message") or "") if self.is_status else ""
        details = found.get("details") or {}
        self.causes = {
            str(cause.get("reason")): str(cause.get("message") or "")
            for cause in details.get("causes") or []
        }
        self._retry_after = self.headers.get("retry-after") or details.get("retryAfterSeconds")

    @classmethod
    def of(cls, error: Any) -> Told:
        """From an ApiException of the official client."""
        body = error.body if isinstance(error.body, str) else (error.body or b"").decode()
        return cls(int(error.status or 0), str(error.reason or ""), body, error.headers or {})

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait, where it says so in seconds."""
        try:
            return max(0.0, float(self._retry_after)) if self._retry_after is not None else None
        except (TypeError, ValueError):
            return None

    @property
    def sentence(self) -> str:
        """Its own words, else the status."""
        return self.message or f"HTTP {self.status} {self.reason}".strip()


def meaning(
    error: Exception, need: Need, target: str, *, host: str, changes: bool
) -> CaretakerError:
    """Return what to raise for `error`, met while `need` was exercised on `target`."""
    if _is_official(error) and getattr(error, "status", None):
        return _answered(Told.of(error), need, target, changes=changes)
    text = f"{host}: {_words(error)}"
    if _untrusted(error):
        return RefusedError(
            f"{host}: its certificate is not trusted ({_words(error)})",
            target=target,
            hint="put the authority's certificate into the kubeconfig",
        )
    if isinstance(error, NoJsonError) and not changes:
        return RefusedError(
            f"{host} answered, and is no API server: {error!s:.60}",
            target=target,
            hint="the kubeconfig's server must be the API server's own address",
        )
    if isinstance(error, AnswerTooLargeError):
        return RefusedError(text, target=target)
    if changes and not _never_sent(error):
        return UnknownResultError(
            f"{text}; the request to {need.missing} was sent and may have been applied, or may yet "
            "be",
            target=target,
            hint=_LOOK_FIRST,
        )
    return TransientError(text, target=target)


def cause_of(error: Exception) -> Exception | None:
    """Return it as a cause to be kept, unless nobody knows it: its words may be our headers."""
    known = (HTTPError, OSError, NoJsonError, AnswerTooLargeError)
    return error if isinstance(error, known) or _is_official(error) else None


def _answered(told: Told, need: Need, target: str, *, changes: bool) -> CaretakerError:
    if told.status == UNAUTHORIZED:
        return RefusedError(
            "the API server does not accept our credentials: the token has expired or is wrong",
            target=target,
            hint="log in again, or take a fresh token for the service account",
            status=told.status,
        )
    if told.status == FORBIDDEN:
        return forbidden(told, need, target)
    if told.status == BUSY and _BUDGET in told.causes:
        said = " ".join(f"{told.message} {told.causes[_BUDGET]}".split())
        return RefusedError(said, target=target, status=BUSY)
    if told.status == BUSY:
        after = told.retry_after_s
        return BusyError(told.sentence, target=target, retry_after_s=after)
    if told.status == GONE:
        return ExpiredError(told.sentence, target=target)
    if told.status >= 500:  # noqa: PLR2004 - the class of statuses
        if changes:
            return UnknownResultError(
                f"{target}: {told.sentence} (HTTP {told.status})", target=target, hint=_LOOK_FIRST
            )
        return TransientError(f"{target}: {told.sentence} (HTTP {told.status})", target=target)
    if not told.is_status and told.status != NOT_FOUND:
        return RefusedError(
            f"what answers there is no API server (HTTP {told.status})",
            target=target,
            hint="the kubeconfig's server must be the API server's own address",
            status=told.status,
        )
    return RefusedError(told.sentence, target=target, status=told.status)


def forbidden(told: Told, need: Need, target: str) -> RefusedError:
    """A 403 as what is missing. Other refusals, as of an admission webhook, keep their words."""
    rbac = not told.message or " cannot " in told.message or _BARE.search(told.message)
    if not rbac:
        return RefusedError(told.message, target=target, status=FORBIDDEN)
    found = _USER.search(told.message)
    who = found[1] if found else "our user"
    return RefusedError(
        f"Forbidden: {who} may not {need.missing}",
        target=target,
        hint=need.hint,
        status=FORBIDDEN,
    )


def _never_sent(error: Exception) -> bool:
    """Whether there was no connection that a request could have gone over."""
    return _untrusted(error) or isinstance(error, (*_NOT_SENT, ConnectionRefusedError))


def _untrusted(error: Exception) -> bool:
    """The official client stumbles over a failed handshake: an AttributeError is what it raises."""
    return any(isinstance(link, ssl.SSLCertVerificationError) for link in _chain(error))


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    return chain


def _is_official(error: Exception) -> bool:
    """Whether it is the official client's own; imported here, because that takes two seconds."""
    from kubernetes.client.rest import ApiException  # noqa: PLC0415

    return isinstance(error, ApiException)


def _words(error: Exception) -> str:
    chain = _chain(error)
    for link in chain:
        if isinstance(link, NewConnectionError | ConnectTimeoutError):
            refused = any(isinstance(each, ConnectionRefusedError) for each in chain)
            if refused:
                return "Connection refused"
            if isinstance(link, ConnectTimeoutError) and not isinstance(link, NewConnectionError):
                return "no connection in time"
    for link in reversed(chain):
        if isinstance(link, TimeoutError):
            return str(link) or "no complete answer in time"
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
    if _is_official(error):
        return " ".join(str(getattr(error, "reason", "")).split())
    if isinstance(error, HTTPError):
        return "the connection ended before the answer did"
    return f"an unexpected {type(error).__name__}"
