"""What a fault's action does to the connection it meets."""

from __future__ import annotations

import json
import select
import time
from typing import TYPE_CHECKING, Any

from lab.faults import Action, Fault

if TYPE_CHECKING:
    from lab.cratedb.journal import Entry
    from lab.cratedb.server import Handler

_HTML = b"<!DOCTYPE html><html><head><title>It works!</title></head><body>nginx</body></html>"
_CHUNK_ROWS = 8192


class GoneError(Exception):
    """The connection is no more; nothing is left to answer."""


def misbehave(handler: Handler, rule: Fault, entry: Entry, request: dict[str, Any]) -> bool:
    """Do what the rule says; False where the statement is still to be answered properly."""
    match rule.action:
        case Action.LATENCY:
            _sleep(handler, rule.seconds)
            return False
        case Action.RESET_BEFORE:
            handler.reset()
        case Action.ERROR:
            entry.status, entry.code = rule.status, rule.code
            handler.send_json(rule.status, {"error": {"message": rule.message, "code": rule.code}})
        case Action.DISCONNECTED:
            entry.status = 500
            handler.disconnected()
        case Action.HTML:
            entry.status = 200
            handler.send(200, _HTML, "text/html")
        case Action.WRONG_ROWS:
            _wrong_rows(handler, rule, entry, request)
        case Action.HUGE:
            _huge(handler, rule, entry)
        case Action.LATE:
            _late(handler, rule, entry, request)
        case Action.RESET_AFTER | Action.HANG | Action.HALF_BODY:
            _apply_and(handler, rule, entry, request)
        case _:
            return False
    return True


def _sleep(handler: Handler, seconds: float) -> None:
    """Wait in real time, but not past the node's end."""
    handler.server.stopping.wait(seconds)


def _apply_and(handler: Handler, rule: Fault, entry: Entry, request: dict[str, Any]) -> None:
    status, body = handler.execute(entry.user, request, entry, time.perf_counter())
    if rule.after is not None:
        rule.after(entry)
    text = json.dumps(body).encode()
    if rule.action == Action.HANG:
        _hold(handler)
        return
    handler.wfile.write(handler.head(status, len(text)) + text[: len(text) // 2])
    handler.wfile.flush()
    if rule.action == Action.RESET_AFTER:
        handler.reset()
    handler.close_connection = True


def _late(handler: Handler, rule: Fault, entry: Entry, request: dict[str, Any]) -> None:
    engine = handler.server.engine
    user = entry.user

    def apply() -> None:
        handler.execute(user, request, entry, time.perf_counter())
        if rule.after is not None:
            rule.after(entry)

    with engine.world.lock:
        engine.world.after(rule.seconds, apply)
        entry.delayed = True
    _hold(handler)


def _hold(handler: Handler) -> None:
    """Keep the connection open without a word until the client hangs up or the node dies."""
    while not handler.server.stopping.is_set():
        readable, _, _ = select.select([handler.connection], [], [], 0.05)
        if readable and not handler.connection.recv(1):
            break
    handler.close_connection = True


def _wrong_rows(handler: Handler, rule: Fault, entry: Entry, request: dict[str, Any]) -> None:
    status, body = handler.execute(entry.user, request, entry, time.perf_counter())
    if status == 200 and "rows" in body:  # noqa: PLR2004
        body["rows"] = rule.rows or []
        body["rowcount"] = len(body["rows"])
    if rule.after is not None:
        rule.after(entry)
    handler.send_json(status, body)


def _huge(handler: Handler, rule: Fault, entry: Entry) -> None:
    """Stream rows without ever holding them: the size is known beforehand."""
    row = b'["' + b"x" * 117 + b'"]'
    chunk = b",".join([row] * _CHUNK_ROWS) + b","
    start, end = b'{"cols":["huge"],"rows":[', row + b'],"rowcount":1,"duration":1.0}'
    count = max(1, rule.megabytes * 1024 * 1024 // len(chunk))
    entry.status = 200
    handler.wfile.write(handler.head(200, len(start) + count * len(chunk) + len(end)) + start)
    for _ in range(count):
        handler.wfile.write(chunk)
    handler.wfile.write(end)
