"""The replica sizes that a lab offers: those of the emulator, with what they cost and hold."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Size:
    """A row of mz_cluster_replica_sizes; memory and disk are bytes of one process."""

    name: str
    credits_per_hour: float
    workers: int
    memory_bytes: int
    disk_bytes: int | None = None
    cpu_nano_cores: int = 1_000_000_000
    processes: int = 1


def _cc(name: str, cost: float, cpu: float, workers: int, memory_mib: int, disk_mib: int) -> Size:
    return Size(name, cost, workers, memory_mib * MIB, disk_mib * MIB, int(cpu * 1e9))


EMULATOR = (
    _cc("25cc", 0.25, 0.5, 1, 3881, 7762),
    _cc("50cc", 0.5, 1, 1, 7762, 15525),
    _cc("100cc", 1, 2, 2, 15525, 31050),
    _cc("200cc", 2, 4, 4, 31050, 62100),
    _cc("300cc", 3, 6, 6, 46575, 93150),
    _cc("400cc", 4, 8, 8, 62100, 124201),
    _cc("600cc", 6, 12, 12, 93150, 186301),
    _cc("800cc", 8, 16, 16, 124201, 248402),
    _cc("1200cc", 12, 24, 24, 186301, 372603),
    _cc("1600cc", 16, 31, 31, 240640, 481280),
    _cc("3200cc", 32, 62, 62, 481280, 962560),
)
