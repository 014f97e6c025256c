"""What must be true whatever happens, checked where it happens: at statements and at writes."""

from __future__ import annotations

import threading
from typing import Any

from caretaker.identifiers import quote_literal
from caretaker.translog.model import ResetTicket, target_key
from lab.cratedb import partitions
from lab.cratedb.journal import Entry, Journal
from resources.state_store import OutcomeRow
from tests.translog.rough_lab import Key, RoughLab

#: Answers that say that nothing was carried out, and may be followed by another try.
_NEVER_EXECUTED = {4290, 4040}


class Sender:
    """Who is changing something now, and what he has seen of it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        #: The operators' acts that he knew of when he looked at a table last.
        self.looked: dict[Key, int] = {}
        #: What was true when he looked at its copies last; None: he was lied to.
        self.saw: dict[Key, frozenset[str] | None] = {}
        #: When he asked the store last whether he may send, in calls of it.
        self.began, self.ticket_id = 0, 0
        #: Whether the store has written down what he sends.
        self.audited = True


class Witness(Journal):
    """The lab's journal, which is told of every statement before anything is done about it."""

    def __init__(self, lab: RoughLab) -> None:
        super().__init__()
        self.lab = lab
        self.sender: Sender | None = None
        #: Every ALTER by the ticket that was open for it.
        self.altered: dict[int, list[Entry]] = {}
        #: When, in calls of the store, each ticket was taken over last.
        self.taken_over: dict[int, int] = {}
        self._calls = 0
        self._witnessing = threading.Lock()

    def add(self, entry: Entry) -> Entry:
        super().add(entry)
        if entry.stmt.startswith(("ALTER", "OPTIMIZE")):
            with self._witnessing:
                try:
                    self._change_arrives(entry)
                except Exception as error:  # noqa: BLE001 - shown by the test, not by the lab
                    self._broken(f"the witness failed: {error!r}")
        return entry

    def _broken(self, rule: str) -> None:
        self.lab.violations.append(rule)

    def _change_arrives(self, entry: Entry) -> None:
        lab = self.lab
        key = self._key_of(entry)
        if key is None:
            self._broken(f"sent to no table: {entry.stmt} {entry.args}")
            return
        ticket = lab.open_ticket(key)
        sender = self.sender
        if ticket is None:
            # Who was relieved a moment ago may still say what was there, never 0.
            if sender is None or self._should_not_have(sender, sender.ticket_id, entry):
                self._broken(f"sent without an open ticket: {entry.stmt} {entry.args}")
            return
        if sender is None:
            self._broken(f"nobody sent {entry.stmt}")
            return
        theirs = sender.run_id != ticket["owner_run_id"]
        if theirs and self._should_not_have(sender, ticket["id"], entry):
            self._broken(f"{sender.run_id} sent what is {ticket['owner_run_id']}'s: {entry.stmt}")
            return
        if (sender.audited or _is_zero(entry)) and not self._is_audited(entry, ticket["id"]):
            self._broken(f"not in the audit: {entry.stmt} {entry.args}")
        if entry.stmt.startswith("ALTER"):
            lab.raced = lab.acted_on[key] > sender.looked.get(key, -1)
            self._alter_arrives(entry, key, ticket)

    def _should_not_have(self, sender: Sender, ticket_id: int, entry: Entry) -> bool:
        """Whether one who has no ticket any more should have kept this to himself.

        One who was relieved between his last look and the statement could not know it: CrateDB has
        no epochs. His statement is then one of those that may still land, and are watched for. And
        what is owed is said even where the store cannot be asked.
        """
        if not sender.audited:
            return _is_zero(entry)
        return self.taken_over.get(ticket_id, 0) < sender.began

    def _alter_arrives(self, entry: Entry, key: Key, ticket: Any) -> None:
        lab = self.lab
        text, original = (entry.args or [None])[-1], ticket["original_replicas"]
        relation = lab.relation(key)
        now = relation.replicas if relation else None
        before = self.altered.setdefault(ticket["id"], [])
        if text not in {"0", original}:
            self._broken(f"{key} was to have {text!r}, its ticket says {original!r}")
        elif text == "0":
            if not ticket["zero_sent"]:
                self._broken(f"{key}: a SET to 0 that the ticket does not know of")
            if any(_may_land(one) for one in before if _is_zero(one)):
                self._broken(f"{key}: a second SET to 0 under one ticket")
            if now not in {original, None} and not lab.raced:
                self._broken(f"{key}: {now!r} was to become 0, its ticket says {original!r}")
            self._siblings_have_theirs(key)
        elif now not in {"0", original, None} and not lab.raced:
            self._broken(f"{key}: an operator's {now!r} was to become {original!r}")
        before.append(entry)

    def _siblings_have_theirs(self, key: Key) -> None:
        for sibling in self.lab.relations:
            ours = sibling.replicas == "0" and sibling.key not in self.lab.operators_zero
            if ours and sibling.key[:2] == key[:2] and sibling.key != key:
                self._broken(f"{key} was to become 0 while {sibling.key} is")

    def _is_audited(self, entry: Entry, ticket_id: int) -> bool:
        values = iter(entry.args or [])
        parts = entry.stmt.split("?")
        rendered = "".join(
            part + (quote_literal(next(values)) if n < len(parts) - 1 else "")
            for n, part in enumerate(parts)
        )
        rows = self.lab.file_rows(
            "SELECT sql_text FROM caretaker_statements WHERE ticket_id = ? AND ended_at IS NULL",
            ticket_id,
        )
        return any(row["sql_text"] == rendered for row in rows)

    def _key_of(self, entry: Entry) -> Key | None:
        """Which relation a change of ours means: one, and of a partitioned table one partition."""
        words = entry.stmt.split('"')
        table = self.lab.cratedb.world.tables.get((words[1], words[3]))
        if table is None:
            return self._key_of_dropped(words[1], words[3])
        if not table.partitioned_by:
            return (table.schema, table.name, "")
        if "PARTITION" not in entry.stmt:
            return None
        values = {table.partitioned_by[0]: (entry.args or [None])[0]}
        return (table.schema, table.name, partitions.ident_of(table, values))

    def _key_of_dropped(self, schema: str, name: str) -> Key | None:
        rows = self.lab.file_rows(
            "SELECT partition_ident FROM caretaker_tickets WHERE closed_at IS NULL"
            " AND schema_name = ? AND table_name = ? ORDER BY id DESC",
            schema,
            name,
        )
        return (schema, name, rows[0][0]) if rows else None

    # --- what is written ------------------------------------------------------------------------

    def before_write(self, sender: Sender, name: str, args: tuple[Any, ...], given: Any) -> None:
        """Compare what a run is about to write with what is true."""
        if name == "advance" and given.get("leases_verdict"):
            self._verdict(sender, args[0], given["leases_verdict"])
        if name == "close_ticket":
            self._outcome(sender, args[0], args[1])

    def after_write(self, sender: Sender, name: str, args: tuple[Any, ...]) -> None:
        """Note who had a word with the store when."""
        self._calls += 1
        if name == "take_over":
            self.taken_over[args[0].id] = self._calls
        if name in {"begin_statement", "check_epoch"}:
            sender.began, sender.ticket_id = self._calls, args[0].id
        if name == "begin_statement":
            sender.audited = True

    def _verdict(self, sender: Sender, ticket: ResetTicket, verdict: str) -> None:
        key = target_key(ticket.target)
        saw = sender.saw.get(key)
        if saw is None:
            return
        if verdict == "clear" and "clear" not in saw:
            self._broken(f"{key}: leases called clear that are not: {sorted(saw)}")
        if verdict == "timed_out" and "clear" in saw:
            self._broken(f"{key}: leases called stuck that are clear")
        if verdict == "primary_lost" and not saw & {"lost", "gone"}:
            self._broken(f"{key}: a primary called lost that is there")

    def _outcome(self, sender: Sender, ticket: ResetTicket, row: OutcomeRow) -> None:
        lab, key = self.lab, target_key(ticket.target)
        relation = lab.relation(key)
        now = relation.replicas if relation else None
        acted = lab.acted_on[key] > sender.looked.get(key, -1)
        landed = [one for one in self.altered.get(ticket.id, []) if one.applied]
        told = f"{key}: {row.outcome} ({row.reason})"
        if now == "0" and key not in lab.operators_zero:
            self._broken(f"{told}, and it is at 0")
        if row.original_replicas != ticket.original_replicas:
            self._broken(f"{told}: the original is {ticket.original_replicas!r}")
        if row.final_replicas not in {None, now} and not acted:
            self._broken(f"{told}: final {row.final_replicas!r}, in truth {now!r}")
        if row.outcome == "CHANGED_UNDERNEATH":
            if now == ticket.original_replicas and not acted:
                self._broken(f"{told}: it has what it had")
        elif row.outcome == "REFUSED":
            if any(_is_zero(one) for one in landed):
                self._broken(f"{told}: its SET to 0 was carried out")
        elif row.outcome == "NOT_RESTORED":
            self._broken(f"{told}: a promise that is not kept stays open")
        elif now not in {None, ticket.original_replicas} and not acted:
            self._broken(f"{told}: it has {now!r}, not {ticket.original_replicas!r}")
        saw = sender.saw.get(key)
        whole = row.outcome == "COMPLETED" and not row.degraded and landed
        if whole and saw is not None and "back" not in saw:
            self._broken(f"{told}: its copies were never seen back")


def _is_zero(entry: Entry) -> bool:
    return entry.stmt.startswith("ALTER") and (entry.args or [None])[-1] == "0"


def _may_land(entry: Entry) -> bool:
    """Whether a SET to 0 was carried out, or may have been, or may yet be."""
    provably_not = entry.status == 500 or entry.code in _NEVER_EXECUTED
    return entry.applied or not (entry.status is not None and provably_not)
