"""The tables that a trial begins with, and the options of its runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.cratedb import LabCrateDB

#: Waits short enough to be killed in a thousand times; all else is what an operator gets.
SHORT_WAITS: dict[str, Any] = {
    "settle_s": 0.3,
    "restore_timeout_s": 10.0,
    "verify_timeout_s": 5.0,
}
RESET: dict[str, Any] = {**SHORT_WAITS, "wait_ladder_s": [0.05, 0.1], "max_wait_s": 5.0}

_GREEN_WITHIN_S = 10.0

#: (schema, table, values of its partition): how the lab, a statement and a ticket name the same.
Key = tuple[str, str, tuple[Any, ...]]


@dataclass(frozen=True)
class Scene:
    """What stands in the cluster.

    Attributes:
        make: Makes the tables, and returns the text of `number_of_replicas` of each.
        options: Of the reset, beside the short waits.
    """

    name: str
    make: Callable[[LabCrateDB], dict[Key, str]]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def concurrent(self) -> int:
        """How many tables may be at 0 at one moment."""
        return int(self.options.get("concurrent", 1))


def laboratory() -> LabCrateDB:
    """Return three nodes that recover, and forget leases, in a moment."""
    return LabCrateDB(nodes=3, recovery_s=0.04, lease_tick_s=0.3)


def single(text: str) -> Scene:
    """One table with this text."""
    return Scene(f"one table at '{text}'", lambda lab: _tables(lab, [text]))


def stuck(lab: LabCrateDB) -> dict[Key, str]:
    """One table whose leases never clear: it stays at 0 until somebody gives up waiting."""
    lab.table("doc.t0", sick_mb=1300, shards=2, replicas="0-all", leases_stuck=True)
    return {("doc", "t0", ()): "0-all"}


def _tables(lab: LabCrateDB, texts: list[str]) -> dict[Key, str]:
    promised: dict[Key, str] = {}
    for number, text in enumerate(texts):
        name = f"t{number}"
        # The first is the worst, and so the first to be reset.
        lab.table(f"doc.{name}", sick_mb=1300 - number, shards=2, replicas=text)
        promised["doc", name, ()] = text
    return promised


def _every_text(lab: LabCrateDB) -> dict[Key, str]:
    return {**_tables(lab, ["0-1", "2", "0-all", "1-all"]), **_parted(lab)}


def _parted(lab: LabCrateDB) -> dict[Key, str]:
    """A table whose sick partition has a text of its own, beside one that has the table's."""
    columns = [("region", "text"), ("n", "integer")]
    own, other = {"region": 'it\'s "eu"', "n": 1}, {"region": "us", "n": 2}
    table = lab.table(
        "doc.parted",
        shards=1,
        replicas="1",
        partitioned_by=columns,
        partitions=[own, other],
        sick_mb=0,
    )
    partition = table.partition(own)
    partition.set_replicas("0-2")
    _await_green(lab)
    partition.make_sick(1250)
    return {
        ("doc", "parted", ('it\'s "eu"', 1)): "0-2",
        ("doc", "parted", ("us", 2)): "1",
        ("doc", "parted", ()): "1",
    }


def _await_green(lab: LabCrateDB) -> None:
    deadline = time.monotonic() + _GREEN_WITHIN_S
    while lab.sql("SELECT health FROM sys.cluster_health")["rows"][0][0] != "GREEN":
        if time.monotonic() > deadline:
            raise TimeoutError(f"the lab is not GREEN after {_GREEN_WITHIN_S:g} s")
        time.sleep(0.02)


def shown(lab: LabCrateDB, keys: list[Key]) -> dict[Key, str]:
    """Return the texts that the cluster has now."""
    found: dict[Key, str] = {}
    for schema, name, values in keys:
        handle = lab.table((schema, name))
        if values:
            handle = handle.partition(dict(zip(("region", "n"), values, strict=True)))
        found[schema, name, values] = handle.number_of_replicas
    return found


ONE = single("0-1")
TWO = Scene("two tables", lambda lab: _tables(lab, ["2", "0-all"]))
EVERY_TEXT = Scene("every text", _every_text)
TWO_AT_ONCE = Scene(
    "three tables, two at once",
    lambda lab: _tables(lab, ["0-1", "2", "1-all"]),
    {"concurrent": 2},
)
