"""What MySQL and MariaDB have in common: a daemon on a copy of a template, and how to reach it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import pymysql

from lab.servers.cache import once
from lab.servers.debian import Root
from lab.servers.errors import ServerDidNotStartError
from lab.servers.process import Home, Server, copy_tree, free_port
from lab.servers.sql import Sql

#: What a server variable may be set to; False is OFF, None is `--skip-...`.
Option = str | int | bool | None

#: A throw-away server on loopback; the second may what the audit trail's reader must, and no more.
ADMIN, READER, PASSWORD = "root", "caretaker", "caretaker"
USERS = (
    # MariaDB's scripts make it, with no password.
    f"DROP USER IF EXISTS {ADMIN}@'127.0.0.1'",
    *(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'" for name in (ADMIN, READER)),
    f"GRANT ALL ON *.* TO {ADMIN}@'127.0.0.1' WITH GRANT OPTION",
    f"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {READER}@'127.0.0.1'",
)

_READY_WITHIN_S = 60.0
_ENDS_WITHIN_S = 60.0
_PREPARED_WITHIN_S = 300
_ADDRESS_IN_USE = "Address already in use"


class Mysqld(Sql, ABC):
    """A server with fresh data, its binary log on, for whoever may reach loopback.

    Keyword arguments are server variables (`gtid_mode="OFF"`, `sync_binlog=1`). The commits of a
    killed server are kept; against a power cut only with `sync_binlog=1` and
    `innodb_flush_log_at_trx_commit=1`.
    """

    name: ClassVar[str]
    #: Of its template in the cache; another name where the recipe changes.
    template: ClassVar[str]
    program: ClassVar[str]
    defaults: ClassVar[dict[str, Option]]

    def __init__(self, **options: Option) -> None:
        """Take the template's copy; nothing runs yet.

        Raises:
            ServerUnavailableError: This machine cannot have it.

        """
        super().__init__("")
        self.root = self.unpack()
        template = once(self.template, self._prepare)
        self.port = free_port()
        self._options: dict[str, Option] = {**self.defaults, **options}
        self._home = Home(f"caretaker-{self.name.lower()}-")
        copy_tree(template, self.data)
        self._server = Server(self._home, self.name, [])
        # From then on somebody may know the port.
        self._was_up = False

    @classmethod
    @abstractmethod
    def unpack(cls) -> Root:
        """Return its packages' tree."""

    @abstractmethod
    def fill(self, data: Path) -> None:
        """Make the template's data directory."""

    @property
    def data(self) -> Path:
        """The data directory; binary logs are in it."""
        return self._home.folder / "data"

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        return self._server.pid

    @property
    def log(self) -> Path:
        """The error log."""
        return self._server.log

    @property
    def url(self) -> str:
        """As `MYSQL_URL` wants it, for a user who may do everything."""
        return f"mysql://{ADMIN}:{PASSWORD}@127.0.0.1:{self.port}/"

    @property
    def reader_url(self) -> str:
        """The same for a user who may read, and read the binary log."""
        return f"mysql://{READER}:{PASSWORD}@127.0.0.1:{self.port}/"

    def start(self) -> Self:
        """Start it and return when it answers."""
        for last_try in (False, False, True):
            try:
                self._start()
            except ServerDidNotStartError as error:
                # Somebody else got the port between our look and now.
                if last_try or self._was_up or _ADDRESS_IN_USE not in str(error):
                    raise
                self.port = free_port()
            else:
                break
        self._was_up = True
        return self

    def restart(self, **options: Option) -> Self:
        """Start it again on the same data and port, with these variables changed."""
        if self._server.wait(0.0) is None:
            self.shut_down()
        self._options |= options
        return self.start()

    def kill(self) -> None:
        """Kill -9."""
        self._server.kill()

    def shut_down(self) -> None:
        """Let it end as an operator would; its data stay for `restart`."""
        self._server.signal(signal.SIGTERM)
        if self._server.wait(_ENDS_WITHIN_S) is None:
            self._server.kill()
            raise ServerDidNotStartError(f"{self.name} did not end within {_ENDS_WITHIN_S:.0f} s")

    def close(self) -> None:
        """End it, and remove its data."""
        self._home.close()

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        """End it, and remove its data."""
        self.close()

    def command(self, data: Path, *, bootstrap: bool = False) -> list[str]:
        """Return how to start the program on a data directory, without options of one's own."""
        files = self.root.path / "usr"
        return [
            *self.root.run(self.program),
            "--no-defaults",
            f"--datadir={data}",
            f"--basedir={files}",
            f"--lc-messages-dir={files}/share/mysql",
            f"--character-sets-dir={files}/share/mysql/charsets",
            f"--plugin-dir={files}/lib/mysql/plugin",
            *(["--user=root"] if os.geteuid() == 0 else []),
            *(["--skip-log-bin"] if bootstrap else []),
        ]

    def run_once(self, command: list[str], statements: str = "") -> None:
        """Run the program to its end, for the template."""
        done = subprocess.run(
            command,
            input=statements,
            capture_output=True,
            text=True,
            timeout=_PREPARED_WITHIN_S,
            check=False,
        )
        if done.returncode:
            raise ServerDidNotStartError(
                f"{self.name} did not prepare its data: {done.stderr.strip()[-2000:]}"
            )

    def _prepare(self, folder: Path) -> None:
        # Data directories want to be made by the server.
        self.fill(folder / "data")
        for each in (folder / "data").iterdir():
            shutil.move(each, folder / each.name)
        (folder / "data").rmdir()

    def _start(self) -> None:
        folder = self._home.folder
        self._server.command = [
            *self.command(self.data),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder / 'sock'}",
            f"--pid-file={folder / 'pid'}",
            f"--tmpdir={folder}",
            *(_flag(name, value) for name, value in self._options.items()),
        ]
        self._server.start(
            self._answers, waits_for=f"a greeting on port {self.port}", within_s=_READY_WITHIN_S
        )

    def _answers(self) -> bool:
        try:
            self.connect(connect_timeout=5).close()
        except (pymysql.err.OperationalError, OSError):
            return False
        return True


def _flag(name: str, value: Option) -> str:
    if value is None:
        return f"--skip-{name}"
    if isinstance(value, bool):
        return f"--{name}={'ON' if value else 'OFF'}"
    return f"--{name}={value}"
