"""LabMaterialize: an environment on loopback, made to be watched, broken and asked about."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Self

import psycopg

from lab.faults import Faults
from lab.materialize import catalog, schema
from lab.materialize.breaking import Breaking
from lab.materialize.history import History
from lab.materialize.journal import Journal
from lab.materialize.making import Making
from lab.materialize.postgres import SHARED, EmbeddedPostgres
from lab.materialize.server import Server
from lab.materialize.settings import SYSTEM
from lab.materialize.sizes import EMULATOR, Size

#: A second look at what is due even where nothing seems to be, in real seconds.
_AT_MOST_S = 1.0


class LabMaterialize(Making, Breaking):
    """An environment with the clusters a new one has: `quickstart` and Materialize's own.

    Clients connect to `url` and speak to it as to Materialize. `boot_s`, `hydrate_s` and
    `restart_s` are seconds of the lab's own time: until a replica is online, until what it must
    hold is hydrated on one worker (more workers are faster; down to a tenth), and from a crash
    until it is online again. `speed` is how many of them pass in a real second; 0 stands still.
    """

    def __init__(
        self,
        *,
        boot_s: float = 2.0,
        hydrate_s: float = 5.0,
        restart_s: float = 2.0,
        speed: float = 1.0,
        port: int = 0,
        version: str = SYSTEM["version"],
        sizes: Iterable[Size] = EMULATOR,
        statement_logging: bool = True,
        rbac: bool = False,
        newer: bool = False,
        keep: bool = True,
    ) -> None:
        """Describe the environment; `start` or `with` brings it up.

        `newer`: with the relations of servers of 2026's second half. `keep`: leave the PostgreSQL
        underneath running for the next lab of this process.
        """
        self._settings = {
            **SYSTEM,
            "boot_s": str(boot_s),
            "hydrate_s": str(hydrate_s),
            "restart_s": str(restart_s),
            "version": version,
            "rbac": "on" if rbac else "off",
        }
        self._sizes = list(sizes)
        self._speed = speed
        self._port = port
        self._logging = statement_logging
        self._newer = newer
        self._keep = keep
        self.journal = Journal()
        self._stop = threading.Event()
        self._due = threading.Event()
        self._lock = threading.RLock()
        self._heart: threading.Thread | None = None
        self._database = ""
        #: What is underneath; labs of one process share it.
        self.postgres: EmbeddedPostgres
        self._server: Server
        self._admin: psycopg.Connection

    # --- life -----------------------------------------------------------------------------

    def start(self) -> Self:
        """Serve; raises OSError where the port is taken."""
        self.postgres, self._database = postgres, _ = SHARED.acquire()
        try:
            self._admin = postgres.admin(self._database)
            self._furnish()
            self._server = Server(
                postgres, self._database, lambda: postgres.admin(self._database),
                version=self._settings["version"], journal=self.journal, on_change=self._due.set,
            )  # fmt: skip
            self._server.history.logging = self._logging
            self.create_user("materialize", superuser=True)
            self.create_user("mz_system", superuser=True)
            self._server.listen(self._port)
        except BaseException:
            SHARED.release(self._database, keep=self._keep)
            self._database = ""
            raise
        self._heart = threading.Thread(target=self._beat, name="lab-mz-clock", daemon=True)
        self._heart.start()
        return self

    def stop(self) -> None:
        """Close every socket and let the catalog go."""
        self._stop.set()
        self._due.set()
        if not self._database:
            return
        self._server.stop()
        if self._heart is not None:
            self._heart.join(5.0)
        self._admin.close()
        SHARED.release(self._database, keep=self._keep)
        self._database = ""

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _furnish(self) -> None:
        execute = self._admin.execute
        execute("INSERT INTO lab.clock VALUES (true, clock_timestamp(), clock_timestamp(), %s)",
                (self._speed,))  # fmt: skip
        for name, value in self._settings.items():
            execute("INSERT INTO lab.settings VALUES (%s, %s)", (name, value))
        for size in self._sizes:
            self._add_size(size)
        if self._newer:
            for name, spec in catalog.NEWER.items():
                execute(catalog.create(name, spec).encode())
                execute(f"GRANT SELECT ON {name} TO PUBLIC".encode())
        schema.populate(self._admin)

    def _beat(self) -> None:
        """Live through what falls due, when it does."""
        wait: float | None = 0.0
        while not self._stop.is_set():
            self._due.wait(_AT_MOST_S if wait is None else min(wait, _AT_MOST_S))
            self._due.clear()
            if self._stop.is_set():
                return
            wait = self._live()

    def _live(self) -> float | None:
        with self._lock:
            row = self._admin.execute("SELECT lab.live()").fetchone()
        return None if row is None or row[0] is None else float(row[0])

    # --- where it is ----------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """Return the URL that a client connects to, as the user `materialize`."""
        return self.url_for("materialize")

    def url_for(self, user: str, password: str | None = None) -> str:
        """Return the URL for another user."""
        secret = f":{password}" if password is not None else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/materialize"

    @property
    def faults(self) -> Faults:
        """Return the rules in force; `Fault.match` sees the statement as the client sent it."""
        return self._server.faults

    @property
    def history(self) -> History:
        """Return what writes the statement history."""
        return self._server.history

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return self._server.connections

    # --- the server's own settings --------------------------------------------------------

    def set_system(self, **settings: str | float) -> None:
        """Set limits: max_replicas_per_cluster, max_credit_consumption_rate, rbac, boot_s, ..."""
        unknown = settings.keys() - SYSTEM.keys()
        if unknown:
            raise KeyError(f"no setting {', '.join(sorted(unknown))}; known: {', '.join(SYSTEM)}")
        for name, value in settings.items():
            self.sql("UPDATE lab.settings SET value = %s WHERE name = %s", (str(value), name))

    @property
    def statement_logging(self) -> bool:
        """Return whether statements are written to the history."""
        return self._server.history.logging

    @statement_logging.setter
    def statement_logging(self, value: bool) -> None:
        self._server.history.logging = value

    def drop_relation(self, name: str) -> None:
        """Be a version that lacks this relation: `mz_internal.mz_hydration_statuses`."""
        kind = "VIEW" if self.sql(
            "SELECT 1 FROM pg_class WHERE oid = %s::regclass AND relkind = 'v'", (name,)
        ) else "TABLE"  # fmt: skip
        self.sql(f"ALTER {kind} {name} SET SCHEMA lab")

    def restore_relation(self, name: str) -> None:
        """Have a relation again that `drop_relation` took away."""
        where, _, plain = name.partition(".")
        kind = "VIEW" if self.sql(
            "SELECT 1 FROM pg_class WHERE oid = %s::regclass AND relkind = 'v'", (f"lab.{plain}",)
        ) else "TABLE"  # fmt: skip
        self.sql(f"ALTER {kind} lab.{plain} SET SCHEMA {where}")

    # --- the clock ------------------------------------------------------------------------

    def now(self) -> float:
        """Return the lab's time, seconds since the epoch; `now()` in a query is the same."""
        return float(self.sql("SELECT extract(epoch FROM lab.now())::float8")[0][0])

    @property
    def speed(self) -> float:
        """Return how many of the lab's seconds pass in a real one."""
        return float(self.sql("SELECT speed FROM lab.clock")[0][0])

    @speed.setter
    def speed(self, value: float) -> None:
        self.sql(
            "UPDATE lab.clock SET base = lab.now(), since = clock_timestamp(), speed = %s", (value,)
        )
        self._due.set()

    def advance(self, seconds: float) -> None:
        """Push the clock forward, and live through all that falls due on the way, in its order."""
        self.sql("UPDATE lab.clock SET base = base + lab.seconds(%s::float8)", (max(0.0, seconds),))
        self._live()
