"""PostgreSQL 18 with the DocumentDB extension: the engine below a MongoDB with transactions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from lab.servers.cache import once
from lab.servers.debian import Root, unpacked
from lab.servers.errors import ServerDidNotStartError
from lab.servers.process import Home, Server, copy_tree, free_port, not_root
from lab.supervisor import descendants

_BIN = "usr/lib/postgresql/18/bin"
_EXTENSIONS = "usr/share/postgresql/18/extension"
_TEMPLATE = "documentdb-pg18-data"
_READY_WITHIN_S = 60.0
_PREPARED_WITHIN_S = 120
_ENDS_WITHIN_S = 30.0
_NOTICES_WITHIN_S = 5.0

#: MongoDB looks once a minute; nobody wants to wait that long for a test of ours.
_SWEEP = (
    "SELECT cron.schedule('ttl', '2 seconds', 'CALL documentdb_api_internal.delete_expired_rows()')"
)

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_preload_libraries": "pg_cron,pg_documentdb_core,pg_documentdb",
    "cron.database_name": "postgres",
    "cron.use_background_workers": "on",
    "cron.log_run": "off",
    "max_worker_processes": "16",
    "max_connections": "300",
    # Shared memory of the system would stay behind after a kill -9.
    "dynamic_shared_memory_type": "mmap",
    "documentdb_core.enableCollation": "on",
    # The host's time zones may not be there.
    "timezone": "GMT",
    "log_timezone": "GMT",
    "lc_messages": "C",
}


class DocumentDB:
    """A cluster with fresh data that trusts whoever reaches loopback."""

    def __init__(self, *, fsync: bool = False) -> None:
        """Take the template's copy; nothing runs yet.

        Raises:
            ServerUnavailableError: This machine cannot have it.

        """
        self._root = _unpack()
        template = once(_TEMPLATE, _prepare)
        self.home = Home("caretaker-mongodb-", not_root())
        self.port = free_port()
        self._fsync = fsync
        copy_tree(template, self._data)
        self.home.own(self._data)
        self._server = _server(self.home, self._root, self._data, self.port, fsync=fsync)

    @property
    def _data(self) -> Path:
        return self.home.folder / "data"

    @property
    def dsn(self) -> str:
        """Where it listens."""
        return _dsn(self.port)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return self._server.pid

    @property
    def log(self) -> Path:
        """Everything it says."""
        return self._server.log

    def start(self) -> None:
        """Start it and return when it answers; again after `kill`, on the same data and port."""
        _start(self._server, self.port)

    def kill(self) -> None:
        """Kill -9 the postmaster; its other processes notice, and end, or are killed, too."""
        below = descendants(self.pid)
        self._server.kill()
        deadline = time.monotonic() + _NOTICES_WITHIN_S
        while below and time.monotonic() < deadline:
            time.sleep(0.05)
            below = {pid for pid in below if Path(f"/proc/{pid}").exists()}
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def shut_down(self) -> None:
        """Let it end as an operator would; its data stay."""
        self._server.signal(signal.SIGINT)
        if self._server.wait(_ENDS_WITHIN_S) is None:
            raise ServerDidNotStartError(f"PostgreSQL did not end within {_ENDS_WITHIN_S:.0f} s")


def _unpack() -> Root:
    return unpacked(
        "documentdb-pg18",
        ["postgresql-18-documentdb"],
        ["testing", "sid"],
        _finish,
    )


def _finish(root: Root) -> None:
    # initdb starts it.
    root.wrap(f"{_BIN}/postgres")
    (root.path / _EXTENSIONS / "postgis.control").symlink_to("postgis-3.control")


def _prepare(folder: Path) -> None:
    """Fill the template: a cluster in which the extension has been made."""
    root = _unpack()
    home = Home("caretaker-mongodb-", not_root())
    try:
        data = home.folder / "data"
        maker = Server(
            home,
            "initdb",
            [
                *root.run(f"{_BIN}/initdb"),
                f"--pgdata={data}",
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ],
            {"LC_ALL": "C", "TZ": "GMT"},
            user=home.user,
        )
        maker.start(
            lambda: maker.wait(_PREPARED_WITHIN_S) == 0,
            waits_for="a cluster",
            within_s=_PREPARED_WITHIN_S,
        )
        port = free_port()
        server = _server(home, root, data, port, fsync=False)
        _start(server, port)
        with psycopg.connect(_dsn(port), autocommit=True) as connection:
            connection.execute("SET client_min_messages = error")
            connection.execute("CREATE EXTENSION documentdb CASCADE")
            connection.execute(_SWEEP)
        server.signal(signal.SIGINT)
        if server.wait(_ENDS_WITHIN_S) != 0:
            raise ServerDidNotStartError(f"PostgreSQL did not end well: {server.said()}")
        for each in data.iterdir():
            subprocess.run(["cp", "--archive", str(each), str(folder)], check=True, timeout=60)
        folder.chmod(0o700)
    finally:
        home.close()


def _server(home: Home, root: Root, data: Path, port: int, *, fsync: bool) -> Server:
    settings = {
        **_SETTINGS,
        "port": str(port),
        "unix_socket_directories": str(home.folder),
        "fsync": "on" if fsync else "off",
    }
    return Server(
        home,
        "PostgreSQL",
        [
            str(root.path / _BIN / "postgres"),
            f"-D{data}",
            *(f"-c{name}={value}" for name, value in settings.items()),
        ],
        {"LC_ALL": "C"},
        ends_with=signal.SIGQUIT,  # "at once": it takes its other processes with it
        user=home.user,
    )


def _start(server: Server, port: int) -> None:
    # Processes of one that was killed hold its shared memory until they notice.
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            server.start(
                lambda: _answers(port),
                waits_for=f"PostgreSQL on port {port}",
                within_s=_READY_WITHIN_S,
            )
        except ServerDidNotStartError as error:
            if "pre-existing shared memory" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _answers(port: int) -> bool:
    try:
        with psycopg.connect(_dsn(port), connect_timeout=5) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
