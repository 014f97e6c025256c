"""The lab's own MongoDB: a replica set of one member, in this process, with faults on demand."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import bson

from lab.faults import Action, Fault, Faults
from lab.mongodb.commands import NOT_IN_TRANSACTION, OK, Commands
from lab.mongodb.listener import Connection, HangUpError, Listener, Service
from lab.mongodb.replies import (
    CODES,
    RETRYABLE,
    TRANSIENT,
    RefusedCommandError,
    build_info,
    hello,
    no_such_transaction,
    with_times,
)
from lab.mongodb.store import Document, DuplicateError, Store
from lab.mongodb.users import Scram, User, failed
from lab.mongodb.wire import Request

_HELLOS = frozenset({"hello", "isMaster", "ismaster"})
#: What may be asked before one has said who one is.
_OPEN = _HELLOS | {"saslStart", "saslContinue", "ping", "buildInfo", "buildinfo", "endSessions"}
_WRITES = frozenset({"insert", "update", "delete", "findAndModify", "commitTransaction"})
_CODEC: bson.CodecOptions[Document] = bson.CodecOptions(tz_aware=True)
#: With these a driver looks for another primary and sends again.
_PASSING = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})


class Mode(StrEnum):
    """What kind of server it is."""

    REPLICA_SET = "replica_set"
    #: Started without a set's name: no transactions, and it says so.
    STANDALONE = "standalone"
    #: Announces a replica set, takes `startTransaction`, and writes at once.
    IGNORES_TRANSACTIONS = "ignores_transactions"


@dataclass(slots=True)
class Entry:
    """A command as it came, for the journal and for what faults match.

    Attributes:
        stmt: `insert audit.row_changes`, with ` in transaction` behind it where it is in one.
    """

    node: str
    user: str
    stmt: str


class LabMongoDB(Service):
    """Data live as long as the object; `start` and `stop` may come again.

    Attributes:
        faults: Rules over the commands that match; greetings match only by their own name.
        journal: The last commands, oldest first.
    """

    def __init__(
        self,
        *,
        mode: Mode = Mode.REPLICA_SET,
        users: tuple[User, ...] = (),
        transaction_lifetime_s: float = 60.0,
        replica_set: str = "rs0",
        ttl_every_s: float = 60.0,
    ) -> None:
        """Prepare; nothing listens yet."""
        self.mode = mode
        self.users = {user.name: user for user in users}
        self.store = Store(transaction_lifetime_s=transaction_lifetime_s)
        self.faults = Faults()
        self.journal: deque[Entry] = deque(maxlen=10_000)
        self.port = 0
        self._set = replica_set
        self._ttl_every_s = ttl_every_s
        self._stopped = threading.Event()
        self._commands = Commands(self.store)
        self._secondary = False
        self._going = threading.Event()
        self._going.set()
        self._listener: Listener | None = None
        # Of each session the last write that may be sent again, and what was answered.
        self._answered: dict[bytes, tuple[int, Document]] = {}
        self._scrams: dict[int, Scram] = {}
        self._who: dict[int, User] = {}

    # --- levers -------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """As `MONGODB_URI` wants it, without a user."""
        tail = "" if self.mode is Mode.STANDALONE else f"?replicaSet={self._set}"
        return f"mongodb://127.0.0.1:{self.port}/{tail}"

    def url_for(self, user: str, password: str) -> str:
        """As `MONGODB_URI` wants it."""
        return self.url.replace("://", f"://{user}:{password}@")

    def start(self) -> Self:
        """Listen, on the same port as before."""
        self._listener = Listener(self, self.port)
        self.port = self._listener.port
        self._stopped.clear()
        threading.Thread(target=self._sweep, name="lab-mongodb-ttl", daemon=True).start()
        threading.Thread(
            target=self._listener.serve_forever, name="lab-mongodb", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Go away: connections break, and what is open is undone, as after a crash."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        self._stopped.set()
        listener.shutdown()
        listener.server_close()
        self.hang_up(listener)
        for session in list(self.store.transactions):
            self.store.end_session(session)

    def _sweep(self) -> None:
        while not self._stopped.wait(self._ttl_every_s):
            self.expire()

    def hang_up(self, listener: Listener | None = None) -> None:
        """Break all connections."""
        listener = listener or self._listener
        if listener is None:
            return
        with listener.lock:
            connections = list(listener.connections)
        for each in connections:
            with contextlib.suppress(OSError):
                each.reset()

    def step_down(self) -> None:
        """Be no primary any more: what is open is undone, writes are refused."""
        self._secondary = True
        for session in list(self.store.transactions):
            found = self.store.transactions[session]
            self.store.end(found, "aborted")

    def elect(self) -> None:
        """Be the primary again."""
        self._secondary = False

    def pause(self) -> None:
        """Take requests and say nothing until `go_on`."""
        self._going.clear()

    def go_on(self) -> None:
        """Answer again."""
        self._going.set()

    def expire(self, *, at: dt.datetime | None = None) -> int:
        """Look at TTL indexes now, as MongoDB does once a minute."""
        return self.store.expire(at or dt.datetime.now(dt.UTC))

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.go_on()
        self.stop()

    # --- requests -----------------------------------------------------------------------------

    def answer(self, request: Request, connection: Connection) -> bytes:
        """Return the reply's document, or misbehave as a rule says."""
        self._going.wait()
        entry = self._entry(request, connection)
        fault = None if request.name in _HELLOS else self.faults.pick(entry, 0)
        if self.faults.refuses(entry.node, 0):
            raise HangUpError
        self.journal.append(entry)
        if fault is not None and fault.before is not None:
            fault.before(entry)
        answer = self._misbehave(fault, request, connection)
        if fault is not None and fault.after is not None:
            fault.after(entry)
        return answer

    def _misbehave(self, fault: Fault | None, request: Request, connection: Connection) -> bytes:
        action = Action.WATCH if fault is None else fault.action
        if action == Action.RESET_BEFORE:
            connection.reset()
            raise HangUpError
        if fault is not None and action in {Action.LATENCY, Action.LATE}:
            time.sleep(fault.seconds)
        if fault is not None and action == Action.ERROR:
            error = RefusedCommandError(
                fault.code, fault.message, self._labels(fault.code, request)
            )
            self._abort_of(request)
            return self._encoded(error.document())
        answer = self._reply(request, connection)
        if action == Action.RESET_AFTER:
            connection.reset()
            raise HangUpError
        return answer

    def _entry(self, request: Request, connection: Connection) -> Entry:
        name = request.body.get(request.name)
        space = f"{request.body.get('$db', '')}.{name}" if isinstance(name, str) else ""
        tail = " in transaction" if request.in_transaction else ""
        user = self._who.get(connection.number)
        return Entry("mongodb", user.name if user else "", f"{request.name} {space}{tail}")

    def _reply(self, request: Request, connection: Connection) -> bytes:
        try:
            return self._encoded(self._run(request, connection))
        except RefusedCommandError as error:
            self._abort_of(request)
            return self._encoded(error.document())

    def _encoded(self, document: Document) -> bytes:
        encoded = bson.encode(document)
        return encoded if self.mode is Mode.STANDALONE else with_times(encoded)

    def _run(self, request: Request, connection: Connection) -> Document:
        name = request.name
        if name in _HELLOS:
            return self._greet(request, connection)
        if name in {"saslStart", "saslContinue"}:
            return self._authenticate(request, connection)
        self._must_be_allowed(request, connection)
        body = bson.decode(request.raw, _CODEC)
        if name in {"endSessions", "killSessions"}:
            for each in body[name]:
                self.store.end_session(bytes(each["id"]))
            return OK
        if name in {"buildInfo", "buildinfo"}:
            return build_info()
        if name == "connectionStatus":
            return {"authInfo": {"authenticatedUsers": []}, "ok": 1.0}
        if self._secondary and (name in _WRITES or request.in_transaction):
            raise self._not_primary(request)
        if request.session is not None and request.number is not None:
            return self._numbered(request, body)
        return self._command(request, body, None)

    def _numbered(self, request: Request, body: Document) -> Document:
        """Run what has a transaction's number, or a retryable write's."""
        session, number = request.session or b"", request.number or 0
        if self.mode is Mode.STANDALONE:
            raise RefusedCommandError(
                "IllegalOperation",
                "Transaction numbers are only allowed on a replica set member or mongos",
            )
        if self.mode is Mode.IGNORES_TRANSACTIONS:
            return self._command(request, body, None)
        if not request.in_transaction:
            known = self._answered.get(session)
            if known is not None and known[0] == number:
                return {**known[1], "retriedStmtIds": [0]}
            answer = self._command(request, body, None)
            self._answered[session] = (number, answer)
            return answer
        if request.starts_transaction:
            transaction = self.store.begin(session, number)
        else:
            transaction = self.store.find(session, number)
        if transaction.state == "committed":
            if request.name == "commitTransaction":
                return OK
            raise RefusedCommandError(
                "TransactionCommitted", f"Transaction {number} has been committed."
            )
        if transaction.state == "aborted":
            raise no_such_transaction(number, aborted=True)
        if request.name in {"commitTransaction", "abortTransaction"}:
            ends = "committed" if request.name == "commitTransaction" else "aborted"
            self.store.end(transaction, ends)
            return OK
        if request.name in NOT_IN_TRANSACTION:
            raise RefusedCommandError(
                "OperationNotSupportedInTransaction",
                f"Cannot run '{request.name}' in a multi-document transaction.",
            )
        answer = self._command(request, body, transaction)
        if answer.get("writeErrors"):
            self.store.end(transaction, "aborted")
        return answer

    def _command(self, request: Request, body: Document, transaction: Any) -> Document:
        run = self._commands.by_name.get(request.name)
        if run is None:
            raise RefusedCommandError("CommandNotFound", f"no such command: '{request.name}'")
        try:
            return run(request, body, transaction)
        except DuplicateError as error:
            # Of a command that changes one document; those of many tell it in their answer.
            raise RefusedCommandError("DuplicateKey", str(error)) from error

    def _abort_of(self, request: Request) -> None:
        """End the transaction that an error was in: the first one ends it."""
        if request.in_transaction and request.session is not None:
            found = self.store.transactions.get(request.session)
            if found is not None and found.number == request.number:
                self.store.end(found, "aborted")

    # --- who and what -------------------------------------------------------------------------

    def _greet(self, request: Request, connection: Connection) -> Document:
        said = hello(self.port, self._set, connection.number, legacy=request.name != "hello")
        if self.mode is Mode.STANDALONE:
            for name in ("setName", "setVersion", "electionId", "hosts", "primary", "me"):
                del said[name]
        elif self._secondary:
            said["ismaster" if request.name != "hello" else "isWritablePrimary"] = False
            said["secondary"] = True
            del said["primary"], said["electionId"]
        if "saslSupportedMechs" in request.body and self.users:
            said["saslSupportedMechs"] = ["SCRAM-SHA-256"]
        return said

    def _authenticate(self, request: Request, connection: Connection) -> Document:
        payload = bytes(request.body["payload"])
        if request.name == "saslStart":
            if request.body["mechanism"] != "SCRAM-SHA-256":
                raise failed()
            scram = self._scrams[connection.number] = Scram(self.users)
            return _said(scram.first(payload), done=False)
        if connection.number not in self._scrams:
            raise failed()
        if not payload:
            return _said(b"", done=True)
        answer, user = self._scrams[connection.number].final(payload)
        self._who[connection.number] = user
        return _said(answer, done=bool(request.body.get("skipEmptyExchange", True)))

    def _must_be_allowed(self, request: Request, connection: Connection) -> None:
        if not self.users or request.name in _OPEN:
            return
        user = self._who.get(connection.number)
        if user is None:
            raise RefusedCommandError(
                "Unauthorized", f"command {request.name} requires authentication"
            )
        if not user.may(request.name):
            raise RefusedCommandError(
                "Unauthorized",
                f"not authorized on {request.db} to execute command {{ {request.name}: ... }}",
            )

    def _not_primary(self, request: Request) -> RefusedCommandError:
        code = CODES["NotWritablePrimary"]
        return RefusedCommandError(code, "not primary", self._labels(code, request))

    def _labels(self, code: int, request: Request) -> list[str]:
        if request.in_transaction and request.name != "commitTransaction":
            return [TRANSIENT] if code in _PASSING or code == CODES["WriteConflict"] else []
        return [RETRYABLE] if code in _PASSING else []


def _said(payload: bytes, *, done: bool) -> Document:
    return {"conversationId": 1, "done": done, "payload": payload, "ok": 1.0}
