"""A believable cluster for demonstrations: most of it healthy, and always something to see."""

from __future__ import annotations

import random
import threading

from lab.cratedb.handles import PRIMARY_TOO, SEQ_NO_GAP
from lab.cratedb.laboratory import LabCrateDB

_SICK_MB = 100
_DAY_MS = 86_400_000
_FIRST_DAY_MS = 1_735_689_600_000


def populate(lab: LabCrateDB) -> None:
    """Create a dozen tables of all kinds, half a dozen of them sick in different ways."""
    days = [{"day": _FIRST_DAY_MS + n * _DAY_MS} for n in range(5)]
    regions = [
        {"ts": _FIRST_DAY_MS, "Region": region, "active": active}
        for region, active in (("eu-west", True), ("it's:{}", False), (None, True))
    ]
    lab.table("doc.metrics", shards=4, replicas="0-1", sick_mb=1840)
    lab.table("doc.events", shards=6, replicas="1", sick_mb=1310)
    lab.table("sensors.readings", shards=4, replicas="0-1", partitioned_by=[("day", "timestamp")],
              partitions=days, sick_partitions=[1, 4], sick_mb=2260)  # fmt: skip
    lab.table("billing.invoices", shards=2, replicas="2", sick_mb=1490, cause=SEQ_NO_GAP)
    lab.table("doc.traces", shards=4, replicas="0-1", sick_mb=1720, cause=PRIMARY_TOO)
    lab.table(("Plant", "select"), shards=2, replicas="0-all", sick_mb=640, flush_threshold="256mb")
    lab.table("doc.users", shards=2, replicas="1")
    lab.table("doc.sessions", shards=4, replicas="0-1", sick_mb=310)
    lab.table("sensors.devices", shards=1, replicas="0-all")
    lab.table("sensors.alarms", shards=2, replicas="1-2",
              partitioned_by=[("ts", "timestamp"), ("Region", "text"), ("active", "boolean")],
              partitions=regions)  # fmt: skip
    lab.table(("Plant", "Täb-x$"), shards=3, replicas="1")
    lab.table("audit.log", shards=4, replicas="1", logical_lease=True)
    lab.table("doc.archive", shards=2, replicas="0")


class Decay(threading.Thread):
    """Makes a healthy table sick every now and then, so that a demonstration never runs dry.

    None of them twice: caretaker leaves a table alone for hours after a reset. When all have had
    their turn it is a new day's partition of sensors.readings each time.
    """

    def __init__(self, lab: LabCrateDB, every_s: float = 90.0, *, seed: int = 7) -> None:
        """Take the lab and the real seconds between two."""
        super().__init__(name="lab-decay", daemon=True)
        self._lab = lab
        self._every_s = every_s
        self._random = random.Random(seed)
        self._stop_asked = threading.Event()
        self._struck = {key for key in lab.world.tables if lab.table(key).worst_mb >= _SICK_MB}
        self._days = 5

    def run(self) -> None:
        """Go on until `stop`."""
        while not self._stop_asked.wait(self._every_s):
            self.strike()

    def strike(self) -> str | None:
        """Make one healthy table or a new partition sick; None in a cluster without either."""
        world = self._lab.world
        with world.lock:
            healthy = sorted(
                key for key, table in world.tables.items()
                if key not in self._struck
                and not table.partitioned_by
                and self._lab.table(key).worst_mb < _SICK_MB
                and self._lab.table(key).number_of_replicas != "0"
            )  # fmt: skip
            growing = ("sensors", "readings") in world.tables
        if healthy:
            key = self._random.choice(healthy)
            self._struck.add(key)
            chosen = self._lab.table(key)
        elif growing:
            day = {"day": _FIRST_DAY_MS + self._days * _DAY_MS}
            self._days += 1
            chosen = self._lab.table("sensors.readings").add_partition(day)
        else:
            return None
        chosen.make_sick(self._random.randrange(1200, 2600))
        return chosen.name

    def stop(self) -> None:
        """Strike no more."""
        self._stop_asked.set()
