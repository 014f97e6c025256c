"""Servers of one folder, and the keeper that ends them when we do."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.servers.errors import ServerDidNotStartError, ServerUnavailableError

_POLL_S = 0.02
_KEEPER = Path(__file__).with_name("keeper.py")
_LAST_LINES = 12


@dataclass(frozen=True)
class User:
    """Whom a server runs as that refuses to be root."""

    uid: int
    gid: int


def not_root() -> User | None:
    """Return somebody harmless where we are root, else None: ourselves will do."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ServerUnavailableError("we are root, and there is no user nobody") from None
    return User(nobody.pw_uid, nobody.pw_gid)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_tree(source: Path, target: Path) -> None:
    """Copy a template; holes stay holes, and blocks are shared where the file system can.

    Raises:
        ServerUnavailableError: It cannot be read, as in a cache of another user, or there is no
            room.
    """
    done = subprocess.run(
        ["cp", "--archive", "--reflink=auto", "--sparse=always", str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServerUnavailableError(f"{source} cannot be copied: {said[-1]}")


class Home:
    """A folder for a server's data, and the processes that run on it.

    The folder goes with `close`, or with this process, and everything that runs in it ends first.
    """

    def __init__(self, prefix: str, user: User | None = None) -> None:
        """Make the folder, `user`'s own."""
        # Not below pytest's folders: as root those are closed to everybody else.
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        self.user = user
        self.folder.chmod(0o755)
        if user is not None:
            os.chown(self.folder, user.uid, user.gid)
        self._lock = threading.Lock()
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def own(self, path: Path) -> None:
        """Give a copied tree to the user that the servers run as."""
        if self.user is not None:
            for each in (path, *path.rglob("*")):
                os.chown(each, self.user.uid, self.user.gid, follow_symlinks=False)

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Let the keeper do something."""
        keeper = self._keeper
        with self._lock:
            if keeper.stdin is None or keeper.stdout is None or keeper.stdin.closed:
                raise ServerDidNotStartError(f"{self.folder} is closed")
            keeper.stdin.write(json.dumps({"what": what, **request}) + "\n")
            keeper.stdin.flush()
            answer: dict[str, Any] = json.loads(keeper.stdout.readline() or "{}")
        if "error" in answer:
            raise ServerDidNotStartError(answer["error"])
        return answer

    def close(self) -> None:
        """End what runs here, and remove the folder."""
        keeper = self._keeper
        for pipe in (keeper.stdin, keeper.stdout):
            if pipe is not None:
                pipe.close()
        keeper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Server:
    """A process in a home: started, killed, started again.

    Attributes:
        name: As people know it: "MySQL".
        ends_with: The signal that ends it when nobody needs its data any more.
        user: Whom it runs as, where not as ourselves.

    """

    home: Home
    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    ends_with: int = signal.SIGKILL
    user: User | None = None
    pid: int = 0

    @property
    def log(self) -> Path:
        """Where everything it says goes."""
        return self.home.folder / f"{self.name.lower()}.log"

    def start(self, is_ready: Callable[[], bool], *, waits_for: str, within_s: float) -> None:
        """Start it and return when it is ready.

        Raises:
            ServerDidNotStartError: It ended, or was not ready in time.

        """
        user = self.user
        self.pid = self.home.ask(
            "start",
            name=self.name,
            command=list(self.command),
            folder=str(self.home.folder),
            environment={"PATH": os.defpath, **self.environment},
            log=str(self.log),
            user=None if user is None else (user.uid, user.gid),
            ends_with=int(self.ends_with),
        )["pid"]
        deadline = time.monotonic() + within_s
        while not is_ready():
            if (code := self.wait(0.0)) is not None:
                raise ServerDidNotStartError(f"{self.name} ended with {code}: {self.said()}")
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                raise ServerDidNotStartError(
                    f"{self.name}: waited {within_s:.0f} s for {waits_for}: {self.said()}"
                )
            time.sleep(_POLL_S)

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        self.home.ask("signal", name=self.name, number=int(number))

    def wait(self, within_s: float) -> int | None:
        """Return its exit code, negative for a signal; None where it still runs."""
        code: int | None = self.home.ask("wait", name=self.name, within_s=within_s)["code"]
        return code

    def kill(self) -> None:
        """Kill -9, and return when it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10.0)

    def said(self) -> str:
        """Return the end of its log, for an error."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"no log: {error}"
        return "\n".join(lines[-_LAST_LINES:])
