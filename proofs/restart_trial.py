"""One trial: a restart is killed, whoever takes it over may be killed, and all must be well."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lab.cratedb import LabCrateDB
from lab.kubernetes import manifests
from lab.kubernetes.cluster import CratePods, LabDidNotSettleError
from lab.kubernetes.plane import Plane
from proofs.children import ROOT, Child, HungError, Zygote
from proofs.orders import AT_STORE, Blow, Order
from proofs.restart_verdict import Verdict
from proofs.restart_witness import Witness

#: Waits short enough to be killed in hundreds of times; all else is what an operator gets.
PACE: dict[str, Any] = {
    "settle_s": 0.5,
    "stable_s": 1.0,
    "hang_after_s": 15.0,
    "statement_timeout_s": 30.0,
    "prepare_timeout_s": 60.0,
    "rest_timeout_s": 90.0,
    "ready_margin_s": 120.0,
}

_UNDER_WAY = {"PREPARING", "DRAINING", "DELETING", "AWAITING_POD", "AWAITING_GREEN"}

#: Runs until nothing is owed and every pod is another one, at most.
_MOST_RUNS = 8
_RUN_WITHIN_S = 900.0
_SETTLES_WITHIN_S = 240.0

#: What an operator set before, and must find again.
_OF_AN_OPERATOR = "SET GLOBAL PERSISTENT \"cluster.graceful_stop.timeout\" = '600s'"

_IN_FORCE = (
    "SELECT settings['cluster']['graceful_stop'], "
    "settings['cluster']['routing']['allocation']['enable'] FROM sys.cluster"
)


@dataclass(frozen=True)
class Scene:
    """What is restarted, and how.

    Attributes:
        managed: The preStop hook drains; otherwise we do.
        pods: How many, of three; 0: `caretaker decommission` of one.
        address: SQL by the address; otherwise by exec in the pods.
        speed: Of CrateDB's clock: at 5 a drained node is gone before its pod can be deleted.
    """

    managed: bool
    pods: int = 3
    address: bool = True
    speed: float = 1.0

    def __str__(self) -> str:
        strategy = "managed" if self.managed else "manual"
        what = f"{self.pods} of 3 pods" if self.pods else "one node out"
        way = "address" if self.address else "exec"
        return f"{strategy}, {what}, by {way}, clock x{self.speed:g}"


class Ground:
    """Three pods of one strategy on a control plane, which trials share one after the other."""

    def __init__(self, plane: Plane, name: str, *, managed: bool) -> None:
        """Describe it; `with` brings it up."""
        self.crate = LabCrateDB(
            3, cluster_name=name, recovery_s=0.3, seed=zlib.crc32(name.encode())
        )
        self.pods = CratePods(
            plane,
            crate=self.crate,
            name=name,
            namespace=f"ns-{name}",
            prestop=manifests.DC_UTIL if managed else None,
            back_off_s=0.5,
        )
        self.kubeconfig = str(plane.kubeconfig(f"ns-{name}"))
        self._up = ExitStack()

    def __enter__(self) -> Self:
        """Start it."""
        with ExitStack() as up:
            up.enter_context(self.crate)
            up.enter_context(self.pods)
            self.crate.table("doc.readings", shards=4, replicas="1")
            self._up = up.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._up.close()

    def ready(self, speed: float) -> None:
        """Wait until all are well, and set what the operator had set."""
        self.crate.clock.speed = speed
        self.pods.wait_for("all pods Ready", self.pods.all_ready, _SETTLES_WITHIN_S)
        world = self.crate.world
        with world.lock:
            world.settings.persistent.clear()
            world.settings.transient.clear()
        self.crate.sql(_OF_AN_OPERATOR)

    @property
    def settings(self) -> dict[str, Any]:
        """What is in force, and what was set to stay."""
        shown = self.crate.sql(_IN_FORCE)["rows"][0]
        with self.crate.world.lock:
            return {"in force": shown, "persistent": dict(self.crate.world.settings.persistent)}

    def health(self) -> str:
        """GREEN, YELLOW or RED."""
        return str(self.crate.sql("SELECT health FROM sys.cluster_health")["rows"][0][0])


class Trial:
    """A home of its own on a ground, and the runs that live and die there."""

    def __init__(self, zygote: Zygote, ground: Ground, home: Path, scene: Scene) -> None:
        """Take what was made; `kind` and `about` of the verdict are the caller's."""
        self.verdict = Verdict("", str(scene))
        self._zygote, self._ground, self._home, self._scene = zygote, ground, home, scene
        self._children: list[Child] = []
        self.took_ms = self.commits = 0
        (home / "options.json").write_text(json.dumps(PACE))

    def play(self, blows: Sequence[Blow]) -> Verdict:
        """Run, hit the first runs, let others finish, and judge."""
        ground = self._ground
        try:
            ground.ready(self._scene.speed)
            before = ground.settings
            with Witness(ground.pods) as witness:
                self._run_to_the_end(list(blows), witness)
                ground.pods.wait_for("all pods Ready", ground.pods.all_ready, _SETTLES_WITHIN_S)
            self._judge(before, witness)
        except (HungError, LabDidNotSettleError) as error:
            self.verdict.hung.append(str(error))
        finally:
            for child in self._children:
                child.end()
        return self.verdict

    @property
    def meant(self) -> list[str]:
        """The pods that are to be restarted."""
        return self._ground.pods.pods[: self._scene.pods or 1]

    # --- the runs ---------------------------------------------------------------------------------

    def _run_to_the_end(self, blows: list[Blow], witness: Witness) -> None:
        command = self._command()
        for number in range(_MOST_RUNS):
            began = time.monotonic()
            child = self._run(command, blows.pop(0) if blows else None)
            self.took_ms = round((time.monotonic() - began) * 1000)
            self.commits = int(child.told().get("commits", 0))
            if (left := self._open()) is not None:
                self.verdict.takeovers += 1
                command = ["tickets", "restore", f"r{left}", "--output", "json"]
                continue
            if all(witness.again(name) for name in self.meant):
                return
            if self._closed():
                # Its ticket is closed, and not every pod was restarted: judged below.
                return
            if number + 1 < _MOST_RUNS:
                self.verdict.anew += 1
                command = self._command()
        self.verdict.incomplete.append(f"not after {_MOST_RUNS} runs: {self.said()[-600:]}")

    def _command(self) -> list[str]:
        options = ["--config", str(self._home / "options.json"), "--output", "json"]
        if not self._scene.pods:
            return ["decommission", self.meant[0], *options]
        named = [] if self._scene.pods == len(self._ground.pods.pods) else self.meant
        pods = [word for name in named for word in ("--pod", name)]
        return ["restart", self._ground.pods.name, *pods, *options]

    def _run(self, command: list[str], blow: Blow | None) -> Child:
        answer = self._home / f"answer-{len(self._children)}.json"
        order = Order(
            "run_command",
            {"arguments": command},
            self._environ(),
            str(self._home),
            str(answer),
            blow if blow is not None and blow.where in AT_STORE else None,
        )
        child = self._zygote.start(order)
        self._children.append(child)
        if blow is not None and blow.where not in AT_STORE:
            if not child.ended.wait(blow.number / 1000):
                child.kill()
        else:
            child.wait(_RUN_WITHIN_S)
        child.end()
        child.await_group()
        if blow is None:
            return child
        if child.code == -9:  # noqa: PLR2004 - SIGKILL
            self.verdict.kills += 1
            self.verdict.stood.append(self._stood())
        else:
            self.verdict.missed += 1
        return child

    def _environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ground, by_address = self._ground, self._scene.address
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self._home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "KUBECONFIG": ground.kubeconfig,
            "CRATE_CONNECTION_STRING": ground.crate.connection_string if by_address else "",
        }

    # --- the store, as another program reads it ---------------------------------------------------

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._home / "caretaker.db", timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def _open(self) -> int | None:
        rows = self._rows("SELECT id FROM caretaker_restarts WHERE closed_at IS NULL")
        return int(rows[0][0]) if rows else None

    def _closed(self) -> list[tuple[str, str]]:
        query = "SELECT outcome, reason FROM caretaker_restarts WHERE closed_at IS NOT NULL"
        return [(str(outcome), str(reason)) for outcome, reason in self._rows(query)]

    def _stood(self) -> str:
        query = "SELECT document FROM caretaker_restarts WHERE closed_at IS NULL"
        rows = self._rows(query)
        if not rows:
            return "no ticket"
        states = [str(pod["state"]) for pod in json.loads(rows[0][0])["pods"]]
        return next((state for state in states if state in _UNDER_WAY), "between pods")

    # --- the end ----------------------------------------------------------------------------------

    def said(self) -> str:
        """Return what the runs have printed, for a failure."""
        try:
            return (self._home / "said.log").read_text(errors="replace")
        except OSError:
            return ""

    def _judge(self, before: dict[str, Any], witness: Witness) -> None:
        verdict, ground = self.verdict, self._ground
        if ground.settings != before:
            verdict.settings.append(f"{ground.settings} instead of {before}")
        for name in witness.twice:
            verdict.twice.append(f"{name}: {sorted(witness.lives[name].lives)}")
        for out in (witness.most_pods_out, witness.most_nodes_out):
            if len(out) > 1:
                verdict.two_down.append(f"{', '.join(out)} at one moment")
        verdict.two_down += witness.crossed
        if witness.missing:
            verdict.missing.append(f"{witness.missing} primaries")
        # The lock of a run that died behind its ticket is anybody's: every later run takes it.
        verdict.left_open += [f"r{row[0]}" for row in self._rows(_OPEN)]
        outcomes = self._closed()
        if [outcome for outcome, _ in outcomes] != ["COMPLETED"]:
            verdict.incomplete.append(f"{outcomes}")
        for name, life in witness.lives.items():
            if (life.restarts > 0) != (name in self.meant):
                verdict.incomplete.append(f"{name} was restarted {life.restarts} times")
        if ground.health() != "GREEN":
            verdict.incomplete.append(f"the cluster is {ground.health()}")
        verdict.restarted = sum(life.restarts > 0 for life in witness.lives.values())
        verdict.in_place = sum(
            count > 0 for life in witness.lives.values() for _, count in life.lives
        )


_OPEN = "SELECT id FROM caretaker_restarts WHERE closed_at IS NULL"


def home_from(furnished: Path, home: Path) -> Path:
    """Return a home of a trial's own."""
    return Path(shutil.copytree(furnished, home))
