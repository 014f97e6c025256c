"""One client's connection: what it says is understood, and carried out by the backend."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg

from lab.materialize import wire
from lab.materialize.answers import Answers, Execution, Expected
from lab.materialize.errors import SYNTAX, MaterializeError
from lab.materialize.misbehaviour import GoneError
from lab.materialize.statements import Kind, Statement, call_text, understand
from lab.materialize.tokens import UnterminatedError, split
from lab.materialize.wire import ClosedError, Message, Reader

if TYPE_CHECKING:
    from lab.materialize.server import Server

_POISON = "SELECT lab.refuse('XX000', 'refused by the lab')"
_TEXT_PARAMETER = struct.pack("!hi", 1, 25)


class Session(Answers):
    """Serves one connection until either side is gone."""

    def __init__(self, server: Server, client: socket.socket, peer: str) -> None:
        """Take an accepted connection; nothing has been read yet."""
        super().__init__(server, client, peer)
        self._prepared: dict[str, Statement | None] = {}
        self._portals: dict[str, Statement | None] = {}
        self._skipping = False

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


_EXTENDED: dict[bytes, Callable[[Session, Message], None]] = {
    b"P": Session._parse,  # noqa: SLF001 - its own table
    b"B": Session._bind,  # noqa: SLF001
    b"D": Session._describe,  # noqa: SLF001
    b"E": Session._execute,  # noqa: SLF001
    b"C": Session._close,  # noqa: SLF001
}
