"""The demo's fourth wing: a CrateDB in pods, restarted one pod at a time while people watch."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.supervisor import Child, answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CLUSTER, NAMESPACE = "plant", "crate"

#: Lab seconds that a shard of a gigabyte takes to move, and a container to be started again.
_RECOVERY_S, _BACK_OFF_S = 2, 5


@dataclass
class PodRestarts:
    """What the demo starts for the wing, and what it says of it."""

    folder: Path
    api_port: int
    control_port: int
    levers_port: int
    _read: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What caretaker is configured with."""
        return {"KUBECONFIG": str(self._kubeconfig)}

    def children(self) -> tuple[Child, ...]:
        """Return the one process; what runs in the pods are children of its own."""
        levers = str(self.levers_port)
        return (
            Child(
                "Kubernetes",
                (
                    *(sys.executable, "-m", "lab.kubernetes", "--demo"),
                    *("--name", CLUSTER, "--namespace", NAMESPACE),
                    *("--port", str(self.api_port), "--control-port", str(self.control_port)),
                    *("--kube-control-port", levers, "--kubeconfig", str(self._kubeconfig)),
                    *("--recovery-s", str(_RECOVERY_S), "--back-off-s", str(_BACK_OFF_S)),
                ),
                lambda: answers(f"http://127.0.0.1:{levers}/status"),
                f"port {levers} to answer, all pods being Ready",
            ),
        )

    def user(self, ui: str, location: str) -> Child:
        """Return who restarts the cluster, for when the web page can be asked."""
        return Child(
            "operator on call",
            (
                *(sys.executable, "-m", "lab.on_call", "--ui", ui, "--location", location),
                *("--cluster", CLUSTER, "--told", str(self._told)),
            ),
            self._told.exists,
            "the web page to be asked",
        )

    def said_at_start(self) -> str:
        """Return what a newcomer is told of it."""
        return f"""\
decommission: a Kubernetes of pure Python at http://127.0.0.1:{self.api_port}, with a CrateDB of
three nodes in its pods, cluster {CLUSTER}. Somebody launches rolling_restart for it now and then:
a node is drained, its pod deleted by its UID, and the next waits until all is GREEN."""

    def news(self) -> Iterator[str]:
        """Yield what has happened since this was last asked."""
        with contextlib.suppress(FileNotFoundError):
            lines = self._told.read_text(encoding="utf-8").splitlines()
            for line in lines[self._read :]:
                self._read += 1
                if sentence := _sentence(json.loads(line)):
                    yield f"decommission: {sentence}"

    @property
    def _told(self) -> Path:
        return self.folder / "on_call.jsonl"

    @property
    def _kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"


#: What the turn of a pod has come to, by the state of its ticket.
_TURNS = {
    "DRAINING": "its node is being drained",
    "AWAITING_POD": "deleted; waiting for its successor",
    "AWAITING_GREEN": "is another pod, and Ready; waiting for GREEN",
}


def _sentence(told: Mapping[str, Any]) -> str:
    if "launched" in told:
        return f"{told['job']} of {CLUSTER} is launched, run {told['launched'][:8]}"
    if "pod" in told:
        turn = _TURNS.get(told["state"], told["state"])
        nodes = "" if told["nodes"] is None else f", {told['nodes']} nodes"
        return (
            f"{told['pod']}: {turn} "
            f"({told['health'] or 'health unknown'}{nodes}, allocation {told['allocation']})"
        )
    if "ended" in told:
        reason = f"; {told['reason']}" if told["reason"] else ""
        return (
            f"{told['cluster']}: {told['ended']}, {told['pods']} pods one by one in "
            f"{told['took_s']} s; worst health {told['worst_health']}{reason}"
        )
    if "refused" in told:
        return f"run {told['refused'][:8]} began nothing, or ended early; its page says why"
    return ""
