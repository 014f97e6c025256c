"""One source and one trail, and syncers between them that do not live long."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pymysql
from pymongo.errors import PyMongoError

from lab.faults import Fault
from lab.mongodb.server import LabMongoDB
from proofs.binlog_gate import Aim, Gate
from proofs.binlog_load import Load
from proofs.binlog_moments import Round, Trouble, rounds, step_downs
from proofs.binlog_verdict import Verdict
from proofs.children import Child, HungError, Zygote
from proofs.orders import Order
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail

#: After it, whoever waits for a moment is killed at another.
_COMES_WITHIN_S = 60.0
_ENDS_WITHIN_S = 900.0
_TOLD_EVERY = 10
_BATCH_ROWS = (50, 200, 1000)
_DUMPS = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"


class Trial:
    """Kills syncers by the deck, lets the last one finish, and compares.

    Args:
        mongodb: A real one, whose processes can be killed and stopped.
    """

    def __init__(
        self, zygote: Zygote, folder: Path, source: Any, mongodb: Any, kind: str, protocol: str
    ) -> None:
        self._zygote = zygote
        self._source = source
        self._mongodb = mongodb
        self._name = f"kills_{kind}_{protocol}"
        self._folder = folder / self._name
        self._folder.mkdir()
        self._numbers = itertools.count(1)
        self._protocol = protocol
        self.verdict = Verdict(kind, protocol)
        self._chance = random.Random()  # noqa: S311 - moments, no secret
        self._told = self._seq = 0

    def run(self, kills: int, seed: int, *, short: bool) -> Verdict:
        """Kill so often, let the last one finish, and compare."""
        verdict, began = self.verdict, time.monotonic()
        self._chance.seed(f"{seed} {self._name}")
        load = Load(self._source, self._name, seed, short=short, stored=self._stored)
        load.prepare()
        with Trail.open(MongoDBSettings(self._mongodb.url, self._name)) as trail:
            trail.setup()
        load.start()
        try:
            for each in self._deck(short=short):
                if verdict.kills >= kills:
                    break
                self._round(each)
                self._tell(kills, load)
        finally:
            load.end()
        verdict.did_not_end = int(not self._finish())
        verdict.changes, verdict.largest = load.changes, load.largest
        verdict.compare(self._source, self._name, self._mongodb.url)
        verdict.seconds = round(time.monotonic() - began, 1)
        return verdict

    def _stored(self) -> int:
        """Ask how far the trail is; MongoDB may just have been killed."""
        try:
            with pymongo.MongoClient[dict[str, Any]](self._mongodb.url) as client:
                found = client[self._name]["binlog_offsets"].find_one({"_id": self._name})
        except PyMongoError:
            found = None
        self._seq = self._seq if found is None else int(found["seq"])
        return self._seq

    def _deck(self, *, short: bool) -> Iterator[Round]:
        return rounds(self._protocol, self._chance, short=short)

    def _round(self, each: Round) -> None:
        if each.aims:
            for aim in each.aims:
                self._struck(aim)
        elif each.trouble is Trouble.TWO:
            self._two()
        else:
            with self._syncer() as syncer:
                self._await_ready(syncer)
                self._troubles[each.trouble](self)
                time.sleep(self._chance.expovariate(4.0))
                self._kill(syncer, each.moment)

    # --- the moments ----------------------------------------------------------------------------

    def _struck(self, aim: Aim) -> None:
        """Let a syncer live until it comes to a moment."""
        victim: list[Child] = []
        known = self._zygote_knows(victim)
        host, port = "127.0.0.1", self._mongodb.port
        with Gate((host, port), aim, known) as gate, self._syncer(gate.url) as syncer:
            victim.append(syncer)
            deadline = time.monotonic() + _COMES_WITHIN_S
            while not gate.struck.wait(0.02) and not syncer.ended.is_set():
                if time.monotonic() > deadline:
                    break
            # The end of a syncer is told before the blow that ended it.
            if gate.struck.wait(1.0 if syncer.ended.is_set() else 0.0):
                self._count(aim.moment)
            else:
                self.verdict.missed += 1
                self._tell_of_the_missed(aim, syncer)
                self._kill(syncer, str(Trouble.NONE))

    def _tell_of_the_missed(self, aim: Aim, syncer: Child) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(syncer.pid, signal.SIGUSR1)
        time.sleep(0.2)
        print(f"missed: {aim}\n{_read(syncer.answer)[-6000:]}", file=sys.stderr, flush=True)

    def _zygote_knows(self, victim: list[Child]) -> Callable[[], None]:
        def strike() -> None:
            while not victim:
                time.sleep(0.001)
            with contextlib.suppress(HungError):
                victim[0].kill()

        return strike

    def _two(self) -> None:
        """A second one takes the trail from a living one; either may be killed first."""
        with self._syncer() as one:
            self._await_ready(one)
            with self._syncer() as other:
                self._await_ready(other)
                time.sleep(self._chance.uniform(0.0, 0.5))
                first, second = (one, other) if self._chance.random() < 0.5 else (other, one)  # noqa: PLR2004
                self._kill(first, str(Trouble.TWO))
                time.sleep(self._chance.uniform(0.0, 0.5))
                self._kill(second, str(Trouble.TWO))

    def _nothing(self) -> None:
        pass

    def _end_dumps(self) -> None:
        for (number,) in self._source.ask(_DUMPS):
            # It may have ended by itself.
            with contextlib.suppress(pymysql.MySQLError):
                self._source.run(f"KILL {number}")

    def _kill_front(self) -> None:
        self._mongodb.kill_front()
        time.sleep(self._chance.uniform(0.0, 0.5))
        self._mongodb.start_front()

    def _kill_engine(self) -> None:
        self._mongodb.kill_engine()
        # PostgreSQL does not start again while a process of the old one still answers a client.
        self._mongodb.kill_front()
        self._mongodb.engine.start()
        self._mongodb.start_front()

    def _pause(self) -> None:
        front = self._mongodb.front
        front.signal(signal.SIGSTOP)
        try:
            time.sleep(self._chance.uniform(0.2, 1.0))
        finally:
            front.signal(signal.SIGCONT)

    _troubles: dict[Trouble, Callable[[Trial], None]] = {  # noqa: RUF012 - a table
        Trouble.NONE: _nothing,
        Trouble.DUMP: _end_dumps,
        Trouble.FRONT: _kill_front,
        Trouble.ENGINE: _kill_engine,
        Trouble.PAUSE: _pause,
    }

    # --- syncers --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _syncer(self, url: str | None = None, **policy: Any) -> Iterator[Child]:
        number = next(self._numbers)
        order = {
            "mysql_url": self._source.url,
            "mongodb_uri": url or self._mongodb.url,
            "database": self._name,
            "timeouts": {"server_selection_timeout_s": 2.0},
            "policy": {
                "source": self._name,
                "include": [rf"{self._name}\..*"],
                "protocol": self._protocol,
                "flush_after_s": 0.05,
                # Another size each time: what one staged or cut, the next one has to take up.
                "batch_rows": self._chance.choice(_BATCH_ROWS),
                **policy,
            },
        }
        said = self._folder / f"{number:04}.log"
        child = self._zygote.start(Order("", order, {}, str(self._folder), str(said)))
        try:
            yield child
        finally:
            child.kill()
            if number > 1 and not policy:
                # The last ones are kept, for who wants to know what they said.
                (self._folder / f"{number - 5:04}.log").unlink(missing_ok=True)

    def _await_ready(self, syncer: Child) -> None:
        # Killed while it starts, too: one in five is not waited for.
        if self._chance.random() < 0.2:  # noqa: PLR2004
            time.sleep(self._chance.uniform(0.0, 1.0))
            return
        deadline = time.monotonic() + _COMES_WITHIN_S
        while time.monotonic() < deadline and not syncer.ended.is_set():
            if "ready\n" in _read(syncer.answer):
                return
            time.sleep(0.02)

    def _kill(self, syncer: Child, moment: str) -> None:
        if not syncer.ended.is_set():
            syncer.kill()
            self._count(moment)

    def _count(self, moment: str) -> None:
        self.verdict.kills += 1
        moments = self.verdict.moments
        moments[moment] = moments.get(moment, 0) + 1

    def _tell(self, kills: int, load: Load) -> None:
        verdict = self.verdict
        if verdict.kills // _TOLD_EVERY != self._told:
            self._told = verdict.kills // _TOLD_EVERY
            print(
                f"{verdict.source}, {verdict.protocol}: {verdict.kills} of {kills} kills,"
                f" {load.changes:,} changes",
                file=sys.stderr,
                flush=True,
            )

    def _finish(self) -> bool:
        """Let one syncer come to the end; what it said is told where it did not."""
        with self._syncer(until_current=True) as last:
            try:
                code = last.wait(_ENDS_WITHIN_S)
            except HungError as error:
                print(f"the last syncer: {error}", file=sys.stderr)
                return False
            if code:
                said = _read(last.answer)
                print(f"the last syncer ended with {code}:\n{said[-3000:]}", file=sys.stderr)
            return code == 0


class StepDowns(Trial):
    """The same in the lab's own MongoDB, which steps down at the moment that it is told."""

    _mongodb: LabMongoDB

    def _deck(self, *, short: bool) -> Iterator[Round]:  # noqa: ARG002
        return step_downs(self._protocol, self._chance)

    def _round(self, each: Round) -> None:
        """Step down at a moment, be elected again, and kill whoever went through it."""
        (aim,) = each.aims
        # The lab's journal names the database, too.
        verb, space, rest = aim.command.partition(" ")
        pattern = rf"^{verb} {self._name}\.{rest}$" if space else rf"^{verb}\b"
        fault = Fault(
            match=pattern,
            before=lambda _: self._mongodb.step_down(),
            after_matches=aim.number - 1,
            times=1,
        )
        self._mongodb.faults.add(fault)
        try:
            with self._syncer() as syncer:
                deadline = time.monotonic() + _COMES_WITHIN_S
                while not fault.fired and time.monotonic() < deadline:
                    time.sleep(0.02)
                self.verdict.missed += not fault.fired
                time.sleep(self._chance.uniform(0.0, 0.6))
                self._mongodb.elect()
                time.sleep(self._chance.uniform(0.0, 1.2))
                self._kill(syncer, each.trouble)
        finally:
            self._mongodb.elect()
            self._mongodb.faults.remove(fault.id)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
