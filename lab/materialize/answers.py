"""What the backend answers: looked at, turned where need be, and passed on."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from lab.faults import Action, Fault
from lab.materialize import wire
from lab.materialize.greeting import Greeting
from lab.materialize.history import Running
from lab.materialize.journal import Entry
from lab.materialize.misbehaviour import AFTER, Misbehaviour
from lab.materialize.routing import Route
from lab.materialize.statements import Kind, Statement
from lab.materialize.transactions import Transaction
from lab.materialize.wire import Message, Reader

if TYPE_CHECKING:
    from lab.materialize.server import Server


@dataclass(slots=True)
class Execution:
    """A statement under way: its entry in the journal and in the history, and its rule."""

    statement: Statement
    entry: Entry
    running: Running
    rule: Fault | None = None
    rows: int = 0


@dataclass(slots=True)
class Expected:
    """An answer that the backend owes for a message of the extended protocol."""

    kinds: bytes
    execution: Execution | None = None
    is_call: bool = False


class Answers(Greeting):
    """The statements under way of one connection, and what becomes of them."""

    def __init__(self, server: Server, client: socket.socket, peer: str) -> None:
        """Take an accepted connection."""
        super().__init__(server, client, peer)
        #: The backend's state as ReadyForQuery has it: I, T or E.
        self.status = "I"
        self.transaction = Transaction()
        self._expected: deque[Expected] = deque()
        self._failed = False
        self._after: Execution | None = None
        self.misbehaviour = Misbehaviour(self)

    def _drain(self, *, until_ready: bool, pass_ready: bool = True) -> None:
        """Pass on what the backend owes: all of it, or up to and with ReadyForQuery."""
        self.backend.flush()
        # What a rule lets happen after the client has gone is not cancelled for its going.
        watch = not self.client.held
        while until_ready or (self._expected and not self._failed):
            watch = self._wait_for_backend(watch=watch)
            message = self.backend.message()
            if message.kind == b"Z":
                self.status = message.body.decode()
                self._expected.clear()
                if pass_ready:
                    self.client.put(message)
                return
            self._pass(message)

    def _wait_for_backend(self, *, watch: bool) -> bool:
        """Wait until the backend speaks; a client that hangs up cancels what runs."""
        while watch and not self.backend.has_more:
            if not self.client.held:
                self.client.flush()
            readable, _, _ = select.select([self.backend.sock, self.client.sock], [], [])
            if self.backend.sock in readable:
                return True
            try:
                # Nothing is the end; X is a client that says goodbye before it goes.
                gone = self.client.sock.recv(1, socket.MSG_PEEK) in {b"", b"X"}
            except OSError:
                gone = True
            if gone:
                self.server.cancel_backend(self)
            watch = False  # it said something more, or nothing ever again
        return watch

    def _pass(self, message: Message) -> None:
        kind = message.kind
        if kind in {b"K", b"A"}:
            return
        if kind == b"S":
            self._pass_status(message)
        elif kind == b"N":
            self.client.put(wire.without_context(message))
        elif kind == b"E":
            self._pass_error(message)
        else:
            self._pass_answer(message)

    def _pass_error(self, message: Message) -> None:
        message = wire.without_context(message)
        self._failed = True
        code = wire.fields_of(message).get("C", "")
        for expected in self._expected:
            if expected.execution is not None:
                self._ended(expected.execution, code)
                if expected.execution.statement.kind == Kind.COMMIT:
                    self.parameters.update(self.transaction.before)
        self._expected.clear()
        self.client.put(message)

    def _pass_answer(self, message: Message) -> None:
        expected = self._expected[0] if self._expected else None
        execution = expected.execution if expected else None
        rule = execution.rule if execution else None
        if message.kind == b"D" and execution is not None:
            execution.rows += 1
            if rule is not None and rule.action == Action.WRONG_ROWS:
                return
        if expected is not None and message.kind in expected.kinds:
            self._expected.popleft()
        if message.kind == b"t" and expected is not None and expected.is_call:
            message = Message(b"t", b"\0\0")
        if message.kind == b"C" and execution is not None:
            message = self._completed(execution, message)
        self.client.put(message)

    def _completed(self, execution: Execution, message: Message) -> Message:
        statement, rule = execution.statement, execution.rule
        tag = Reader(message.body).string()
        # COMMIT of what had failed is a ROLLBACK, whatever was asked for.
        if statement.tag is not None and tag != "ROLLBACK":
            tag = statement.tag
        if rule is not None and rule.action == Action.WRONG_ROWS:
            for row in rule.rows or []:
                self.client.put(wire.data_row(row))
            tag = f"SELECT {len(rule.rows or [])}"
        execution.entry.tag, execution.entry.applied = tag, True
        self._took_effect(statement, tag)
        self._ended(execution, None)
        if rule is not None and rule.after is not None and rule.action not in AFTER:
            rule.after(execution.entry)
        return wire.complete(tag)

    def _ended(self, execution: Execution, code: str | None) -> None:
        status = {None: "success", "57014": "canceled"}.get(code, "error")
        execution.entry.code = code
        self.server.history.ended(
            execution.running, status, execution.rows if code is None else None
        )
        if code is None and execution.statement.kind in {Kind.CALL, Kind.DDL, Kind.COMMIT}:
            self.server.changed()
        call = execution.statement.call
        if code == "57014" and call is not None and call.get("wait"):
            self.server.take_back(call["cluster"])

    def _abandon(self) -> None:
        """The connection is gone: what still ran was aborted."""
        for expected in self._expected:
            if expected.execution is not None:
                with contextlib.suppress(psycopg.Error):
                    self.server.history.ended(expected.execution.running, "aborted")

    # --- before a statement runs -----------------------------------------------------------

    def _journal(self, statement: Statement) -> Entry:
        entry = Entry(
            time.time(), "materialize", self.user, statement.sql, self.application,
            self.parameters.get("cluster", ""), lab_at=self.server.time(),
        )  # fmt: skip
        return self.server.journal.add(entry)

    def _begin_execution(self, statement: Statement, entry: Entry, *, implicit: bool) -> Execution:
        """Look where the statement runs and whether it may; raise the refusal if not."""
        rule = self.server.faults.pick(entry, 0)
        if rule is not None:
            if rule.before is not None:
                rule.before(entry)
            self.misbehaviour.before(rule, entry)
        route = self.server.routing.route(statement, self.parameters)
        if self.status == "T" or implicit:
            if self.status != "E":
                self.transaction.check(
                    statement, explicit=self.status == "T" and not implicit, touches=route.touches
                )
            self.transaction.note(statement, touches=route.touches)
        running = self._history(statement, route)
        execution = Execution(statement, entry, running, rule)
        if route.refusal is not None and self.status != "E":
            self._ended(execution, route.refusal.code)
            raise route.refusal
        if rule is not None and rule.action in AFTER:
            self.client.flush()
            self.client.held = True
            self._after = execution
        return execution

    def _history(self, statement: Statement, route: Route) -> Running:
        strategy = {Kind.READ: "standard" if route.touches else "constant",
                    Kind.READ_WRITE: "standard"}.get(statement.kind)  # fmt: skip
        return self.server.history.began(
            cluster=route.cluster, application=self.application,
            database=self.parameters.get("database", ""), strategy=strategy,
        )  # fmt: skip

    def _settle_fault(self) -> None:
        """Do what a rule wants done after its statement took effect."""
        execution, self._after = self._after, None
        if execution is not None and execution.rule is not None:
            if execution.rule.after is not None:
                execution.rule.after(execution.entry)
            self.misbehaviour.after(execution.rule)

    # --- parameters ------------------------------------------------------------------------

    def _took_effect(self, statement: Statement, tag: str) -> None:
        kind, before = statement.kind, self.transaction.before
        if kind == Kind.BEGIN:
            self.transaction = Transaction(before=dict(self.parameters))
        elif kind == Kind.SET:
            self._set(statement)
        elif kind == Kind.ROLLBACK or tag == "ROLLBACK":
            self.parameters.update(before)
        elif kind == Kind.COMMIT:
            self.parameters.update({name: before[name] for name in self.transaction.local})
        elif tag == "DISCARD ALL":
            self.parameters = dict(self._initial)

    def _set(self, statement: Statement) -> None:
        if statement.parameter == "all":
            self.parameters = dict(self._initial)
        elif statement.parameter in self.parameters:
            value = statement.value
            if value is None:
                value = self._initial[statement.parameter]
            if not statement.is_local:
                self.parameters[statement.parameter] = value
            elif statement.parameter in self.transaction.before:
                self.parameters[statement.parameter] = value
                self.transaction.local.add(statement.parameter)

    def _close_transaction(self) -> None:
        if self.status == "I":
            self.transaction = Transaction()
