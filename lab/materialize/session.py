"""One client's connection: what it says is looked at, turned where need be, and passed on."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from lab.faults import Action, Fault
from lab.materialize import settings, wire
from lab.materialize.errors import SYNTAX, MaterializeError
from lab.materialize.history import Running
from lab.materialize.journal import Entry
from lab.materialize.misbehaviour import AFTER, GoneError, Misbehaviour
from lab.materialize.routing import Route
from lab.materialize.statements import Kind, Statement, call_text, understand
from lab.materialize.tokens import UnterminatedError, split
from lab.materialize.transactions import Transaction
from lab.materialize.wire import ClosedError, Message, Reader, Stream

if TYPE_CHECKING:
    from lab.materialize.server import Server

_POISON = "SELECT lab.refuse('XX000', 'refused by the lab')"
_TEXT_PARAMETER = struct.pack("!hi", 1, 25)
_DROPPED_STATUS = {"in_hot_standby", "default_transaction_read_only", "scram_iterations",
                   "session_authorization", "search_path"}  # fmt: skip


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


class Session:
    """Serves one connection until either side is gone."""

    def __init__(self, server: Server, client: socket.socket, peer: str) -> None:
        """Take an accepted connection; nothing has been read yet."""
        self.server = server
        self.client = Stream(client)
        self.backend: Stream
        self.id = uuid.uuid4()
        self.peer = peer
        #: What a cancel request must carry: the backend's process id and secret.
        self.key = b""
        self.user = ""
        self.application = ""
        self.parameters: dict[str, str] = {}
        self._initial: dict[str, str] = {}
        #: The backend's state as ReadyForQuery has it: I, T or E.
        self.status = "I"
        self.transaction = Transaction()
        self._prepared: dict[str, Statement | None] = {}
        self._portals: dict[str, Statement | None] = {}
        self._expected: deque[Expected] = deque()
        self._skipping = False
        self._failed = False
        self._after: Execution | None = None
        self.misbehaviour = Misbehaviour(self)

    # --- the beginning ---------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the end; whatever ends it stays inside."""
        try:
            startup = self._first_words()
            if startup is not None and self._connect(startup):
                self._serve()
        except (ClosedError, GoneError, OSError):
            pass
        except psycopg.OperationalError:
            # The lab's own connections go when it stops, under whoever is still talking.
            if not self.server.stopping.is_set():
                raise

    def _first_words(self) -> bytes | None:
        while True:
            body = self.client.startup()
            code = struct.unpack_from("!i", body)[0]
            if code in {wire.SSL_REQUEST, wire.GSS_REQUEST}:
                self.client.put_raw(b"N")
                self.client.flush()
            elif code == wire.CANCEL_REQUEST:
                self.server.cancel(body)
                return None
            elif code >> 16 == wire.PROTOCOL_3 >> 16:
                return body
            else:
                return None

    def _connect(self, startup: bytes) -> bool:
        version = startup[:4]
        reader, given = Reader(startup[4:]), {}
        while reader.at < len(reader.body) - 1:
            name = reader.string()
            given[name] = reader.string()
        self.user = given.get("user", "")
        self.application = given.get("application_name", "")
        if not self._authenticated():
            return False
        self.parameters = dict(settings.DEFAULT_PARAMETERS)
        options = settings.startup_options(given)
        for name, value in options.items():
            if name.startswith(settings.PREFIX):
                self.parameters[name.removeprefix(settings.PREFIX)] = value
        self._initial = dict(self.parameters)
        self.backend = Stream(self.server.connect_backend())
        said = {"user": self.user, "database": self.server.database, **options}
        packed = b"".join(wire.c_string(k) + wire.c_string(v) for k, v in said.items()) + b"\0"
        self.backend.put_raw(struct.pack("!i", len(packed) + 8) + version + packed)
        self.backend.flush()
        return self._greeted()

    def _authenticated(self) -> bool:
        password = self.server.passwords.get(self.user)
        refusal = None
        if self.user not in self.server.users:
            refusal = MaterializeError("28000", f'role "{self.user}" does not exist', fatal=True)
        elif password is not None:
            self.client.put(Message(b"R", struct.pack("!i", 3)))
            self.client.flush()
            if self.client.message().body[:-1].decode("utf-8", "replace") != password:
                refusal = MaterializeError("28P01", "invalid password", fatal=True)
        if refusal is not None:
            self.client.put(wire.error(refusal))
            self.client.flush()
        return refusal is None

    def _greeted(self) -> bool:
        """Pass the backend's greeting on, as Materialize would have said it."""
        while True:
            message = self.backend.message()
            if message.kind == b"S":
                self._pass_status(message)
            elif message.kind == b"K":
                self.key = message.body
                self.client.put(
                    wire.parameter_status("mz_version", self.server.version),
                    wire.parameter_status("cluster", self.parameters["cluster"]),
                    message,
                )
            elif message.kind == b"E":
                self.client.put(wire.without_context(message))
                self.client.flush()
                return False
            elif message.kind == b"Z":
                self.client.put(message)
                self.client.flush()
                return True
            else:
                self.client.put(message)

    def _pass_status(self, message: Message) -> None:
        reader = Reader(message.body)
        name, value = reader.string(), reader.string()
        if name == "application_name":
            self.application = value
        if name == "server_version":
            value = settings.FIXED["server_version"]
        if name == "is_superuser":
            value = "on" if self.server.is_superuser(self.user) else "off"
        if name not in _DROPPED_STATUS:
            self.client.put(wire.parameter_status(name, value))

    # --- the conversation ------------------------------------------------------------------

    def _serve(self) -> None:
        number = self.server.session_began(self)
        try:
            while True:
                self.client.flush()
                if not self.client.has_more:
                    self._idle()
                message = self.client.message()
                if message.kind == b"X":
                    return
                self._hear(message)
        finally:
            self._abandon()
            with contextlib.suppress(OSError):
                self.backend.sock.close()
            self.server.session_ended(self, number)

    def _idle(self) -> None:
        """Wait for the client; pass on what the backend says meanwhile."""
        while True:
            readable, _, _ = select.select([self.client.sock, self.backend.sock], [], [])
            if self.client.sock in readable:
                return
            message = self.backend.message()
            if message.kind in b"EN":
                self.client.put(wire.without_context(message))
            self.client.flush()

    def _hear(self, message: Message) -> None:
        if message.kind == b"Q":
            self._query(Reader(message.body).string())
        elif message.kind == b"S":
            self._sync()
        elif self._skipping:
            return
        elif message.kind == b"H":
            self.backend.put(message)
            self._drain(until_ready=False)
        elif message.kind in _EXTENDED:
            try:
                _EXTENDED[message.kind](self, message)
            except MaterializeError as refusal:
                self._fail_extended(refusal)
        elif message.kind == b"F":
            self._fail_extended(MaterializeError("0A000", "function calls are not supported"))

    # --- simple queries --------------------------------------------------------------------

    def _query(self, sql: str) -> None:
        try:
            statements = [understand(piece) for piece in split(sql)]
        except UnterminatedError as error:
            statements = []
            self._answer_refusal(MaterializeError(SYNTAX, str(error)))
        except MaterializeError as refusal:
            statements = []
            self._journal(Statement(sql, Kind.OTHER, sql)).code = refusal.code
            self._answer_refusal(refusal)
        else:
            if not statements:
                self.client.put(Message(b"I", b""))
        self._run_all(statements)
        self._close_transaction()
        self.client.put(wire.ready(self.status))

    def _run_all(self, statements: list[Statement]) -> None:
        """Run the statements of one message, all or none where there is more than one."""
        implicit = len(statements) > 1 and self.status == "I"
        begun = False
        for statement in statements:
            if implicit and statement.kind == Kind.BEGIN:
                implicit = False
                if begun:
                    self.client.put(wire.complete("BEGIN"))
                    continue
            if implicit and not begun and statement.kind not in {Kind.COMMIT, Kind.ROLLBACK}:
                self._silently("BEGIN")
                begun = True
            if not self._run_one(statement, implicit=implicit):
                break
            if statement.kind in {Kind.COMMIT, Kind.ROLLBACK}:
                begun = False
                self._close_transaction()
        if implicit and begun:
            failure = self._silently("COMMIT" if self.status == "T" else "ROLLBACK")
            if failure is not None:
                self.client.put(failure)

    def _run_one(self, statement: Statement, *, implicit: bool) -> bool:
        """Run one statement; False where the rest of its message is not to be run."""
        entry = self._journal(statement)
        try:
            execution = self._begin_execution(statement, entry, implicit=implicit)
            local = statement.local
            if statement.call is not None:
                block = "'true'" if self.status == "T" else "'false'"
                local = call_text(statement.call, self.user, block)
            self._failed = False
            self._expected.append(Expected(b"CEI", execution))
            self.backend.put(wire.query(local))
            self._drain(until_ready=True, pass_ready=False)
        except MaterializeError as refusal:
            entry.code = refusal.code
            self._answer_refusal(refusal)
            return False
        self._settle_fault()
        return not self._failed

    def _answer_refusal(self, refusal: MaterializeError) -> None:
        """Send the refusal, and let the backend's transaction fail with it."""
        if self.status == "T":
            self._silently(_POISON)
        self.client.put(wire.error(refusal))

    def _silently(self, sql: str) -> Message | None:
        """Run something that the client does not see; return the error, if one came."""
        self.backend.put(wire.query(sql))
        self.backend.flush()
        failure = None
        while True:
            message = self.backend.message()
            if message.kind == b"E":
                failure = wire.without_context(message)
            elif message.kind == b"Z":
                self.status = message.body.decode()
                return failure

    # --- the extended protocol -------------------------------------------------------------

    def _parse(self, message: Message) -> None:
        reader = Reader(message.body)
        name, sql = reader.string(), reader.string()
        types = reader.rest()
        statement = understand(sql)
        if statement.call is not None:
            if types[:2] != b"\0\0":
                raise MaterializeError("42P02", "there is no parameter $1")
            message = wire.parse(name, call_text(statement.call, self.user, "$1"), _TEXT_PARAMETER)
        else:
            message = wire.parse(name, statement.local, types)
        self._prepared[name] = statement
        self._send(message, b"1")

    def _bind(self, message: Message) -> None:
        reader = Reader(message.body)
        portal, name = reader.string(), reader.string()
        statement = self._prepared.get(name)
        if statement is not None and statement.call is not None:
            block = "true" if self.status == "T" else "false"
            message = wire.bind(portal, name, wire.text_values(block))
        self._portals[portal] = statement
        self._send(message, b"2")

    def _describe(self, message: Message) -> None:
        name = Reader(message.body[1:]).string()
        if message.body[:1] == b"S":
            statement = self._prepared.get(name)
            is_call = statement is not None and statement.call is not None
            self._expected.append(Expected(b"t", is_call=is_call))
        self._send(message, b"Tn")

    def _execute(self, message: Message) -> None:
        statement = self._portals.get(Reader(message.body).string())
        if statement is None:
            self._send(message, b"CEIs")
            return
        entry = self._journal(statement)
        try:
            execution = self._begin_execution(statement, entry, implicit=False)
        except MaterializeError as refusal:
            entry.code = refusal.code
            raise
        if statement.kind == Kind.BEGIN:
            self.status = "T"
        elif statement.kind in {Kind.COMMIT, Kind.ROLLBACK}:
            self.status = "I"
        self._send(message, b"CIs", execution)

    def _close(self, message: Message) -> None:
        known = self._prepared if message.body[:1] == b"S" else self._portals
        known.pop(Reader(message.body[1:]).string(), None)
        self._send(message, b"3")

    def _send(self, message: Message, kinds: bytes, execution: Execution | None = None) -> None:
        self._expected.append(Expected(kinds, execution))
        self.backend.put(message)

    def _fail_extended(self, refusal: MaterializeError) -> None:
        """Answer what was asked before, then the refusal, and pass nothing on until Sync."""
        self.backend.put(Message(b"H", b""))
        self._drain(until_ready=False)
        if not self._failed:
            poison = (wire.parse("", _POISON), wire.bind("", ""), wire.execute(""))
            self.backend.put(*poison, Message(b"H", b""))
            self.backend.flush()
            while self.backend.message().kind != b"E":
                pass
            self.client.put(wire.error(refusal))
            self._failed = True
        self._skipping = True

    def _sync(self) -> None:
        self.backend.put(wire.SYNC)
        self._drain(until_ready=True)
        self._skipping = self._failed = False
        self._settle_fault()
        self._close_transaction()

    # --- answers ---------------------------------------------------------------------------

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


_EXTENDED: dict[bytes, Callable[[Session, Message], None]] = {
    b"P": Session._parse,  # noqa: SLF001 - its own table
    b"B": Session._bind,  # noqa: SLF001
    b"D": Session._describe,  # noqa: SLF001
    b"E": Session._execute,  # noqa: SLF001
    b"C": Session._close,  # noqa: SLF001
}
