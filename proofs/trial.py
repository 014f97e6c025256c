"""One trial: a run is hit, whatever picks it up is hit as well, and in the end all must be well."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from lab.cratedb import LabCrateDB
from lab.cratedb.journal import Entry
from lab.cratedb.misbehaviour import GoneError
from lab.faults import Fault
from proofs.children import ROOT, Child, HungError, Zygote
from proofs.oracle import Broken, Oracle
from proofs.orders import AT_SOCKET, AT_STORE, Blow, Order, Where
from proofs.scenes import RESET, SHORT_WAITS, Scene, laboratory

#: Recoveries are asked for until no ticket is open, at most this often.
_MOST_RECOVERIES = 12

#: Later than a heartbeat may be, and than the sensor's first turn.
_AGE_S = 31

_AGE = """
UPDATE {table} SET {column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '-{seconds} seconds') || '000'
WHERE {column} IS NOT NULL
"""
_TIMES = (
    ("caretaker_tickets", "heartbeat_at"),
    ("caretaker_tickets", "created_at"),
    ("caretaker_tickets", "next_try_at"),
    ("caretaker_locks", "heartbeat_at"),
)

_BROKEN_STORE = """
CREATE TRIGGER broken BEFORE {what} ON {table}
BEGIN SELECT RAISE(ABORT, 'the disk of the store is full'); END
"""


class By(StrEnum):
    """Who picks up what a dead run left."""

    SENSOR = "sensor"
    RESUME = "--resume"


class Through(StrEnum):
    """Who starts the reset."""

    JOB = "job"
    COMMAND = "command"


@dataclass
class Verdict:
    """How a trial went."""

    kills: int = 0
    stops: int = 0
    missed: int = 0
    recoveries: dict[By, int] = field(default_factory=lambda: dict.fromkeys(By, 0))
    owed: bool = False
    at_zero: bool = False
    back_after_s: float | None = None
    broken: Broken = field(default_factory=Broken)


class Aim:
    """Waits at the cluster's sockets for the statement at which a run is to be hit."""

    def __init__(self, oracle: Oracle) -> None:
        """Watch, and hit nobody yet."""
        self.struck = threading.Event()
        self._oracle = oracle
        self._lock = threading.Lock()
        self._here = threading.local()
        self.reset(None)

    def reset(self, blow: Blow | None) -> None:
        """Count the statements of the next run anew."""
        with self._lock:
            self.count = 0
            self._blow = blow if blow is not None and blow.where in AT_SOCKET else None
            self._victim: Child | None = None
            self._known = threading.Event()
            self.struck.clear()

    def at(self, victim: Child) -> None:
        """Say whom to hit: known only once it has been started, and it may be quick."""
        self._victim = victim
        self._known.set()

    def before(self, entry: Entry) -> None:
        """Judge a statement that arrives; at the one to be hit at, cut it off unapplied."""
        self._oracle.arrives(entry)
        with self._lock:
            self.count += 1
            self._here.number = self.count
        if self._hits(Where.ARRIVES):
            self._strike()
            raise GoneError

    def after(self, _: Entry) -> None:
        """Leave the one to be hit at without its answer."""
        if self._hits(Where.APPLIED):
            self._strike()

    def _hits(self, where: Where) -> bool:
        blow = self._blow
        return blow is not None and (blow.where, blow.number) == (where, self._here.number)

    def _strike(self) -> None:
        blow = self._blow
        if blow is None or not self._known.wait(30.0) or self._victim is None:
            return
        if blow.stop:
            self._victim.stop()
        else:
            self._victim.kill(alone=blow.alone)
        self.struck.set()


