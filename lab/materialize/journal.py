"""The book of every statement that reached the lab."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Entry:
    """A statement received: `applied` says whether it took effect, whatever was answered."""

    at: float
    node: str
    user: str
    stmt: str
    application: str = ""
    cluster: str = ""
    tag: str | None = None
    code: str | None = None
    applied: bool = False
    #: When it came, in the lab's time.
    lab_at: float = 0.0

    def shown(self) -> dict[str, Any]:
        """Return it for the control API."""
        return asdict(self)


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
        """Yield the entries as they were when asked."""
        with self._lock:
            return iter(list(self._entries))

    def __getitem__(self, index: int | slice) -> Any:
        """Return one entry, or some."""
        with self._lock:
            return self._entries[index]
