"""What an answer of CrateDB means to whoever asked: done, try again, refused, or unknown.

The status and the code (`{"error": {"message", "code"}}`) decide, never the wording, except for
the one answer that has neither: a draining node's plain-text "disconnected".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.cratedb.broken import AnswerTooLargeError, NotSentError, WireError
from resources.cratedb.wire import Answer
from resources.sql.cratedb import Statement

#: 4040 is a node or shard that the asked node does not know any more (or yet): it passes.
_PASSING_CODES = frozenset({4040, 4290})

_OK = 200
_BAD_REQUEST = 400
_UNAUTHORIZED = 401
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500

#: What a proxy says for a CrateDB that is not there at the moment.
_GATEWAY_STATUSES = frozenset({502, 503, 504})

_LOOK_FIRST = "look at what is there before anything is sent again"
_WRONG_SERVER = "CRATE_CONNECTION_STRING must name CrateDB's HTTP port, usually 4200"


class NotCrateDBError(RefusedError):
    """Something answered that is no CrateDB: another host may be one."""


def result_of_read(host: str, answer: Answer) -> dict[str, Any]:
    """Return the result set, or raise what the answer means for a statement that only reads.

    Any failure of the server (5xx) is passing here: nothing was changed, and the same question may
    be answered by the next host, or by this one in a moment (seen around a node's exit: 5000
    NodeNotConnected, 5005 JobKilled, 5031 no master).
    """
    document = _json(answer)
    if answer.status == _OK and isinstance(document.get("rows"), list):
        return document
    if (refusal := _refusal(host, answer, document)) is not None:
        raise refusal
    if (message := _failure(document)) is not None or answer.status in _GATEWAY_STATUSES:
        raise TransientError(f"{host}: {_told(answer, message)}", target=host)
    if answer.status == _OK and answer.data[:1] == b"{":
        raise TransientError(f"{host}: the answer stopped half-way", target=host)
    raise NotCrateDBError(
        f"{host} answered, but not like CrateDB: {_excerpt(answer)}",
        target=host,
        hint=_WRONG_SERVER,
        status=answer.status,
    )


def check_change(host: str, answer: Answer, statement: Statement) -> None:
    """Return if the change was carried out, or raise what the answer means for what was sent.

    Only an answer that says so is a "no": a 503 after 30 s without a master may have reached the
    next master, a 500 may have come from one of three nodes, and a proxy's 504 says nothing.
    """
    document = _json(answer)
    if answer.status == _OK and "error" not in document and "rowcount" in document:
        if statement.counts_acknowledgement and document["rowcount"] == 0:
            told = "not every node has acknowledged it in time (row count 0)"
            raise UnknownResultError(f"{host}: {told}", target=host, hint=_LOOK_FIRST)
        return
    if (refusal := _refusal(host, answer, document)) is not None:
        raise refusal
    message = _failure(document)
    told = _told(answer, message) if message else f"no answer of CrateDB: {_excerpt(answer)}"
    raise UnknownResultError(f"{host}: {told}", target=host, hint=_LOOK_FIRST)


def unknown_after(host: str, error: WireError) -> UnknownResultError:
    """A change was sent to `host`, and what came back is not an answer."""
    return UnknownResultError(
        f"{host}: {error}; the statement was sent and may have been applied, or may yet be",
        target=host,
        hint=_LOOK_FIRST,
    )


def nobody_answered(failures: Mapping[str, Exception]) -> CaretakerError:
    """What to raise when each host was tried once: refused only where no host can ever answer."""
    reasons = "; ".join(_reason(host, error) for host, error in failures.items())
    hosts = ", ".join(failures)
    if all(isinstance(e, NotCrateDBError) for e in failures.values()):
        return next(e for e in failures.values() if isinstance(e, NotCrateDBError))
    too_large = [e for e in failures.values() if isinstance(e, AnswerTooLargeError)]
    if too_large or all(isinstance(e, NotSentError) and e.certain for e in failures.values()):
        return RefusedError(reasons, target=hosts)
    if len(failures) == 1:
        return TransientError(reasons, target=hosts)
    return TransientError(f"no CrateDB host answered: {reasons}", target=hosts)


def _reason(host: str, error: Exception) -> str:
    return str(error) if isinstance(error, CaretakerError) else f"{host}: {error}"


def _refusal(host: str, answer: Answer, document: Mapping[str, Any]) -> CaretakerError | None:
    """What the answer says about the request itself: it was not carried out, for this reason."""
    code = _code(document)
    says_no = _BAD_REQUEST <= answer.status < _SERVER_ERROR
    # A draining node closes what connects to it with a bare 500, before it looks at the request.
    if answer.status == _SERVER_ERROR and not document and _is_disconnected(answer.data):
        return TransientError(f"{host}: the node is shutting down", target=host)
    if answer.status == _TOO_MANY_REQUESTS or (says_no and code in _PASSING_CODES):
        return TransientError(f"{host}: {_told(answer, _failure(document))}", target=host)
    if answer.status == _UNAUTHORIZED and code is None and "www-authenticate" in answer.headers:
        return RefusedError(
            f"{host}: wrong user or password",
            target=host,
            hint="check CRATE_USERNAME and CRATE_PASSWORD",
            status=answer.status,
        )
    if says_no and code is not None:
        message = _told(answer, _failure(document))
        return RefusedError(message, target=host, status=answer.status, code=code)
    return None


def _json(answer: Answer) -> dict[str, Any]:
    """The JSON object that was answered; empty when it was anything else."""
    try:
        document = orjson.loads(answer.data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _code(document: Mapping[str, Any]) -> int | None:
    error = document.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else None


def _failure(document: Mapping[str, Any]) -> str | None:
    """CrateDB's own message, or None where this is not CrateDB's way to say it."""
    if _code(document) is None:
        return None
    return str(document["error"].get("message", ""))


def _told(answer: Answer, message: str | None) -> str:
    code = _code(_json(answer)) if message is not None else None
    where = f"HTTP {answer.status}" + (f", code {code}" if code is not None else "")
    return f"{message or answer.reason or 'no reason given'} ({where})"


def _is_disconnected(data: bytes) -> bool:
    return data.strip().endswith(b"disconnected")


def _excerpt(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "no content type")
    if location := answer.headers.get("location"):
        return f"HTTP {answer.status}, a redirect to {location}"
    text = " ".join(answer.data[:400].decode("utf-8", "replace").split())
    return f"HTTP {answer.status}, {kind}, {text[:80]!r}"
