"""The bare syncer, killed -9 at random moments under load: each row once, in order, no hole.

Source and trail are real servers. What is compared afterwards is what the source counted as changed
with what the trail holds: documents, the sequence, each row's chain of changes, and the rows that
the chains add up to.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pymongo

from caretaker.binlog.history import row_after
from lab.servers.errors import ServerUnavailableError
from lab.servers.mariadb import MariaDB
from lab.servers.mongodb import MongoDB
from lab.servers.mysql import MySQL
from proofs.binlog_load import Load
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail

PROTOCOLS = ("staged", "direct", "idempotent")
SOURCES = {"mysql": MySQL, "mariadb": MariaDB}
KILLS, SHORT_KILLS = 300, 6

ROOT = Path(__file__).resolve().parents[1]
_READY_WITHIN_S = 120.0
_ENDS_WITHIN_S = 900.0
#: Of the rounds, those in which a second syncer takes the trail from a living one.
_TWO_AT_ONCE = 0.2


@dataclass
class Verdict:
    """What became of one source and protocol; the last six are broken promises.

    Attributes:
        changes: Rows that the source counted as inserted, changed or deleted.
        stored: Documents of rows in the trail.
    """

    source: str
    protocol: str
    kills: int = 0
    took_over: int = 0
    seconds: float = 0.0
    changes: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    holes: int = 0
    broken_chains: int = 0
    wrong_rows: int = 0
    did_not_end: int = 0

    @property
    def broken(self) -> int:
        """How many promises were."""
        return (
            self.lost
            + self.doubled
            + self.holes
            + self.broken_chains
            + self.wrong_rows
            + self.did_not_end
        )


def main(options: list[str]) -> int:
    """Kill on each protocol, compare, print the counts; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m proofs binlog_kills")
    parser.add_argument("--short", action="store_true", help="a sample, in some minutes")
    parser.add_argument("--kills", type=int, metavar="N", help="on each protocol")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chosen")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="one instead of all")
    parser.add_argument("--source", choices=tuple(SOURCES), default="mysql")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts here, too")
    given = parser.parse_args(options)
    kills = given.kills if given.kills is not None else SHORT_KILLS if given.short else KILLS
    protocols = (given.protocol,) if given.protocol else PROTOCOLS
    verdicts = []
    try:
        with SOURCES[given.source]() as source, MongoDB() as mongodb:
            for protocol in protocols:
                trial = Trial(source, mongodb.url, given.source, protocol, given.seed)
                verdicts.append(trial.run(kills, short=given.short))
                print(_line(verdicts[-1]), flush=True)
    except ServerUnavailableError as error:
        print(f"not run: {error}", file=sys.stderr)
        return 1
    if given.json:
        document = [asdict(verdict) for verdict in verdicts]
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(any(verdict.broken for verdict in verdicts))


