"""Judges a trial by what reached CrateDB and what is in the store's file, never by what we say."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.cratedb import LabCrateDB
from lab.cratedb.journal import Entry
from proofs.scenes import Key, Scene, shown

_SET_REPLICAS = re.compile(
    r'^ALTER TABLE "(?P<schema>[^"]+)"\."(?P<table>[^"]+)"(?: PARTITION \(.*\))? '
    r'SET \("number_of_replicas" = \?\)$'
)

#: Statements that a reset sends beside its SETs; they change no setting.
_HARMLESS = ("SELECT", "OPTIMIZE TABLE")


@dataclass(frozen=True)
class OpenTicket:
    """An open ticket, as another program reads it."""

    id: int
    key: Key
    original: str
    epoch: int


@dataclass
class Broken:
    """What was found wrong, by invariant, with a sentence for each."""

    wrong_text: list[str] = field(default_factory=list)
    late_ticket: list[str] = field(default_factory=list)
    zombie: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    crowded: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is."""
        return any(vars(self).values())

    def sentences(self) -> list[str]:
        """Return all of it."""
        return [f"{name}: {what}" for name, found in vars(self).items() for what in found]


class Oracle:
    """Watches one trial."""

    def __init__(self, scene: Scene, lab: LabCrateDB, store: Path) -> None:
        """Make the scene's tables, and remember what they are."""
        self.broken = Broken()
        self._scene = scene
        self._lab = lab
        self._store = store
        self._promised = scene.make(lab)
        self._zeros: Counter[int] = Counter()
        self._lock = threading.Lock()

    def arrives(self, entry: Entry) -> None:
        """Judge a statement before it is applied."""
        if entry.stmt.lstrip().startswith(_HARMLESS):
            return
        found = _SET_REPLICAS.match(entry.stmt)
        if found is None or not entry.args:
            self.broken.foreign.append(f"{entry.stmt} {entry.args}")
            return
        *values, text = entry.args
        key = (found["schema"], found["table"], tuple(values))
        original = self._promised.get(key)
        if text not in {"0", original}:
            self.broken.foreign.append(f"{key} was {original!r} and is sent {text!r}")
        if text == "0":
            self._zero_arrives(key)

    def _zero_arrives(self, key: Key) -> None:
        tickets = [ticket for ticket in self.open_tickets() if ticket.key == key]
        if [ticket.original for ticket in tickets] != [self._promised.get(key)]:
            self.broken.late_ticket.append(f"0 for {key}; in the store: {tickets}")
            return
        (ticket,) = tickets
        with self._lock:
            self._zeros[ticket.id] += 1
            if self._zeros[ticket.id] > 1:
                self.broken.foreign.append(f"{key} is set to 0 again for ticket {ticket.id}")

    def zombie_sent(self, since: int) -> None:
        """Hold all changes from the `since`-th on against somebody who was taken over before."""
        self.broken.zombie += [f"{entry.stmt} {entry.args}" for entry in self.changes[since:]]

    def judge(self) -> Broken:
        """Compare the end with the beginning; nothing may run any more."""
        now = shown(self._lab, list(self._promised))
        for key, text in self._promised.items():
            if now[key] != text:
                self.broken.wrong_text.append(f"{key} was {text!r} and is {now[key]!r}")
        self.broken.left_open += [str(ticket) for ticket in self.open_tickets()]
        most = self._lab.most_at_zero
        if most > self._scene.concurrent:
            self.broken.crowded.append(f"{most} at 0 at once, {self._scene.concurrent} allowed")
        return self.broken

    def open_tickets(self) -> list[OpenTicket]:
        """Return the open tickets in the file, committed ones alone."""
        rows = self._read(
            "SELECT id, schema_name, table_name, partition_values, original_replicas, epoch"
            " FROM caretaker_tickets WHERE closed_at IS NULL"
        )
        return [
            OpenTicket(number, (schema, table, _values(partition)), original, epoch)
            for number, schema, table, partition, original, epoch in rows
        ]

    @property
    def changes(self) -> list[Entry]:
        """What has been sent so far beside queries."""
        return [
            entry for entry in self._lab.journal if not entry.stmt.lstrip().startswith("SELECT")
        ]

    @property
    def zeros(self) -> int:
        """How many tickets have seen their SET to 0 arrive."""
        return len(self._zeros)

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._store, timeout=30)) as connection:
            connection.execute("PRAGMA query_only = ON")
            return connection.execute(query).fetchall()


def _values(partition: str | None) -> tuple[Any, ...]:
    return tuple(value for _, value in json.loads(partition)) if partition else ()
