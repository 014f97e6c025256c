"""The book of everything the lab was asked, and of every table that stood at zero replicas."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.cratedb.model import Relation, Table

_ZERO = {"0", "0-0"}


@dataclass(slots=True)
class Entry:
    """A statement received: `applied` says whether it took effect, whatever was answered."""

    at: float
    node: str
    user: str
    stmt: str
    args: list[Any] | None
    status: int | None = None
    code: int | None = None
    applied: bool = False
    #: Action.LATE: its delay has begun, so who moves the clock now moves it towards its effect.
    delayed: bool = False

    def shown(self) -> dict[str, Any]:
        """Return it for the control API."""
        return {
            "at": self.at,
            "node": self.node,
            "user": self.user,
            "stmt": self.stmt,
            "args": self.args,
            "status": self.status,
            "code": self.code,
            "applied": self.applied,
        }


class Journal:
    """Entries in the order of their arrival; safe to read while statements arrive."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> Entry:
        """Append an entry; its outcome is filled in later."""
        with self._lock:
            self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget everything so far."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        """Return how many statements have arrived."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Yield a copy of the entries as they were when asked."""
        with self._lock:
            return iter(list(self._entries))

    def __getitem__(self, index: int | slice) -> Any:
        """Return one entry, or some."""
        with self._lock:
            return self._entries[index]


class ZeroLedger:
    """Who is at zero replicas and was not before, since when, and for how long others were."""

    def __init__(self) -> None:
        """Start with nobody at zero."""
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._templates: set[str] = set()
        self._spells: dict[str, list[float]] = {}
        self.most = 0

    def note(self, what: Relation | Table, before: str) -> None:
        """Take in a change of number_of_replicas."""
        name = what.name if isinstance(what, Relation) else what.full_name
        at_zero = what.replicas in _ZERO
        with self._lock:
            if at_zero and before not in _ZERO:
                self._since.setdefault(name, time.monotonic())
                if isinstance(what, Table):
                    self._templates.add(name)
                self.most = max(self.most, len(self._since.keys() - self._templates))
            elif not at_zero and name in self._since:
                spell = time.monotonic() - self._since.pop(name)
                self._spells.setdefault(name, []).append(spell)

    def forget(self, name: str) -> None:
        """Drop a table that is no more."""
        with self._lock:
            for known in [k for k in self._since if k == name or k.startswith(f"{name}.")]:
                del self._since[known]

    def now(self) -> list[str]:
        """Return the names of those at zero now, partitions as `schema.table.ident`."""
        with self._lock:
            return sorted(self._since)

    def seconds(self) -> dict[str, list[float]]:
        """Return every spell at zero in real seconds, those that still last included."""
        with self._lock:
            out = {name: list(spells) for name, spells in self._spells.items()}
            for name, since in self._since.items():
                out.setdefault(name, []).append(time.monotonic() - since)
            return out