class Trial:
    """One source and one trail, and syncers between them that do not live long."""

    def __init__(self, source: Any, mongodb_uri: str, kind: str, protocol: str, seed: int) -> None:
        self._source = source
        self._settings = MongoDBSettings(mongodb_uri, f"kills_{protocol}")
        self._chance = random.Random(seed)  # noqa: S311 - moments, no secret
        self._name = f"kills_{protocol}"
        self._seed = seed
        self._verdict = Verdict(kind, protocol)

    def run(self, kills: int, *, short: bool) -> Verdict:
        """Kill so often, let the last one finish, and compare."""
        began = time.monotonic()
        load = Load(self._source, self._name, self._seed, short=short)
        load.prepare()
        with Trail.open(self._settings) as trail:
            trail.setup()
        load.start()
        try:
            while self._verdict.kills < kills:
                self._round()
        finally:
            load.end()
        self._verdict.did_not_end = int(not self._finish())
        self._verdict.changes = load.changes
        self._compare()
        self._verdict.seconds = round(time.monotonic() - began, 1)
        return self._verdict

    def _finish(self) -> bool:
        """Let one syncer come to the end; what it said is told where it did not."""
        with self._syncer(until_current=True) as last:
            try:
                said, _ = last.communicate(timeout=_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                print("the last syncer did not end", file=sys.stderr)
                return False
            if last.returncode:
                print(f"the last syncer ended with {last.returncode}:\n{said}", file=sys.stderr)
            return last.returncode == 0

    def _round(self) -> None:
        """Let one syncer work for a while, sometimes with a second one beside it; kill."""
        with self._syncer() as syncer:
            self._await_ready(syncer)
            time.sleep(self._chance.expovariate(2.0))
            if self._chance.random() < _TWO_AT_ONCE:
                with self._syncer() as another:
                    self._await_ready(another)
                    time.sleep(self._chance.uniform(0.0, 0.5))
                    self._kill(another)
                self._verdict.took_over += 1
            self._kill(syncer)

    def _kill(self, syncer: subprocess.Popen[str]) -> None:
        if syncer.poll() is None:
            syncer.kill()
            self._verdict.kills += 1

    def _await_ready(self, syncer: subprocess.Popen[str]) -> None:
        # Killed while it starts, too: one in five is not waited for.
        if self._chance.random() < 0.2 or syncer.stdout is None:  # noqa: PLR2004
            time.sleep(self._chance.uniform(0.0, 1.5))
            return
        for line in syncer.stdout:
            if line.startswith("ready"):
                return

    @contextmanager
    def _syncer(self, **policy: Any) -> Iterator[subprocess.Popen[str]]:
        order = {
            "mysql_url": self._source.url,
            "mongodb_uri": self._settings.uri,
            "database": self._settings.database,
            "policy": {
                "source": self._name,
                "include": [rf"{self._name}\..*"],
                "protocol": self._verdict.protocol,
                "flush_after_s": 0.05,
                **policy,
            },
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "proofs.binlog_child", json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def _compare(self) -> None:
        verdict = self._verdict
        chains: dict[Any, list[dict[str, Any]]] = {}
        ids: set[bytes] = set()
        expected = 1
        with pymongo.MongoClient[dict[str, Any]](self._settings.uri) as client:
            # Not by way of the trail's own reads: what is there is asked of the server itself.
            for document in client[self._settings.database]["row_changes"].find().sort("seq", 1):
                verdict.holes += document["seq"] != expected
                expected = document["seq"] + 1
                verdict.doubled += document["_id"] in ids
                ids.add(document["_id"])
                if document["op"] in {"i", "u", "d"}:
                    verdict.stored += 1
                    chains.setdefault(document["meta"]["pk"], []).append(document)
        verdict.lost = max(verdict.changes - verdict.stored, 0)
        verdict.doubled += max(verdict.stored - verdict.changes, 0)
        rows = {key: row_after(chain) for key, chain in chains.items()}
        verdict.broken_chains = sum(len(row.breaks) for row in rows.values())
        have = {
            row[0]: row
            for row in self._source.ask(f"SELECT id, n, v FROM {self._name}.t")  # noqa: S608
        }
        there = {key: tuple(row.columns.values()) for key, row in rows.items() if row.exists}
        verdict.wrong_rows = sum(there.get(key) != have.get(key) for key in have.keys() | there)


def _line(verdict: Verdict) -> str:
    return (
        f"{verdict.source}, {verdict.protocol}: {verdict.kills} kills"
        f" ({verdict.took_over} with two at once), {verdict.changes:,} changes,"
        f" {verdict.stored:,} documents; lost {verdict.lost}, doubled {verdict.doubled},"
        f" holes {verdict.holes}, broken chains {verdict.broken_chains}, wrong rows"
        f" {verdict.wrong_rows}, did not end {verdict.did_not_end}; {verdict.seconds:.0f} s"
        f"{'  BROKEN' if verdict.broken else ''}"
    )
