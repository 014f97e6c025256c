"""The listening side: a thread a connection, cancel requests, and doors that close on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

import psycopg

from lab.faults import Faults
from lab.materialize.greeting import Greeting
from lab.materialize.history import History
from lab.materialize.journal import Journal
from lab.materialize.misbehaviour import GoneError
from lab.materialize.postgres import EmbeddedPostgres
from lab.materialize.routing import Routing
from lab.materialize.session import Session

_RESET = struct.pack("ii", 1, 0)


class Server:
    """Serves one database of the embedded PostgreSQL as a Materialize."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        database: str,
        admin: Callable[[], psycopg.Connection],
        *,
        version: str,
        journal: Journal,
        on_change: Callable[[], None],
    ) -> None:
        """Listen to nobody yet; `admin` makes a superuser's connection to the database."""
        self.database = database
        self.version = version
        self.journal = journal
        self.faults = Faults(self._refuse_or_serve)
        self.history = History(admin())
        self.routing = Routing(admin())
        self.passwords: dict[str, str] = {}
        self.users: set[str] = set()
        self.superusers: set[str] = set()
        self.stopping = threading.Event()
        self.port = 0
        self._clock = admin()
        self._clock_lock = threading.Lock()
        self._postgres = postgres
        self._on_change = on_change
        self._listener: socket.socket | None = None
        self._lock = threading.RLock()
        self._sessions: dict[int, Session] = {}
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._next = 1
        self.down = False

    # --- doors -----------------------------------------------------------------------------

    def listen(self, port: int = 0) -> None:
        """Open the door; OSError where the port is taken."""
        with self._lock:
            listener = socket.create_server(("127.0.0.1", port), backlog=128)
            self.port = int(listener.getsockname()[1])
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="lab-mz", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, (host, _) = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(
                target=self._serve, args=(client, host), name="lab-mz-session", daemon=True
            )
            with self._lock:
                self._sockets.add(client)
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket, host: str) -> None:
        try:
            Session(self, client, host).run()
        finally:
            with contextlib.suppress(OSError):
                client.close()
            with self._lock:
                self._sockets.discard(client)
                self._threads.discard(threading.current_thread())

    def close(self) -> None:
        """Close the door and cut every connection with a reset."""
        with self._lock:
            listener, self._listener = self._listener, None
            sockets = list(self._sockets)
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for client in sockets:
            with contextlib.suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End for good."""
        self.stopping.set()
        self.close()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(2.0)
        for connection in (self.history.connection, self.routing.connection, self._clock):
            connection.close()

    def _refuse_or_serve(self) -> None:
        """Open or close the door as the rules say."""
        wanted = not self.down and not self.stopping.is_set()
        wanted = wanted and not self.faults.refuses("materialize", 0)
        with self._lock:
            is_open = self._listener is not None
        if is_open and not wanted:
            self.close()
        elif wanted and not is_open and self.port:
            self.listen(self.port)

    def crash(self) -> None:
        """Be gone: nobody listens, every connection is reset."""
        self.down = True
        self._refuse_or_serve()

    def come_back(self) -> None:
        """End what `crash` began."""
        self.down = False
        self._refuse_or_serve()

    # --- what sessions need ----------------------------------------------------------------

    def connect_backend(self) -> socket.socket:
        """Return a fresh connection to the PostgreSQL underneath."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._postgres.socket)
        return sock

    def cancel(self, request: bytes) -> None:
        """Hand a cancel request on; its key is the backend's own."""
        with contextlib.suppress(OSError), self.connect_backend() as sock:
            sock.sendall(struct.pack("!i", len(request) + 4) + request)
            sock.recv(1)

    def cancel_backend(self, session: Greeting) -> None:
        """Cancel what a session runs: its client has hung up."""
        if session.key:
            self.cancel(struct.pack("!i", 80877102) + session.key)

    def take_back(self, cluster: str) -> None:
        """Drop the pending replicas of a graceful resize that was cancelled."""
        with self._clock_lock:
            self._clock.execute(
                "SELECT lab.settle(id, false, 'mz_system') FROM mz_catalog.mz_clusters "
                "WHERE name = %s",
                (cluster,),
            )
        self.changed()

    def session_began(self, session: Session) -> int:
        """Return the number of a session that is now served."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._sessions[number] = session
        self.history.session_began(session.id, number, session.user, session.peer)
        return number

    def session_ended(self, session: Session, number: int) -> None:
        """Forget a session."""
        with self._lock:
            self._sessions.pop(number, None)
        with contextlib.suppress(psycopg.Error):
            self.history.session_ended(session.id)

    @property
    def connections(self) -> int:
        """Return how many sessions there are now."""
        with self._lock:
            return len(self._sessions)

    def is_superuser(self, user: str) -> bool:
        """Return whether Materialize counts this user among its superusers."""
        return user in self.superusers

    def changed(self) -> None:
        """Look again at what is due and at which relations there are."""
        self.routing.forget()
        self._on_change()

    def time(self) -> float:
        """Return the lab's time in seconds since the epoch."""
        with self._clock_lock:
            row = self._clock.execute("SELECT extract(epoch FROM lab.now())::float8").fetchone()
        if row is None:
            raise GoneError
        return float(row[0])