class Trial:
    """A cluster, an instance and a store of its own, and the runs that live and die there."""

    def __init__(self, zygote: Zygote, home: Path, lab: LabCrateDB, scene: Scene) -> None:
        """Take what `stage` made."""
        self.home = home
        self.scene = scene
        self.verdict = Verdict()
        self.oracle = Oracle(scene, lab, home / "caretaker.db")
        self.verdict.broken = self.oracle.broken
        self._zygote = zygote
        self._lab = lab
        self._aim = Aim(self.oracle)
        self._children: list[Child] = []
        self._keys: set[str] = set()
        lab.faults.add(Fault(before=self._aim.before, after=self._aim.after))
        (home / "options.json").write_text(json.dumps({**RESET, **scene.options}))

    # --- the runs -------------------------------------------------------------------------

    def reset(self, blow: Blow | None = None, through: Through = Through.JOB) -> Child:
        """Run a reset, and hit it; return when it has ended or is stopped."""
        if through is Through.COMMAND:
            command = ["translogs", "--autoexec", "--config", str(self.home / "options.json")]
            return self._run(blow, "run_command", arguments=command)
        options = {**RESET, **self.scene.options}
        return self._run(blow, "run_job", job="translog_reset", options=options, tags={})

    def recover(self, by: By, blow: Blow | None = None) -> Child | None:
        """Let what is open be picked up, and hit whoever does; None where nothing is to be done."""
        if not self.oracle.open_tickets():
            return None
        self.verdict.owed = True
        if by is By.RESUME:
            options = {"arguments": ["translogs", "--resume", "--config", self._short_waits()]}
            child = self._run(blow, "run_command", **options)
            self.verdict.recoveries[by] += 1
            return child
        return self._recover_by_sensor(blow)

    def _recover_by_sensor(self, blow: Blow | None) -> Child | None:
        for _ in range(_MOST_RECOVERIES):
            said = self._asked("tick")
            if "requests" not in said:
                raise HungError(f"the sensor did not answer: {self.said()[-500:]}")
            fresh = [one for one in said["requests"] if one["run_key"] not in self._keys]
            for one in fresh[1:]:
                self._restore(one, None)
            if fresh:
                # The last one to start is the one to be hit.
                return self._restore(fresh[0], blow)
            if said["requests"]:
                # Asked for already, by a run that died before it took over: half a minute later
                # the sensor asks again.
                self.grow_old()
            elif "restore run" in said["skipped"]:
                # A killed run looks alive until run monitoring has looked, every 30 s.
                self._asked("declare_dead")
            elif not self.oracle.open_tickets():
                return None
            else:
                time.sleep(0.2)
        raise HungError(f"the sensor asks for nothing: {said}")

    def _restore(self, request: dict[str, Any], blow: Blow | None) -> Child:
        self._keys.add(request["run_key"])
        options = {**request["options"], **SHORT_WAITS}
        self.verdict.recoveries[By.SENSOR] += 1
        return self._run(
            blow, "run_job", job="translog_restore", options=options, tags=request["tags"]
        )

    def _run(self, blow: Blow | None, call: str, **arguments: Any) -> Child:
        """Start a run and hit it; return when it has ended or is stopped."""
        self._aim.reset(blow)
        child = self._start(call, arguments, blow)
        self._aim.at(child)
        if blow is None:
            child.wait()
            return child
        if blow.where is Where.AT_MOMENT:
            if not child.ended.wait(blow.number / 1000):
                child.kill(alone=blow.alone)
        elif blow.stop:
            self._await_stop(child, blow)
        else:
            child.wait()
        self._count(child)
        return child

    def _await_stop(self, child: Child, blow: Blow) -> None:
        """Return when it is stopped, or has run to its end without being hit."""
        if blow.where in AT_STORE:
            child.await_stop(60.0)
            return
        while not child.ended.is_set() and not self._aim.struck.wait(0.02):
            pass

    def _count(self, child: Child) -> None:
        if not child.ended.is_set():
            self.verdict.stops += 1
        elif child.code == -9:  # noqa: PLR2004 - SIGKILL
            self.verdict.kills += 1
            self.verdict.at_zero |= bool(self._lab.at_zero())
        else:
            self.verdict.missed += 1

    def _start(self, call: str, arguments: dict[str, Any], blow: Blow | None = None) -> Child:
        answer = self.home / f"answer-{len(self._children)}.json"
        order = Order(call, arguments, self._environ(), str(self.home), str(answer), blow)
        child = self._zygote.start(order)
        self._children.append(child)
        return child

    def _asked(self, call: str) -> dict[str, Any]:
        child = self._start(call, {})
        child.wait()
        return child.told()

    def _environ(self) -> dict[str, str]:
        return environ(self.home, self._lab.connection_string)

    def _short_waits(self) -> str:
        path = self.home / "waits.json"
        path.write_text(json.dumps(SHORT_WAITS))
        return str(path)

    # --- what happens to the store --------------------------------------------------------

    def grow_old(self) -> None:
        """Let half a minute pass for every heartbeat in the store."""
        for table, column in _TIMES:
            self._on_file(_AGE.format(table=table, column=column, seconds=_AGE_S))

    def declare_dead(self) -> None:
        """Let Dagster, and the heartbeats, say that every run so far is dead."""
        self._asked("declare_dead")
        self.grow_old()

    def break_store(self, table: str, what: str) -> None:
        """Let the store refuse such writes."""
        self._on_file(_BROKEN_STORE.format(table=table, what=what))

    def mend_store(self) -> None:
        """Let it take them again."""
        self._on_file("DROP TRIGGER broken")

    def _on_file(self, statement: str) -> None:
        path = self.home / "caretaker.db"
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            connection.execute(statement)

    # --- the end --------------------------------------------------------------------------

    @property
    def journal(self) -> list[Entry]:
        """Every statement so far."""
        return list(self._lab.journal)

    def said(self) -> str:
        """Return what the children have printed, for a failure."""
        try:
            return (self.home / "said.log").read_text(errors="replace")
        except OSError:
            return ""

    def settle(self, by: Sequence[By]) -> Verdict:
        """Recover until nothing is open, wait until nothing runs, and judge."""
        for number in range(_MOST_RECOVERIES):
            if self.recover(by[number % len(by)]) is None:
                break
        for child in self._children:
            child.await_group()
        # Steps that outlived their run may have left a ticket to be watched.
        for number in range(_MOST_RECOVERIES):
            if self.recover(by[number % len(by)]) is None:
                break
        self.oracle.judge()
        return self.verdict

    def abandon(self) -> None:
        """Leave no process behind."""
        for child in self._children:
            child.end()


def environ(home: Path, hosts: str) -> dict[str, str]:
    """Return the whole environment of a child."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "CRATE_CONNECTION_STRING": hosts,
        "CARETAKER_LOG_FORMAT": "json",
    }


@contextmanager
def stage(zygote: Zygote, furnished: Path, home: Path, scene: Scene) -> Iterator[Trial]:
    """Put up a cluster and a home for one trial, and clear both away."""
    shutil.copytree(furnished, home)
    with laboratory() as lab:
        trial = Trial(zygote, home, lab, scene)
        try:
            yield trial
        except (HungError, TimeoutError) as error:
            trial.oracle.broken.hung.append(str(error))
        finally:
            trial.abandon()
    if not trial.oracle.broken:
        shutil.rmtree(home, ignore_errors=True)
