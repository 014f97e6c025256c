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
    """Whether the owner's pid is a pid of this host."""
    return owner.host == socket.gethostname()


def is_alive(owner: Owner) -> bool | None:
    """Whether the owner's very process exists, not one that was given its pid later.

    None where this system cannot tell (no /proc and the pid is in use by somebody else).
    """
    if owner.boot_id and _incarnation(owner.pid):
        return owner.boot_id == _incarnation(owner.pid)
    if _PROC.is_dir() and owner.boot_id:
        return False
    return True if pid_exists(owner.pid) else False if owner.boot_id == "" else None


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
    """Return boot id and start time of a process, or '' where there is none or no /proc.

    A pid alone is not enough: after a reboot or a day of work another process carries it.
    """
    fields = _stat(pid)
    if not fields or fields[0] == "Z":
        return ""
    return f"{_boot_id()}/{fields[19]}"


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
def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
