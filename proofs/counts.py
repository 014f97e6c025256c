"""What a proof has counted, as a table for people and as JSON for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from proofs.trial import By, Verdict

#: Columns: a field of `Row`, and its heading.
_COLUMNS = {
    "trials": "trials",
    "kills": "killed",
    "stops": "stopped",
    "missed": "ended first",
    "at_zero": "at 0 then",
    "by_sensor": "by sensor",
    "by_resume": "by --resume",
    "nothing_owed": "nothing owed",
    "wrong_text": "wrong text",
    "late_ticket": "ticket late",
    "zombie": "zombie sent",
    "left_open": "left open",
    "foreign": "foreign SET",
    "crowded": "too many at 0",
    "hung": "hung",
}
_INVARIANTS = ("wrong_text", "late_ticket", "zombie", "left_open", "foreign", "crowded", "hung")


@dataclass
class Row:
    """Counts of one kind of trial; the last seven are broken promises."""

    trials: int = 0
    kills: int = 0
    stops: int = 0
    missed: int = 0
    at_zero: int = 0
    by_sensor: int = 0
    by_resume: int = 0
    nothing_owed: int = 0
    wrong_text: int = 0
    late_ticket: int = 0
    zombie: int = 0
    left_open: int = 0
    foreign: int = 0
    crowded: int = 0
    hung: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count a trial."""
        self.trials += 1
        self.kills += verdict.kills
        self.stops += verdict.stops
        self.missed += verdict.missed
        self.at_zero += verdict.at_zero
        self.by_sensor += verdict.recoveries[By.SENSOR]
        self.by_resume += verdict.recoveries[By.RESUME]
        self.nothing_owed += not verdict.owed
        for name in _INVARIANTS:
            setattr(self, name, getattr(self, name) + len(getattr(verdict.broken, name)))

    def broken(self) -> int:
        """How many promises were."""
        return sum(getattr(self, name) for name in _INVARIANTS)


@dataclass
class Counts:
    """Rows by kind of trial, in the order in which kinds were first met."""

    rows: dict[str, Row] = field(default_factory=dict)
    #: Seconds from the kill until the table had its replicas back, where that was measured.
    back_after_s: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, verdict: Verdict) -> None:
        """Count a trial."""
        self.rows.setdefault(kind, Row()).add(verdict)
        if verdict.back_after_s is not None:
            self.back_after_s.setdefault(kind, []).append(round(verdict.back_after_s, 1))

    @property
    def total(self) -> Row:
        """The sum of all rows."""
        total = Row()
        for row in self.rows.values():
            for name in _COLUMNS:
                setattr(total, name, getattr(total, name) + getattr(row, name))
        return total

    def table(self) -> str:
        """Return it for a terminal, a kind a line."""
        lines = [["", *_COLUMNS.values()]]
        for kind, row in {**self.rows, "all": self.total}.items():
            lines.append([kind, *(str(getattr(row, name)) for name in _COLUMNS)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def waits(self) -> str:
        """Return a line for each kind whose way back was timed."""
        return "\n".join(
            f"{kind}: the table is back after {', '.join(map(str, seconds))} s"
            for kind, seconds in self.back_after_s.items()
        )

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        rows = {kind: asdict(row) for kind, row in {**self.rows, "all": self.total}.items()}
        return {**rows, "back_after_s": self.back_after_s}
