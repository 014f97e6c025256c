"""The demo's third wing: a Materialize whose clusters are sized, burst, suspended and woken."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.supervisor import Child, accepts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Seconds of the lab: until a replica is online, and until it holds what it must, on one worker.
_BOOT_S, _HYDRATE_S = 2, 12


@dataclass
class ClusterSizes:
    """What the demo starts for the wing, and what it says of it."""

    folder: Path
    port: int
    control_port: int
    _read: int = 0
    _said: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """What caretaker is configured with."""
        return {"DATABASE_URL": self._url}

    def children(self) -> tuple[Child, ...]:
        """Return the two processes; neither needs Docker or root."""
        control = f"http://127.0.0.1:{self.control_port}"
        return (
            Child(
                "Materialize",
                (
                    *(sys.executable, "-m", "lab.materialize"),
                    *("--port", str(self.port), "--control-port", str(self.control_port)),
                    *("--boot-s", str(_BOOT_S), "--hydrate-s", str(_HYDRATE_S)),
                ),
                lambda: accepts("127.0.0.1", self.port),
                f"port {self.port} to answer",
            ),
            Child(
                "analyst",
                (
                    *(sys.executable, "-m", "lab.analyst"),
                    *("--control", control, "--told", str(self._told)),
                ),
                self._told.exists,
                "its clusters to be made",
            ),
        )

    def said_at_start(self) -> str:
        """Return what a newcomer is told of it."""
        return f"""\
strategies: a Materialize of pure Python and an embedded PostgreSQL at {self._url},
with three clusters: dashboards (target_size, burst, idle_suspend), reports (shrink_to_fit) and
nightly, a managed one (target_size, idle_suspend). Somebody queries dashboards now and then."""

    def news(self) -> Iterator[str]:
        """Yield what has happened since this was last asked."""
        with contextlib.suppress(FileNotFoundError):
            lines = self._told.read_text(encoding="utf-8").splitlines()
            for line in lines[self._read :]:
                self._read += 1
                told = json.loads(line)
                # One that was started again looks at all of them again.
                if "made" not in told and not self._said_already(told):
                    yield f"strategies: {_sentence(told)}"

    def _said_already(self, told: Mapping[str, Any]) -> bool:
        action = told.get("id")
        if action is None or action not in self._said:
            self._said.add(action or "")
            return False
        return True

    @property
    def _url(self) -> str:
        return f"postgresql://materialize@127.0.0.1:{self.port}/materialize"

    @property
    def _told(self) -> Path:
        return self.folder / "analyst.jsonl"


def _sentence(told: Mapping[str, Any]) -> str:
    if "failed" in told:
        return f"dashboards: {told['failed']} failed with {told['error']}"
    if "answered" in told:
        return (
            f"dashboards: the same query succeeded after {told['waited_s']} s "
            f"({told['answer']}), on {told['replicas']}"
        )
    if "action" in told:
        return f"{told['cluster']}: {_action(told)}"
    return f"rows for {told['ready']} are in mz_cluster_strategies; their sensor is on"


def _action(told: Mapping[str, Any]) -> str:
    context = told["context"] or {}
    delta = context.get("credits_delta")
    credits_text = "" if delta is None else f", {delta:+g} credits/h"
    reasons = "; ".join(context.get("reasons") or ())
    ended = "" if told["executed"] else f" -> {told['error'] or 'not executed'}"
    return f"{told['action']} ({context.get('strategy')}: {reasons}{credits_text}){ended}"
