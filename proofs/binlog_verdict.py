"""What became of a trail under kills: found out by asking both servers themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pymongo

from caretaker.binlog.history import row_after


@dataclass
class Verdict:
    """What became of one source and protocol; the last six are broken promises.

    Attributes:
        missed: Kills whose moment did not come in time: dealt at another.
        moments: Kills by what the syncer was doing.
        changes: Rows that the source counted as inserted, changed or deleted.
        stored: Documents of rows in the trail.
        largest: Rows of the largest transaction.
    """

    source: str
    protocol: str
    kills: int = 0
    missed: int = 0
    seconds: float = 0.0
    moments: dict[str, int] = field(default_factory=dict)
    changes: int = 0
    stored: int = 0
    largest: int = 0
    lost: int = 0
    doubled: int = 0
    holes: int = 0
    broken_chains: int = 0
    wrong_rows: int = 0
    did_not_end: int = 0

    @property
    def broken(self) -> int:
        """How many promises were."""
        return (
            self.lost
            + self.doubled
            + self.holes
            + self.broken_chains
            + self.wrong_rows
            + self.did_not_end
        )

    def compare(self, source: Any, name: str, mongodb_uri: str) -> None:
        """Hold the trail against the table, row by row and change by change."""
        chains: dict[Any, list[dict[str, Any]]] = {}
        ids: set[bytes] = set()
        expected = 1
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            # Not by way of the trail's own reads: what is there is asked of the server itself.
            for document in client[name]["row_changes"].find().sort("seq", 1):
                self.holes += document["seq"] != expected
                expected = document["seq"] + 1
                self.doubled += document["_id"] in ids
                ids.add(document["_id"])
                if document["op"] in {"i", "u", "d"}:
                    self.stored += 1
                    chains.setdefault(document["meta"]["pk"], []).append(document)
        self.lost = max(self.changes - self.stored, 0)
        self.doubled += max(self.stored - self.changes, 0)
        rows = {key: row_after(chain) for key, chain in chains.items()}
        self.broken_chains = sum(len(row.breaks) for row in rows.values())
        have = {row[0]: row for row in source.ask(f"SELECT id, n, v FROM {name}.t")}  # noqa: S608
        there = {key: tuple(row.columns.values()) for key, row in rows.items() if row.exists}
        self.wrong_rows = sum(there.get(key) != have.get(key) for key in have.keys() | there)

    def told(self) -> str:
        """Return it for people."""
        moments = ", ".join(f"{count} {moment}" for moment, count in sorted(self.moments.items()))
        return (
            f"{self.source}, {self.protocol}: {self.kills} kills in {self.seconds:.0f} s"
            f" ({moments}; {self.missed} missed their moment);"
            f" {self.changes:,} changes in transactions of up to {self.largest:,} rows,"
            f" {self.stored:,} documents: lost {self.lost}, doubled {self.doubled}, holes"
            f" {self.holes}, broken chains {self.broken_chains}, wrong rows {self.wrong_rows},"
            f" did not end {self.did_not_end}{'  BROKEN' if self.broken else ''}"
        )
