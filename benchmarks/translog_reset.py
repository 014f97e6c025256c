"""What a reset costs: seconds at 0 replicas, tables at 0 at once, our own seconds a table.

The lab answers over sockets in a process of its own, so that our own time is ours. "Own" seconds
are processor seconds of the run's process: waiting for the database is not among them.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
from crate.client import connect

from lab.cratedb.process import LabProcess

#: As a healthy cluster does it: a copy of little data is back within half a second.
RECOVERY_S = 0.5

_DAGSTER_YAML = Path(__file__).parent.parent / "dagster.yaml"

Figures = dict[str, float | None]


def run(*, quick: bool) -> dict[str, Figures]:
    """Return figures by workload; the ones without the nudge wait for the lab's real 30 s tick."""
    tables = 12 if quick else 50
    few = 2 if quick else 6
    return {
        "concurrent_1": _measured(tables, {"concurrent": 1}),
        "concurrent_8": _measured(tables, {"concurrent": 8}),
        "concurrent_1_without_nudge": _measured(few, {"concurrent": 1, "nudge": False}),
        "concurrent_8_without_nudge": _measured(
            min(tables, 8 if quick else 16), {"concurrent": 8, "nudge": False}
        ),
    }


def _measured(tables: int, options: dict[str, Any]) -> Figures:
    lab = LabProcess("--recovery-s", str(RECOVERY_S))
    with lab, tempfile.TemporaryDirectory() as home:
        shutil.copy(_DAGSTER_YAML, home)
        os.environ.update(
            DAGSTER_HOME=home,
            CRATE_CONNECTION_STRING=lab.connection_string,
            CARETAKER_LOG_FORMAT="json",
        )
        _make_sick(lab, tables)
        before = _processor_seconds()
        started = time.monotonic()
        success = _reset(options)
        elapsed = time.monotonic() - started
        own = _processor_seconds() - before
        seen = lab.control.status()
    at_zero = [second for seconds in seen["seconds_at_zero"].values() for second in seconds]
    return {
        "tables": float(tables),
        "completed": float(success) * len(at_zero),
        "left_at_zero": float(len(seen["at_zero"])),
        "most_tables_at_zero_at_once": float(seen["most_at_zero"]),
        "seconds_at_zero_median": statistics.median(at_zero) if at_zero else None,
        "seconds_at_zero_max": max(at_zero) if at_zero else None,
        "wall_seconds_a_table": elapsed / tables,
        "own_seconds_a_table": own / tables,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _make_sick(lab: LabProcess, tables: int) -> None:
    with connect(lab.connection_string.split(",")) as connection:
        cursor = connection.cursor()
        for number in range(tables):
            name = f"bench.t{number:04}"
            cursor.execute(
                f"CREATE TABLE {name} (id INT) CLUSTERED INTO 2 SHARDS "
                "WITH (number_of_replicas = '1')"
            )
            lab.control.pull("sick", table=name, mb=1300)


def _reset(options: dict[str, Any]) -> bool:
    from console.runs import translog_reset  # noqa: PLC0415 - after the environment is set

    with (
        dg.DagsterInstance.get() as instance,
        dg.execute_job(
            dg.reconstructable(translog_reset),
            instance=instance,
            run_config=options,
            raise_on_error=False,
        ) as result,
    ):
        return result.success


def _processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
