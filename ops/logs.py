"""How a run's own events look on stderr: one line for a person, or one flat JSON object."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import structlog

from caretaker.errors import InvalidSettingError
from ops.errors import failure_text
from ops.events import EVENT_ATTRIBUTE

#: console (the default) or json; the environment, because each step's process reads it too.
FORMAT_VARIABLE = "CARETAKER_LOG_FORMAT"
FORMATS = ("console", "json")

#: What a run tells of itself on stderr: that and what is worse. DEBUG, the default, is all of it.
LEVEL_VARIABLE = "CARETAKER_LOG_LEVEL"
LEVELS = ("ERROR", "WARNING", "INFO", "DEBUG")

#: Tag of a run that the command line started, and reports on itself.
STARTED_BY = "caretaker/started_by"

#: Tag of a restart job's run that has taken a cluster: from there on, something may change.
BEGAN = "caretaker/began"

_as_json = structlog.processors.JSONRenderer(ensure_ascii=False)
_format_exception = structlog.processors.format_exc_info


class EventHandler(logging.Handler):
    """Writes our events; what Dagster says of itself is in the UI and only noise here."""

    def __init__(self, log_format: str) -> None:
        super().__init__()
        self._json = log_format == "json"

    def emit(self, record: logging.LogRecord) -> None:
        """Write our own events, and a step's failure where nobody else says it."""
        fields = getattr(record, EVENT_ATTRIBUTE, None)
        text = _message(record)
        if fields is None:
            fields = _failure(record)
            if fields is None:
                return
            text = f"{fields['step']} failed: {fields['error']}"
        _write(_json_line(record, fields) if self._json else _console_line(record, text))


def _failure(record: logging.LogRecord) -> dict[str, Any] | None:
    """Return a step's failure as an event; the command line says those of its own runs itself."""
    known = getattr(record, "dagster_meta", {})
    event = known.get("dagster_event")
    if event is None or not event.is_step_failure or STARTED_BY in known["job_tags"]:
        return None
    step, error = event.step_key, failure_text(event)
    return {"event": "step_failure", "step": step, "error": error, "run_id": known["run_id"]}


@dg.logger(dg.Field(dict, is_required=False), "The run's events, one line each, on stderr.")
def event_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """Return the logger that the jobs use in place of Dagster's own console."""
    log_format = os.environ.get(FORMAT_VARIABLE) or "console"
    if log_format not in FORMATS:
        raise InvalidSettingError(FORMAT_VARIABLE, log_format, " or ".join(FORMATS))
    level = os.environ.get(LEVEL_VARIABLE) or LEVELS[-1]
    if level not in LEVELS:
        raise InvalidSettingError(LEVEL_VARIABLE, level, " or ".join(LEVELS))
    logger = logging.Logger("caretaker", level=level)  # noqa: LOG001 - one of its own
    logger.addHandler(EventHandler(log_format))
    return logger


def say(error: str, unexpected: BaseException | None = None) -> None:
    """Write what a command has to say before or after a run to stderr, as its events are."""
    if os.environ.get(FORMAT_VARIABLE) == "json":
        record = logging.makeLogRecord({"levelname": "ERROR"})
        line = _json_line(record, {"event": "error", "error": error, "exc_info": unexpected})
    else:
        line = f"error: {on_one_line(error)}"
    _write(line)


def _write(line: str) -> None:
    """Write one line to stderr; a reader that has gone away is not our trouble."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def _json_line(record: logging.LogRecord, fields: dict[str, Any]) -> str:
    told = {name: value for name, value in fields.items() if value is not None}
    event = {
        "timestamp": _iso(record.created),
        "level": record.levelname,
        **_format_exception(None, "", told),
    }
    return str(_as_json(None, "", event))


def _console_line(record: logging.LogRecord, text: str) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S} [{record.levelname}] {on_one_line(text)}"


def on_one_line(text: str) -> str:
    r"""Show what would break the line, or command the terminal, as its escape.

    >>> print(on_one_line("a" + chr(10) + "b"))
    a\nb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _message(record: logging.LogRecord) -> str:
    return str(getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage())


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
