"""A reset that survives everything: killed at any statement or write, the table comes back.

The cluster is the lab's, over sockets; store, Dagster instance, runs and signals are real. What
reached the cluster and what is in the store's file decides, not what a run says of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from proofs import service
from proofs.children import ROOT, HungError, Zygote
from proofs.counts import Counts
from proofs.orders import Blow, Order
from proofs.plan import RESTORED, Measure, Plan, Planned, first_blows
from proofs.scenes import EVERY_TEXT, ONE, TWO, Scene
from proofs.trial import By, Trial, Verdict, environ, stage

#: Trials at random moments, of which one in four finds the run ended; and rounds of each kind
#: against Dagster's own processes.
KILLS, SHORT_KILLS = 280, 6
ROUNDS = 3

#: Trials between two words on standard error about how far it is.
EVERY = 50

GROUPS = ("reset", "restore", "store", "zombie", "moment", "service")

_NOWHERE = "http://127.0.0.1:1"


def main(options: list[str]) -> int:
    """Make all trials and print their counts; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m proofs translog_kills")
    parser.add_argument("--short", action="store_true", help="a sample, in two minutes")
    parser.add_argument("--kills", type=int, metavar="N", help="at random moments")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chosen")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 2, help="trials at a time")
    parser.add_argument(
        "--only", default="", choices=("", *GROUPS), help="one group of trials instead of all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts here, too")
    given = parser.parse_args(options)
    kills = given.kills if given.kills is not None else SHORT_KILLS if given.short else KILLS
    plan = Plan(short=given.short, kills=kills, seed=given.seed)
    folder = Path(tempfile.mkdtemp(prefix="translog-kills-"))
    began = time.monotonic()
    with Zygote(environ(folder, _NOWHERE)) as zygote:
        proof = Proof(zygote, folder, plan, given.only)
        proof.run(given.lanes)
    print(proof.counts.table())
    print(f"\n{proof.counts.waits()}")
    print(f"{time.monotonic() - began:.0f} s, seed {given.seed}")
    if given.json:
        text = json.dumps(proof.counts.document(), indent=2) + "\n"
        given.json.write_text(text, encoding="utf-8")
    if proof.counts.total.broken():
        print(f"BROKEN; what each broken trial left is in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


class Proof:
    """The trials under way, and what has been counted."""

    def __init__(self, zygote: Zygote, folder: Path, plan: Plan, only: str = "") -> None:
        """Make an empty home, which each trial begins with a copy of."""
        self.counts = Counts()
        self._zygote = zygote
        self._folder = folder
        self._plan = plan
        self._only = only
        self._counting = threading.Lock()
        self._number = self._all = 0
        self._measures: dict[tuple[str, Blow | None], Measure] = {}
        self._furnished = folder / "furnished"
        self._furnished.mkdir()
        shutil.copy(ROOT / "dagster.yaml", self._furnished)
        home = str(self._furnished)
        answer = folder / "furnished.json"
        surroundings = environ(self._furnished, _NOWHERE)
        if zygote.start(Order("furnish", {}, surroundings, home, str(answer))).wait():
            raise HungError((self._furnished / "said.log").read_text())

    def run(self, lanes: int) -> None:
        """Make every trial, so many at a time, and the rounds against Dagster beside them."""
        rounds = threading.Thread(target=self._rounds, name="rounds", daemon=True)
        if self._only in "service":
            rounds.start()
        trials: queue.SimpleQueue[Planned] = queue.SimpleQueue()
        for planned in self._planned():
            trials.put(planned)
        self._all = self._number + trials.qsize()
        workers = [
            threading.Thread(target=self._lane, args=(trials,), name=f"lane-{n}", daemon=True)
            for n in range(lanes)
        ]
        for thread in workers:
            thread.start()
        for thread in (*workers, rounds):
            if thread.ident is not None:
                thread.join()

    def _planned(self) -> Iterator[Planned]:
        for group, trials in (
            ("reset", self._resets),
            ("restore", self._restores),
            ("store", self._store),
            ("zombie", self._zombies),
            ("moment", self._moments),
        ):
            if self._only in group:
                yield from trials()

    def _resets(self) -> Iterator[Planned]:
        plan = self._plan
        if plan.short:
            # From the ticket on: before it, nothing is owed to anybody.
            trials = plan.resets_killed(ONE, self._measured(ONE), from_ticket=True)
            yield from plan.some(trials, 14)
        every = self._measured(EVERY_TEXT)
        trials = plan.resets_killed(EVERY_TEXT, every, from_ticket=plan.short)
        yield from plan.some(trials, 6)

    def _restores(self) -> Iterator[Planned]:
        plan, firsts = self._plan, []
        for scene, first in zip(RESTORED, first_blows(self._measured(ONE)), strict=True):
            measure = self._measured(scene, first)
            firsts.append((scene, first, measure))
            yield from plan.some(plan.restores_killed(scene, first, measure), 3)
        yield from plan.restores_killed_twice(firsts, 3 if plan.short else 60)

    def _store(self) -> Iterator[Planned]:
        for scene in (ONE, EVERY_TEXT):
            yield from self._plan.some(self._plan.store_refuses(scene), 2)

    def _zombies(self) -> Iterator[Planned]:
        plan = self._plan
        yield from plan.some(plan.zombies_at_writes(ONE, self._measured(ONE)), 16)
        yield from plan.some(plan.zombies_during_the_recovery(ONE, self._measured(ONE)), 6)
        yield from plan.some(plan.zombies_at_statements(ONE, self._measured(ONE)), 3)
        yield from plan.some(plan.zombies_at_writes(TWO, self._measured(TWO)), 3)

    def _moments(self) -> Iterator[Planned]:
        scenes = (ONE, TWO, EVERY_TEXT)
        yield from self._plan.at_random_moments([(one, self._measured(one)) for one in scenes])

    def _measured(self, scene: Scene, first: Blow | None = None) -> Measure:
        """Return what an undisturbed reset, or the recovery from one killed at `first`, takes."""
        if (scene.name, first) not in self._measures:
            self._measures[scene.name, first] = self._measure(scene, first)
        return self._measures[scene.name, first]

    def _measure(self, scene: Scene, first: Blow | None) -> Measure:
        with self._stage(scene) as trial:
            began = time.monotonic()
            journal = trial.journal
            run = trial.reset(first)
            if first is not None:
                began, journal = time.monotonic(), trial.journal
                run = trial.recover(By.RESUME) or run
            took = time.monotonic() - began
            sent = tuple(entry.stmt for entry in trial.journal[len(journal) :])
            if run.code != 0:
                raise RuntimeError(f"undisturbed, it fails: {trial.said()[-2000:]}")
            measure = Measure(sent, run.told()["commits"], round(took * 1000))
            trial.settle((By.RESUME,))
        self._count("undisturbed" if first is None else "killed once", trial.verdict, scene.name)
        return measure

    def _lane(self, trials: queue.SimpleQueue[Planned]) -> None:
        while True:
            try:
                planned = trials.get_nowait()
            except queue.Empty:
                return
            with self._stage(planned.scene) as trial:
                planned.play(trial)
            self._count(planned.kind, trial.verdict, f"{planned.scene.name}, {planned.about}")

    def _stage(self, scene: Scene) -> AbstractContextManager[Trial]:
        with self._counting:
            self._number += 1
            home = self._folder / f"trial-{self._number:04}"
            if self._number % EVERY == 0 and self._all:
                print(f"{self._number} of {self._all} trials", file=sys.stderr, flush=True)
        return stage(self._zygote, self._furnished, home, scene)

    def _rounds(self) -> None:
        kinds = list(service.KINDS)
        chosen = [kinds[self._plan.seed % len(kinds)]] if self._plan.short else kinds * ROUNDS
        for kind in chosen:
            verdict = service.play(kind, self._folder)
            self._count(kind, verdict, "Dagster's own processes")

    def _count(self, kind: str, verdict: Verdict, about: str) -> None:
        with self._counting:
            self.counts.add(kind, verdict)
        for sentence in verdict.broken.sentences():
            print(f"BROKEN ({kind}; {about}): {sentence}", file=sys.stderr, flush=True)
