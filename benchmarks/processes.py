"""What processes took: processor seconds of a tree, memory and open files of one; from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from lab.supervisor import descendants

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
#: Of /proc/PID/stat behind the command: own and waited-for children's, user and system.
_TIMES = slice(11, 15)


def processor_seconds(pids: Iterable[int]) -> float:
    """Return what these processes and all below them have taken so far, ended ones included."""
    ticks = 0
    for pid in {each for top in pids for each in (top, *descendants(top))}:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
            ticks += sum(map(int, stat.split()[_TIMES]))
    return ticks / _TICKS_A_SECOND


def memory_mb(pid: int) -> float:
    """Return what a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(pid: int) -> int:
    """Return how many file descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
