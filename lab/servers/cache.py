"""What is fetched or prepared once and then used by every process: unpacked servers, templates."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.servers.errors import ServerUnavailableError

_LOCKED_FOR_AT_MOST_S = 900.0
_POLL_S = 0.2


def cache_folder() -> Path:
    """Return the folder that all processes of this user share.

    `CARETAKER_SERVER_CACHE`, else caretaker/servers below `XDG_CACHE_HOME` or ~/.cache. Servers
    that refuse to be root run as somebody else, who cannot enter root's home: root's is in
    /var/cache unless that variable says otherwise.
    """
    if given := os.environ.get("CARETAKER_SERVER_CACHE"):
        return Path(given).absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if os.geteuid() == 0 and not _others_may_enter(home):
        home = Path("/var/cache")
    return home / "caretaker" / "servers"


def once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached folder `name`; where it is missing, `make` fills it first.

    Whoever comes meanwhile waits. `make` is given an empty folder that gets its name only when it
    is complete, so that one half made is never used.
    """
    folder = cache_folder()
    wanted = folder / name
    if wanted.is_dir():
        return wanted
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{name}.lock").open("a")
    except OSError as error:
        raise ServerUnavailableError(f"no cache in {folder}: {error.strerror}") from error
    with lock, _held(lock.fileno(), name):
        if not wanted.is_dir():
            half = folder / f"{name}.half"
            # Whoever left it is dead, or would hold the lock.
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(mode=0o755)
            try:
                make(half)
                half.rename(wanted)
            finally:
                shutil.rmtree(half, ignore_errors=True)
    return wanted


@contextlib.contextmanager
def _held(descriptor: int, name: str) -> Iterator[None]:
    """Hold the lock; the kernel lets go of it with the process."""
    deadline = time.monotonic() + _LOCKED_FOR_AT_MOST_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ServerUnavailableError(
                    f"another process has been preparing {name} for {_LOCKED_FOR_AT_MOST_S:.0f} s"
                ) from None
            time.sleep(_POLL_S)
        else:
            break
    yield


def _others_may_enter(folder: Path) -> bool:
    return all(
        not part.exists() or part.stat().st_mode & 0o001 for part in (folder, *folder.parents)
    )
