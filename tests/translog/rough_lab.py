"""A lab on a clock that only a test moves, its state store, and the word of its operators."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.cratedb import LabCrateDB
from lab.cratedb import rows as catalog_rows
from lab.cratedb.answers import Answer
from lab.cratedb.clock import Clock
from lab.cratedb.journal import Entry, Journal
from lab.cratedb.model import STARTED, Relation, Table
from lab.faults import Action, Fault
from resources.state_store import StateStore

Key = tuple[str, str, str]

_EPOCH = 1_700_000_000.0

#: Real seconds for which a client waits where no answer will ever come.
_IN_VAIN_S = 0.15
SILENT = {Action.HANG, Action.LATE}

USER = "caretaker"
GRANTS = ("DQL ON SCHEMA sys", "DDL ON SCHEMA doc")

_TRIGGER = """
CREATE TRIGGER broken_{table}_{what} BEFORE {what} ON caretaker_{table}
BEGIN SELECT RAISE(ABORT, 'the store is broken, says the test'); END
"""


def template_store(folder: Path) -> Path:
    """Make an empty store once, to be copied for every example."""
    StateStore.open(f"sqlite:///{folder / 'template.db'}").close()
    return folder / "template.db"


def _remember_answers(lab: LabCrateDB) -> None:
    """Let the lab's catalog not compute again what it was asked before nothing had changed.

    Only questions about tables: that one of them was touched counts as a change, and it is all
    that would make the catalog write its rows anew.
    """
    catalog, world = lab.catalog, lab.world
    refresh, ask = catalog.refresh, catalog.ask
    known: dict[tuple[str, str], tuple[int, Answer]] = {}
    now = threading.local()

    def refresh_and_note(keys: Iterable[tuple[str, str]]) -> None:
        wanted = set(keys)
        now.lasting = wanted <= catalog_rows.PER_TABLE.keys()
        refresh(wanted)

    def ask_once(sql: str, args: Sequence[Any]) -> Answer:
        lasting, now.lasting = getattr(now, "lasting", False), False
        before = known.get((sql, repr(args)))
        if lasting and before is not None and before[0] == world.state_version:
            return before[1]
        version = world.state_version
        answer = ask(sql, args)
        if lasting:
            known[sql, repr(args)] = (version, answer)
        return answer

    catalog.refresh = refresh_and_note  # type: ignore[method-assign]
    catalog.ask = ask_once  # type: ignore[method-assign]
    # One question at a time is asked here, and a second thread only waits for its turn.
    catalog._duck.execute("SET threads = 1")


class RoughLab:
    """Three nodes, a user with the least that a reset needs, a store, and one clock for all."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.file = folder / "caretaker.db"
        shutil.copy(template, self.file)
        self.cratedb = LabCrateDB(nodes=3, speed=0, master_timeout_s=0)
        self.cratedb.clock = self.cratedb.world.clock = Clock(0, _EPOCH)
        self.cratedb.world.time = _EPOCH
        _remember_answers(self.cratedb)
        #: What may stand in the catalog in the end: what was there or what the operator said last;
        #: beside it our original, where our own 0 undid what the operator had said.
        self.words: dict[Key, set[str]] = {}
        #: When, in acts of operators, each was last changed by one, and when to '0'.
        self.acts = 0
        self.acted_on: defaultdict[Key, int] = defaultdict(int)
        self.operators_zero: set[Key] = set()
        self.templates: dict[tuple[str, str], str] = {}
        self.violations: list[str] = []
        #: How many of the next answers of the store get lost after its commit.
        self.answers_lost = 0
        #: Whether a change of ours is under way, and whether an operator was faster than it: its
        #: sender had looked before. CrateDB has no ALTER with a condition that could tell.
        self.sending = False
        self.raced = False
        self._operator = False
        self._lock_holder: sqlite3.Connection | None = None
        self._broken: set[tuple[str, str]] = set()

    def start(self, journal: Journal) -> None:
        """Open its ports and its store."""
        self.cratedb.journal = journal
        self.cratedb.world.on_replicas.append(self._replicas_changed)
        self.cratedb.start()
        self.cratedb.create_user(USER, None, *GRANTS)
        self.store = StateStore.open(f"sqlite:///{self.file}?timeout=0.02", clock=self.now)

    def close(self) -> None:
        """Close both."""
        self.unlock_store()
        self.store.close()
        self.cratedb.stop()

    # --- time ---------------------------------------------------------------------------------

    def seconds(self) -> float:
        """The one clock."""
        return self.cratedb.clock.now()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    # --- what is --------------------------------------------------------------------------------

    def relation(self, key: Key) -> Relation | None:
        return self.cratedb.world.relation(key)

    @property
    def relations(self) -> list[Relation]:
        """Of user tables, by name."""
        with self.cratedb.world.lock:
            return sorted(self.cratedb.world.relations(), key=lambda one: one.key)

    @property
    def tables(self) -> list[Table]:
        with self.cratedb.world.lock:
            return [table for _, table in sorted(self.cratedb.world.tables.items())]

    def looks(self, key: Key) -> frozenset[str]:
        """What is true of a table now: 'clear', 'lost', 'back'."""
        with self.cratedb.world.lock:
            relation = self.relation(key)
            if relation is None:
                return frozenset({"gone", "lost"})
            seen = set()
            if all(
                len(shard.copies) == 1
                and shard.copies[0].state == STARTED
                and {lease for lease in shard.leases if lease.startswith("peer_recovery/")}
                == {f"peer_recovery/{shard.copies[0].node}"}
                for shard in relation.shards
            ):
                seen.add("clear")
            if any(shard.primary is None for shard in relation.shards):
                seen.add("lost")
            if all(copy.state == STARTED for _, copy in relation.copies()):
                seen.add("back")
            return frozenset(seen)

    def file_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Read the store as another program would: only what is durable is seen."""
        connection = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def open_ticket(self, key: Key) -> sqlite3.Row | None:
        """The open ticket of a table, as it is on disk."""
        rows = self.file_rows(
            "SELECT * FROM caretaker_tickets WHERE closed_at IS NULL"
            " AND schema_name = ? AND table_name = ? AND partition_ident = ?",
            *key,
        )
        return rows[0] if rows else None

    # --- operators ------------------------------------------------------------------------------

    @contextmanager
    def operator(self) -> Iterator[LabCrateDB]:
        """What is changed in this block was an operator's doing."""
        self._operator = True
        self.acts += 1
        try:
            yield self.cratedb
        finally:
            self._operator = False

    def adopt(self) -> None:
        """Take what is there as what operators want; forget what is there no more."""
        there = {relation.key: relation.replicas for relation in self.relations}
        for gone in self.words.keys() - there.keys():
            del self.words[gone]
            self.operators_zero.discard(gone)
        for new in there.keys() - self.words.keys():
            self.words[new] = {there[new]}
            self.acted_on[new] = self.acts
            if there[new] == "0":
                self.operators_zero.add(new)
        self.templates = {(t.schema, t.name): t.replicas for t in self.tables if t.partitioned_by}

    def _replicas_changed(self, what: Relation | Table, before: str) -> None:
        """Keep the words; called by whoever changes a text, the world's lock held."""
        if isinstance(what, Table):
            if not self._operator:
                self.violations.append(f"the template of {what.full_name} was changed")
            self.templates[what.schema, what.name] = what.replicas
            return
        key, ticket = what.key, self.open_ticket(what.key)
        ours = ticket["original_replicas"] if ticket and ticket["zero_sent"] else None
        if self._operator:
            self.words[key] = {what.replicas}
            self.acted_on[key] = self.acts
            self.operators_zero.discard(key)
            if what.replicas == "0":
                self.operators_zero.add(key)
                if ours is not None:
                    # Who sets it to 0 while we are about to, cannot be told from us.
                    self.words[key].add(ours)
        elif what.replicas == "0":
            self.operators_zero.discard(key)
            if ticket is None:
                self.violations.append(f"{what.name} went to 0 without an open ticket")
            else:
                self.words[key].add(ticket["original_replicas"])
        else:
            self.words[key].add(what.replicas)
            # A restore that nobody answered may land on what was said in the meantime: sent once,
            # it cannot be called back.
            if before != "0" and self.sending and not self.raced:
                self.violations.append(f"{what.name}: {before!r} overwritten: {what.replicas!r}")

    # --- trouble --------------------------------------------------------------------------------

    def patience(self, sql: str) -> float | None:
        """How long a client waits for this change: shortly where no answer will come."""
        rule = self.next_rule(sql)
        return _IN_VAIN_S if rule is not None and rule.action in SILENT else None

    def next_rule(self, sql: str) -> Fault | None:
        """The rule that will meet this statement."""
        entry = Entry(0, "", "", sql, None)
        for rule in self.cratedb.faults._rules:
            spent = rule.times is not None and rule.fired >= rule.times
            if rule.action != Action.REFUSE and not spent and rule.concerns(entry, -1):
                return rule
        return None

    def wait_until_taken_in(self, number: int) -> None:
        """A client that hung up does not stop what was sent: the journal's entry of this number.

        Until it was carried out, or its delay has begun: the clock must not move before.
        """
        journal, deadline = self.cratedb.journal, time.monotonic() + 30
        while time.monotonic() < deadline:
            if len(journal) > number:
                entry = journal[number]
                if entry.delayed or entry.status is not None:
                    return
            time.sleep(0.005)

    def break_store(self, table: str, what: str) -> None:
        """Let the store refuse such writes to one of its tables."""
        if (table, what) not in self._broken and self._lock_holder is None:
            self._broken.add((table, what))
            self._on_file(_TRIGGER.format(table=table, what=what))

    def lock_store(self) -> None:
        """Let somebody else write and write."""
        if self._lock_holder is None:
            self._lock_holder = sqlite3.connect(self.file, isolation_level=None)
            self._lock_holder.execute("BEGIN IMMEDIATE")

    def unlock_store(self) -> None:
        if self._lock_holder is not None:
            self._lock_holder.rollback()
            self._lock_holder.close()
            self._lock_holder = None

    def mend_store(self) -> None:
        """Let it take all writes again."""
        self.unlock_store()
        self.answers_lost = 0
        for table, what in self._broken:
            self._on_file(f"DROP TRIGGER broken_{table}_{what}")
        self._broken.clear()

    def _on_file(self, statement: str) -> None:
        connection = sqlite3.connect(self.file)
        try:
            with connection:
                connection.execute(statement)
        finally:
            connection.close()
