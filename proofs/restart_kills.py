"""Restarts killed -9 at every step and any moment: one pod at a time, once each, all put back.

Both plans, on the lab's API server and on a real control plane: CrateDB's nodes are processes in
pods, runs are killed with their whole group, another run takes over and may be killed as well.
What a witness saw of pods, nodes, shards and settings decides, not what a run says of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from lab.kubernetes.plane import LabPlane, Plane
from lab.servers.errors import ServerUnavailableError
from lab.servers.kubernetes import ControlPlane
from proofs.children import ROOT, HungError, Zygote
from proofs.orders import Blow, Order, Where
from proofs.restart_trial import Ground, Scene, Trial, home_from
from proofs.restart_verdict import Counts, Verdict, sentence

PLANES: dict[str, type[Plane]] = {"lab": LabPlane, "real": ControlPlane}

#: Kills at random moments on each plane, and steps of a plan that a sample of them has.
KILLS = {"lab": 200, "real": 20}
SHORT_KILLS = {"lab": 20, "real": 2}
SHORT_STEPS = 3

#: One in so many of the trials at random moments kills the run that takes over, too.
_TWICE_IN = 4

ONE_POD = (Scene(managed=False, pods=1), Scene(managed=True, pods=1))
SCENES = (
    Scene(managed=False, pods=2),
    Scene(managed=True, pods=2),
    Scene(managed=False, pods=0, address=False),
    Scene(managed=False, pods=1, speed=5.0),
    Scene(managed=True, pods=0, speed=5.0),
    Scene(managed=False, pods=3, speed=5.0),
)
#: Two minutes are all that CI has for it.
SHORT_SCENES = (Scene(managed=False, pods=0, speed=5.0), Scene(managed=True, pods=0, speed=5.0))

EVERY = 10


@dataclass(frozen=True)
class Planned:
    """A trial that is to be made."""

    kind: str
    scene: Scene
    blows: tuple[Blow, ...]


def main(options: list[str]) -> int:
    """Make all trials and print their counts; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m proofs restart_kills")
    parser.add_argument("--short", action="store_true", help="a sample, in a few minutes")
    parser.add_argument("--plane", choices=tuple(PLANES), help="one instead of both")
    parser.add_argument("--kills", type=int, metavar="N", help="at random moments, on each plane")
    parser.add_argument("--no-steps", action="store_true", help="only at random moments")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chosen")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 2, help="trials at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts here, too")
    given = parser.parse_args(options)
    folder = Path(tempfile.mkdtemp(prefix="restart-kills-"))
    proof, began = Proof(folder, given), time.monotonic()
    try:
        for name in [given.plane] if given.plane else PLANES:
            proof.on(name)
    except ServerUnavailableError as error:
        print(f"not run: {error}", file=sys.stderr)
        return 1
    finally:
        print(proof.counts.table())
        print(f"\nthe pod under way, when its run was killed: {proof.counts.where()}")
        print(f"{time.monotonic() - began:.0f} s, seed {given.seed}")
        if given.json:
            text = json.dumps(proof.counts.document(), indent=2) + "\n"
            given.json.write_text(text, encoding="utf-8")
    print(proof.counts.verdict())
    if proof.counts.broken:
        print(f"what each broken trial left is in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


class Proof:
    """The trials under way, and what has been counted."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        """Count nothing yet."""
        self.counts = Counts()
        self._folder, self._given = folder, given
        self._counting = threading.Lock()
        self._number = 0
        self._furnished = folder / "furnished"
        self._furnished.mkdir()
        shutil.copy(ROOT / "dagster.yaml", self._furnished)

    def on(self, name: str) -> None:
        """Make every trial on one control plane."""
        given = self._given
        chosen = random.Random(f"{given.seed} {name}")  # noqa: S311 - to be repeated
        surroundings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self._furnished),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            # Bound by name when the definitions are imported; each child has its own.
            "KUBECONFIG": os.devnull,
            "CRATE_CONNECTION_STRING": "http://127.0.0.1:1",
        }
        with Zygote(surroundings) as zygote, PLANES[name]() as plane:
            self._furnish(zygote, surroundings)
            stage = Stage(zygote, plane, name, self)
            with ExitStack() as lanes:
                first = lanes.enter_context(Lane(stage, 0))
                trials: queue.SimpleQueue[Planned] = queue.SimpleQueue()
                for planned in self._planned(name, first, chosen):
                    trials.put(planned)
                workers = [threading.Thread(target=first.work, args=(trials,))]
                for number in range(1, min(given.lanes, trials.qsize() // 4)):
                    lane = lanes.enter_context(Lane(stage, number))
                    workers.append(threading.Thread(target=lane.work, args=(trials,)))
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()

    def _planned(self, plane: str, lane: Lane, chosen: random.Random) -> Iterator[Planned]:
        given = self._given
        if not given.no_steps and plane == "lab":
            for scene in ONE_POD:
                commits, _ = lane.measured(scene)
                strategy = "managed" if scene.managed else "manual"
                steps = [
                    Planned(f"lab, steps of {strategy}", scene, (Blow(where, number),))
                    for number in range(1, commits + 1)
                    for where in (Where.BEFORE_COMMIT, Where.AFTER_COMMIT)
                ]
                yield from chosen.sample(steps, SHORT_STEPS) if given.short else steps
        kills = given.kills if given.kills is not None else None
        if kills is None:
            kills = (SHORT_KILLS if given.short else KILLS)[plane]
        scenes = SHORT_SCENES if given.short else SCENES
        for number in range(kills):
            scene = scenes[number % len(scenes)]
            _, took_ms = lane.measured(scene)
            times = 2 if chosen.randrange(_TWICE_IN) == 0 else 1
            blows = tuple(Blow(Where.AT_MOMENT, chosen.randint(200, took_ms)) for _ in range(times))
            yield Planned(f"{plane}, random moments", scene, blows)

    def _furnish(self, zygote: Zygote, surroundings: dict[str, str]) -> None:
        home, answer = str(self._furnished), str(self._folder / "furnished.json")
        if zygote.start(Order("furnish", {}, surroundings, home, answer)).wait():
            raise HungError((self._furnished / "said.log").read_text())

    def home(self) -> Path:
        """Return a home for the next trial."""
        with self._counting:
            self._number += 1
            number = self._number
        return home_from(self._furnished, self._folder / f"trial-{number:04}")

    def count(self, verdict: Verdict, home: Path) -> None:
        """Count a trial, and forget its home unless something was broken."""
        with self._counting:
            self.counts.add(verdict)
            total = self.counts.total
        if verdict.broken():
            print(f"BROKEN in {home.name}: {sentence(verdict)}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(home, ignore_errors=True)
        if total["trials"] % EVERY == 0:
            told = f"{total['trials']} trials, {total['kills']} kills, {self.counts.broken} broken"
            print(told, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Stage:
    """What every lane of one control plane shares."""

    zygote: Zygote
    plane: Plane
    name: str
    proof: Proof


class Lane(AbstractContextManager["Lane"]):
    """Trials one after the other, on grounds of its own: one for each strategy."""

    def __init__(self, stage: Stage, number: int) -> None:
        """Have no ground yet."""
        self._stage, self._number = stage, number
        self._grounds: dict[bool, Ground] = {}
        self._made = 0
        self._measures: dict[Scene, tuple[int, int]] = {}

    def __exit__(self, *_: object) -> None:
        """End its grounds."""
        for managed in list(self._grounds):
            self._leave(managed)

    def work(self, trials: queue.SimpleQueue[Planned]) -> None:
        """Make trials until there are none left."""
        while True:
            try:
                planned = trials.get_nowait()
            except queue.Empty:
                return
            self._play(planned)

    def measured(self, scene: Scene) -> tuple[int, int]:
        """Return how many writes and milliseconds an undisturbed run has."""
        if scene not in self._measures:
            kind = f"{self._stage.name}, undisturbed"
            trial = self._play(Planned(kind, scene, ()))
            self._measures[scene] = (trial.commits, max(trial.took_ms, 1000))
        return self._measures[scene]

    def _play(self, planned: Planned) -> Trial:
        stage, scene = self._stage, planned.scene
        home = stage.proof.home()
        trial = Trial(stage.zygote, self._ground(managed=scene.managed), home, scene)
        trial.verdict.kind = planned.kind
        trial.verdict.about += "".join(f"; {blow}" for blow in planned.blows)
        verdict = trial.play(planned.blows)
        if verdict.broken():
            # The next trial's world shall not have this one's past.
            self._leave(scene.managed)
        stage.proof.count(verdict, home)
        return trial

    def _ground(self, *, managed: bool) -> Ground:
        if managed not in self._grounds:
            self._made += 1
            name = f"{'managed' if managed else 'manual'}{self._number}x{self._made}"
            self._grounds[managed] = Ground(self._stage.plane, name, managed=managed).__enter__()
        return self._grounds[managed]

    def _leave(self, managed: bool) -> None:
        self._grounds.pop(managed).__exit__()
