"""Which of its connections a command runs on, and what becomes of the transaction around it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import bson
import psycopg

from lab.documentdb import sessions
from lab.documentdb.commands import OK, Commands
from lab.documentdb.engine import Engine, Pg, refusal, violated_index
from lab.documentdb.transactions import State, Transaction, Transactions
from lab.documentdb.writes import name_duplicate
from lab.mongodb.listener import Connection, Service
from lab.mongodb.replies import (
    CODES,
    RefusedCommandError,
    hello,
    no_such_transaction,
    with_times,
)
from lab.mongodb.wire import Request

_REAP_EVERY_S = 1.0
_HELLOS = {"hello", "isMaster", "ismaster"}


class Front(Service):
    """One MongoDB: the primary, and only member, of a replica set."""

    def __init__(self, engine: Engine, replica_set: str, transaction_lifetime_s: float) -> None:
        """Prepare the engine, which must answer."""
        sessions.prepare(engine)
        self._engine = engine
        self._set = replica_set
        self._transactions = Transactions(engine, transaction_lifetime_s)
        self._commands = Commands(engine, self._transactions)
        # Sessions whose last number this process has seen: what it is not told twice it need
        # not look up.
        self._seen: dict[bytes, int] = {}

    def reap(self, stop: threading.Event) -> None:
        """End what is too old, until told to stop."""
        while not stop.wait(_REAP_EVERY_S):
            self._transactions.reap()
            self._commands.cursors.reap()

    def answer(self, request: Request, connection: Connection) -> bytes:
        """Return the reply's document."""
        try:
            return with_times(self._reply(request, connection))
        except RefusedCommandError as error:
            return with_times(bson.encode(error.document()))

    def _reply(self, request: Request, connection: Connection) -> bytes:
        if request.name in _HELLOS:
            # A greeting is a promise: it is not given for an engine that is dead.
            with self._running(request) as pg:
                pg.execute("SELECT 1")
            return bson.encode(
                hello(
                    connection.server.port,
                    self._set,
                    connection.number,
                    legacy=request.name != "hello",
                )
            )
        if request.session is not None and request.number is not None:
            if request.in_transaction:
                return self._in_transaction(request, request.session, request.number)
            return self._once(request, request.session, request.number)
        if request.name == "getMore":
            with self._translated(request):
                return self._commands.cursors.next_page(request)
        with self._running(request) as pg:
            return self._commands.run(request, pg)[0]

    # --- transactions ---------------------------------------------------------------------

    def _in_transaction(self, request: Request, session: bytes, number: int) -> bytes:
        transaction = (
            self._transactions.start(session, number)
            if request.starts_transaction
            else self._transactions.find(session, number)
        )
        if transaction is None or transaction.state is State.UNKNOWN:
            if request.name == "commitTransaction":
                return self._settled(request, session, number)
            raise no_such_transaction(number, aborted=False)
        with transaction.lock:
            if transaction.state is State.COMMITTED:
                if request.name == "commitTransaction":
                    return OK
                raise RefusedCommandError(
                    "TransactionCommitted",
                    f"Transaction with {{ txnNumber: {number} }} has been committed.",
                )
            if transaction.state is not State.OPEN:
                raise no_such_transaction(number, aborted=True)
            try:
                return self._in_open(request, transaction)
            except BaseException:
                # Whatever it was, the first error ends it.
                transaction.abort()
                raise

    def _in_open(self, request: Request, transaction: Transaction) -> bytes:
        with self._translated(request, transaction.pg):
            if request.name == "commitTransaction":
                transaction.commit()
                return OK
            if request.name == "abortTransaction":
                transaction.abort()
                return OK
            if request.name == "getMore":
                return self._commands.cursors.next_page(request)
            reply, done = self._commands.run(request, transaction.pg, transaction)
            if not done:
                transaction.abort()
            return reply

    def _settled(self, request: Request, session: bytes, number: int) -> bytes:
        """Answer a commit that we know nothing of: sent to a front, or an engine, that died."""
        with self._running(request) as pg:
            known = sessions.settle(pg, session, number)
        if known.number == number and known.outcome == sessions.COMMITTED:
            return OK
        raise no_such_transaction(number, aborted=known.number == number)

    # --- writes that may be sent again ----------------------------------------------------

    def _once(self, request: Request, session: bytes, number: int) -> bytes:
        with self._running(request) as pg:
            if self._seen.get(session, -1) < number and session in self._seen:
                known = None
            else:
                known = sessions.last(pg, session)
            if known is not None and known.number == number and known.reply is not None:
                return known.reply
            with pg.transaction():
                reply, _ = self._commands.run(request, pg)
                if not sessions.note(pg, session, number, reply=reply):
                    raise RefusedCommandError(
                        "TransactionTooOld",
                        f"The session is past {{ txnNumber: {number} }} already.",
                    )
        self._seen[session] = number
        return reply

    # --- errors ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _running(self, request: Request) -> Iterator[Pg]:
        with self._engine.connection() as pg, self._translated(request, pg):
            yield pg

    @contextlib.contextmanager
    def _translated(self, request: Request, pg: Pg | None = None) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            refused = refusal(error, in_transaction=request.in_transaction)
            if refused.code == CODES["DuplicateKey"] and pg is not None:
                pg.execute("ROLLBACK")
                named = name_duplicate(request, pg, violated_index(pg, error))
                refused.message = named["errmsg"]
            raise refused from error
