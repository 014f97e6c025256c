"""Who we are, and whether another process is still there."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

from caretaker.translog.model import Owner

_PROC = Path("/proc")


def owner_of_run(run_id: str, pid: int) -> Owner:
    """Return the owner record of a run whose worker is process `pid` on this host."""
    return Owner(run_id=run_id, host=socket.gethostname(), pid=pid, boot_id=_incarnation(pid))


def is_here(owner: Owner) -> bool:
    """Whether the owner's pid means the same process here as it did there.

    A host name does not say so: containers and cloned machines share one. Where the boot or the
    pid namespace differs the pid is another's, or of a boot that is over; which, cannot be told.
    """
    if owner.host != socket.gethostname():
        return False
    return not owner.boot_id or owner.boot_id.rpartition("/")[0] == _place()


def is_alive(owner: Owner) -> bool | None:
    """Whether the owner's very process exists, not one that was given its pid later.

    None where this system cannot tell: something has the pid, and /proc does not show what, as
    with hidepid.
    """
    now = _incarnation(owner.pid)
    if owner.boot_id and now:
        return owner.boot_id == now
    if not pid_exists(owner.pid):
        return False
    return None if owner.boot_id else True


def pid_exists(pid: int) -> bool:
    """Whether any process has this pid; a zombie that nobody has reaped yet does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def _incarnation(pid: int) -> str:
    """Return where a process runs and its start time, or '' where there is none or no /proc.

    A pid alone is not enough: after a reboot or a day of work another process carries it.
    """
    fields = _stat(pid)
    if not fields or fields[0] == "Z":
        return ""
    return f"{_place()}/{fields[19]}"


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    # The command name stands in parentheses and may itself contain blanks and parentheses.
    return text.rpartition(")")[2].split()


@cache
def _place() -> str:
    """Return within what a pid is unique: this boot of this machine, and the pid namespace."""
    try:
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot_id}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""
