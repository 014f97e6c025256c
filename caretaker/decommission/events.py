"""What a restart tells while it goes: constant names, flat fields, and one sentence a name.

The meaning, and where there was one the wording, is that of the operators' own notes (the seed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventName(StrEnum):
    """Every name; a contract for whoever parses the log."""

    ANALYSIS = "analysis"
    HOOK = "hook"
    STRATEGY = "strategy"
    GRACE = "grace"
    STATEMENT = "statement"
    DELETE = "delete_pod"
    DELETED = "pod_deleted"
    DRAINED = "drained"
    EXITED = "process_exited"
    REJOINED = "rejoined_in_place"
    PUT_BACK = "put_back"
    STUCK = "stuck_in_terminating"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    REFUSED = "restart_refused"
    STATE = "state_transition"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class RestartEvent:
    """Something that happened, or is about to.

    Attributes:
        pod: '' where it concerns the whole run.
        detail: One for debugging, such as each statement.
        warning: An operator should look.
    """

    name: EventName
    pod: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    detail: bool = False
    warning: bool = False

    def as_fields(self) -> dict[str, Any]:
        """Return the flat fields of the log record; what is None is left out."""
        named = {"event": self.name.value, "pod": self.pod or None, **self.fields}
        return {key: value for key, value in named.items() if value is not None}

    def sentence(self) -> str:
        """Return it as a person reads it."""
        return _SENTENCES[self.name](self.pod, self.fields)


def _strategy(pod: str, fields: Mapping[str, Any]) -> str:
    if fields["strategy"] == "kubernetes_managed":
        return (
            f"Using Kubernetes-managed decommission for pod {pod}: the preStop hook with dc_util "
            f"drains it in up to {fields['timeout_s']:g} s"
        )
    return (
        f"Using manual decommission for pod {pod}: no dc_util that drains it, so ALTER CLUSTER "
        f"DECOMMISSION does, in up to {fields['timeout_s']:g} s"
    )


def _statement(_: str, fields: Mapping[str, Any]) -> str:
    number, of = fields["number"], fields["of"]
    return f"Executing manual decommission SQL {number}/{of}: {fields['sql']}"


def _delete(pod: str, fields: Mapping[str, Any]) -> str:
    how = "force-delete" if fields.get("force") else "delete"
    return f"Will {how} pod {pod} with grace period {fields['grace_s']}s: {fields['reason']}"


def _exited(pod: str, fields: Mapping[str, Any]) -> str:
    text = f"Manual decommission completed - CrateDB process of pod {pod} has exited"
    if fields["strategy"] == "kubernetes_managed":
        text = f"Kubernetes-managed decommission completed for pod {pod}"
    return f"{text} ({fields['how']})"


def _completed(pod: str, fields: Mapping[str, Any]) -> str:
    return (
        f"Decommission completed for pod {pod} using {fields['strategy']} strategy in "
        f"{fields['duration_s']:.1f} s"
    )


def _reason(pod: str, fields: Mapping[str, Any]) -> str:
    return f"{pod}: {fields['reason']}" if pod else str(fields["reason"])


_SENTENCES: dict[EventName, Callable[[str, Mapping[str, Any]], str]] = {
    EventName.ANALYSIS: lambda pod, _: f"Analyzing decommission strategy for pod {pod}",
    EventName.HOOK: lambda _, fields: (
        f"Cluster config: has_prestop_hook={fields['has_prestop_hook']}, "
        f"has_dc_util={fields['has_dc_util']}"
    ),
    EventName.STRATEGY: _strategy,
    EventName.GRACE: lambda pod, fields: (
        f"Will delete pod {pod} with grace period {fields['grace_s']}s for dc_util"
    ),
    EventName.STATEMENT: _statement,
    EventName.DELETE: _delete,
    EventName.DELETED: lambda pod, _: f"Pod {pod} has been deleted",
    EventName.DRAINED: lambda pod, fields: (
        f"Node {fields['node']} of pod {pod} is drained after {fields['elapsed_s']:.1f} s"
    ),
    EventName.EXITED: _exited,
    EventName.REJOINED: lambda pod, fields: (
        f"The process of pod {pod} came back in place (restart {fields['restart_count']}): "
        "its pod is not deleted"
    ),
    EventName.PUT_BACK: lambda _, fields: f"Putting settings back: {fields['sql']}",
    EventName.STUCK: lambda pod, fields: (
        f"Pod {pod} is stuck in Terminating since {fields['since_s']:.0f} s past its grace; "
        f"{fields['reason']}"
    ),
    EventName.COMPLETED: _completed,
    EventName.SKIPPED: _reason,
    EventName.FAILED: _reason,
    EventName.REFUSED: lambda pod, fields: (
        f"refused, nothing touched: {pod + ': ' if pod else ''}{fields['reason']}"
    ),
    EventName.STATE: lambda pod, fields: f"{pod}: {fields['from_state']} -> {fields['to_state']}",
    EventName.NOTE: _reason,
}
