"""How a trial of a restart went, and what many of them add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

#: Columns of the table, and their headings.
_COLUMNS = {
    "trials": "trials",
    "kills": "killed",
    "missed": "ended first",
    "takeovers": "taken over",
    "anew": "begun anew",
    "restarted": "pods restarted",
    "in_place": "in place",
    "settings": "settings wrong",
    "twice": "restarted twice",
    "two_down": "two down",
    "missing": "shards missing",
    "left_open": "left open",
    "incomplete": "not completed",
    "hung": "hung",
}
_PROMISES = ("settings", "twice", "two_down", "missing", "left_open", "incomplete", "hung")


@dataclass
class Verdict:
    """One trial; each promise has a sentence for every time it was broken.

    Attributes:
        kills, missed: Runs that died of the blow, and those that had ended before it.
        takeovers, anew: Runs that took over a ticket, and those that began again without one.
        stood: The state of the pod under way at each kill; "no ticket" before and after.
    """

    kind: str
    about: str
    kills: int = 0
    missed: int = 0
    takeovers: int = 0
    anew: int = 0
    restarted: int = 0
    in_place: int = 0
    stood: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    two_down: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)

    def broken(self) -> list[str]:
        """Return every sentence."""
        return [f"{name}: {what}" for name in _PROMISES for what in getattr(self, name)]


@dataclass
class Counts:
    """Verdicts by kind of trial, in the order in which kinds were first met."""

    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    stood: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count a trial."""
        row = self.rows.setdefault(verdict.kind, dict.fromkeys(_COLUMNS, 0))
        row["trials"] += 1
        for name in list(_COLUMNS)[1:]:
            found = getattr(verdict, name)
            row[name] += len(found) if name in _PROMISES else found
        self.stood.update(verdict.stood)

    @property
    def total(self) -> dict[str, int]:
        """The sum of all rows."""
        return {name: sum(row[name] for row in self.rows.values()) for name in _COLUMNS}

    @property
    def broken(self) -> int:
        """How many promises were."""
        return sum(self.total[name] for name in _PROMISES)

    def table(self) -> str:
        """Return it for a terminal, a kind a line."""
        lines = [["", *_COLUMNS.values()]]
        for kind, row in {**self.rows, "all": self.total}.items():
            lines.append([kind, *(str(row[name]) for name in _COLUMNS)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def where(self) -> str:
        """Return how the pods under way stood when their runs were killed."""
        return ", ".join(f"{state} {count}" for state, count in self.stood.most_common())

    def verdict(self) -> str:
        """Return the closing line."""
        total = self.total
        if self.broken:
            return f"BROKEN: {self.broken} promises in {total['trials']} trials"
        return (
            f"KEPT: {total['trials']} trials, {total['kills']} kills, {total['restarted']} pods "
            "restarted once each, one at a time; settings as before, no ticket open"
        )

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**self.rows, "all": self.total, "stood": dict(self.stood)}


def sentence(verdict: Verdict) -> str:
    """Return one trial for a log."""
    found = {key: value for key, value in asdict(verdict).items() if value}
    return ", ".join(f"{key}={value}" for key, value in found.items())
