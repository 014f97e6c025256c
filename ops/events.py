"""What a step tells while it works: constant names, flat fields, and one sentence a name.

Names and fields are a contract for whoever parses the JSON log. The sentence is made here and
nowhere else; a step says what happened, not how to put it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from caretaker.translog.model import Target, partition_text

#: The attribute of a log record that carries an event's fields to the renderers.
EVENT_ATTRIBUTE = "caretaker_event"


@dataclass(frozen=True)
class Event:
    """Something that happened, for people and for machines.

    Attributes:
        name: state_transition, sql, leases, outcome, preflight_refused, critical, note.
        target: The table or partition, or None where it concerns the whole run.
        fields: Flat values; those that are None are left out.
        level: A level of the logging module.
    """

    name: str
    target: Target | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    level: int = logging.INFO

    def as_fields(self) -> dict[str, Any]:
        """Return the flat fields, the names of the target among them."""
        named: dict[str, Any] = {"event": self.name}
        if self.target is not None:
            named["table"] = str(self.target.table)
            named["partition"] = partition_text(self.target) or None
        named.update(self.fields)
        return {key: value for key, value in named.items() if value is not None}

    def sentence(self) -> str:
        """Return the event as a person reads it."""
        subject = f"{self.target}: " if self.target is not None else ""
        return subject + _SENTENCES.get(self.name, _plain)(self.fields)


class HasLog(Protocol):
    """A Dagster context, as far as events need one."""

    @property
    def log(self) -> logging.Logger: ...


def emit(context: HasLog, event: Event) -> None:
    """Write an event to the run's log, where the UI and the console's renderer find it."""
    context.log.log(event.level, event.sentence(), extra={EVENT_ATTRIBUTE: event.as_fields()})


def _state_transition(fields: Mapping[str, Any]) -> str:
    text = f"{fields['from_state']} -> {fields['to_state']}"
    if fields.get("reason"):
        text += f" ({fields['reason']})"
    return text


def _leases(fields: Mapping[str, Any]) -> str:
    text = f"MONITORING_LEASES (attempt {fields['attempt']}/{fields['attempts']}"
    if fields.get("next_look_s") is not None:
        text += f", next look in {fields['next_look_s']:g} s"
    text += ")"
    if fields.get("reason"):
        text += f": {fields['reason']}"
    return text


def _sql(fields: Mapping[str, Any]) -> str:
    if fields.get("error"):
        return f"{fields['sql']} -> {fields['error']}"
    return f"{fields['sql']} ({fields['elapsed_ms']} ms)"


def _outcome(fields: Mapping[str, Any]) -> str:
    text = str(fields["outcome"])
    if fields.get("degraded"):
        text += ", degraded"
    if fields.get("seconds_at_zero"):
        text += f", {fields['seconds_at_zero']:.2f} s at 0 replicas"
    if fields.get("reason"):
        text += f": {fields['reason']}"
    return text


def _preflight_refused(fields: Mapping[str, Any]) -> str:
    return f"preflight refused, nothing touched: {fields['reason']}"


def _critical(fields: Mapping[str, Any]) -> str:
    return str(fields["reason"])


def _plain(fields: Mapping[str, Any]) -> str:
    return str(fields.get("reason", ""))


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "state_transition": _state_transition,
    "leases": _leases,
    "sql": _sql,
    "outcome": _outcome,
    "preflight_refused": _preflight_refused,
    "critical": _critical,
}
