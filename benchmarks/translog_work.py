"""One piece of work in a process of its own, so that its memory and processor time are its own.

`python -m benchmarks.translog_work WORK '{"tables": 100, ...}'` starts a lab in another process,
does the work against it, and prints its figures as one JSON object, last.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
from crate.client import connect

from benchmarks import naive_reset
from lab.cratedb.process import LabProcess

SCHEMA = "bench"
SICK_MB = 1300

_DAGSTER_YAML = Path(__file__).parent.parent / "dagster.yaml"

Figures = dict[str, float | None]


def reset(lab: LabProcess, given: dict[str, Any]) -> Figures:
    """Run `translog_reset` over the sick tables, as the command line does."""
    make_tables(lab, given["tables"], shards=given.get("shards", 2))
    statements = lab.control.status()["statements"]
    started, before = time.monotonic(), processor_seconds()
    run_id, success = _run_job(given.get("options", {}))
    own, elapsed = processor_seconds() - before, time.monotonic() - started
    memory = peak_memory_mb()
    seen = lab.control.status()
    tables = given["tables"]
    before_the_first = _statements_before_the_first_change(lab, statements)
    return {
        **_what_became(seen, tables, success=success),
        "wall_seconds_a_table": elapsed / tables,
        "own_seconds_a_table": own / tables,
        "statements_a_table": (seen["statements"] - statements - before_the_first) / tables,
        "statements_before_the_first_change": float(before_the_first),
        "event_log_rows_a_table": _event_rows(run_id) / tables,
        "peak_memory_mb": memory,
    }


def naive(lab: LabProcess, given: dict[str, Any]) -> Figures:
    """Do the same with the loop of the seeds."""
    make_tables(lab, given["tables"], shards=given.get("shards", 2))
    statements = lab.control.status()["statements"]
    started, before = time.monotonic(), processor_seconds()
    with connect(lab.connection_string.split(",")) as connection:
        cursor = connection.cursor()
        sick = naive_reset.find(cursor)
        for one in sick:
            naive_reset.reset(cursor, one)
    own, elapsed = processor_seconds() - before, time.monotonic() - started
    time.sleep(2)
    seen = lab.control.status()
    tables = given["tables"]
    return {
        **_what_became(seen, tables, success=len(sick) == tables),
        "wall_seconds_a_table": elapsed / tables,
        "own_seconds_a_table": own / tables,
        "statements_a_table": (seen["statements"] - statements) / tables,
    }


def detect(lab: LabProcess, given: dict[str, Any]) -> Figures:
    """Find the sick tables among many, both ways; nothing is changed."""
    make_tables(lab, given["tables"], shards=given["shards"], sick=given["sick"])
    ours = _detected(lab)
    before, statements = processor_seconds(), lab.control.status()["statements"]
    with connect(lab.connection_string.split(",")) as connection:
        found = len(naive_reset.find(connection.cursor()))
    naive_own = processor_seconds() - before
    naive_statements = lab.control.status()["statements"] - statements
    assert found == ours["found"] == given["sick"], (found, ours["found"])
    return {
        "ratio_queries_vs_naive": naive_statements / (ours["queries"] or 1),
        "ratio_own_seconds_vs_naive": naive_own / (ours["own_seconds"] or 1),
        **ours,
        "naive_queries": float(naive_statements),
        "naive_own_seconds": naive_own,
        "peak_memory_mb": peak_memory_mb(),
    }


def _detected(lab: LabProcess) -> Figures:
    from caretaker.translog.policy import ResetPolicy  # noqa: PLC0415
    from ops.logbook import Journey, without_copies  # noqa: PLC0415
    from ops.translog_look import judge  # noqa: PLC0415
    from resources.clock import utc_now  # noqa: PLC0415
    from resources.cratedb.resource import CrateDBResource  # noqa: PLC0415
    from resources.state_store.resource import StateStoreResource  # noqa: PLC0415

    store = StateStoreResource(url=f"sqlite:///{os.environ['DAGSTER_HOME']}/store.db").store
    with CrateDBResource(hosts=lab.connection_string).client() as crate:
        crate.connect()
        statements = lab.control.status()["statements"]
        started, before = time.monotonic(), processor_seconds()
        tables = crate.observe_tables()
        look = judge("c", "bench", tables, store, ResetPolicy(), utc_now())
        own, elapsed = processor_seconds() - before, time.monotonic() - started
    queries = lab.control.status()["statements"] - statements
    chosen = look.selection.chosen
    journeys = [Journey("c", one.target, ResetPolicy(), without_copies(one)) for one in chosen]
    return {
        "found": float(len(look.findings)),
        "shard_rows": float(sum(len(table.copies) for table in tables)),
        "queries": float(queries),
        "own_seconds": own,
        "wall_seconds": elapsed,
        "bytes_a_table_on_its_way": len(pickle.dumps(journeys)) / max(len(journeys), 1),
    }


WORK: dict[str, Callable[[LabProcess, dict[str, Any]], Figures]] = {
    "reset": reset,
    "naive": naive,
    "detect": detect,
}


def make_tables(lab: LabProcess, tables: int, *, shards: int, sick: int | None = None) -> None:
    """Create tables with one replica, the first `sick` of them (default: all) sick."""
    with connect(lab.connection_string.split(",")) as connection:
        cursor = connection.cursor()
        cursor.execute('SET GLOBAL PERSISTENT "cluster.max_shards_per_node" = 100000')
        for number in range(tables):
            name = f"{SCHEMA}.t{number:04}"
            cursor.execute(
                f"CREATE TABLE {name} (id INT) CLUSTERED INTO {shards} SHARDS "
                "WITH (number_of_replicas = '1')"
            )
            if sick is None or number < sick:
                lab.control.pull("sick", table=name, mb=SICK_MB)


def processor_seconds() -> float:
    """Return what this process and its ended children have used; the lab has not ended yet."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory_mb() -> float:
    """Return the most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _what_became(seen: dict[str, Any], tables: int, *, success: bool) -> Figures:
    at_zero = [second for seconds in seen["seconds_at_zero"].values() for second in seconds]
    still_sick = sum(one["worst_mb"] > SICK_MB / 2 for one in seen["sick"])
    return {
        "tables": float(tables),
        "succeeded": float(success),
        "cured": float(tables - still_sick),
        "left_at_zero": float(len(seen["at_zero"])),
        "most_tables_at_zero_at_once": float(seen["most_at_zero"]),
        "seconds_at_zero_median": statistics.median(at_zero) if at_zero else None,
        "seconds_at_zero_max": max(at_zero) if at_zero else None,
    }


def _run_job(options: dict[str, Any]) -> tuple[str, bool]:
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
        return result.run_id, result.success


def _event_rows(run_id: str) -> int:
    """Count the rows that the run left in Dagster's event log, a page at a time."""
    rows, cursor, more = 0, None, True
    with dg.DagsterInstance.get() as instance:
        while more:
            page = instance.get_records_for_run(run_id, cursor=cursor, limit=1000)
            rows, cursor, more = rows + len(page.records), page.cursor, page.has_more
    return rows


def _statements_before_the_first_change(lab: LabProcess, since: int) -> int:
    journal = lab.control.journal(since)
    changes = (n for n, entry in enumerate(journal) if entry["stmt"].startswith("ALTER TABLE"))
    return next(changes, len(journal))


def main(work: str, given: dict[str, Any]) -> None:
    """Do one piece of work in a home of its own."""
    lab = LabProcess("--recovery-s", str(given.get("recovery_s", 0.5)))
    with lab, tempfile.TemporaryDirectory() as home:
        shutil.copy(_DAGSTER_YAML, home)
        os.environ.update(
            DAGSTER_HOME=home,
            CRATE_CONNECTION_STRING=lab.connection_string,
            CARETAKER_STATE_URL=f"sqlite:///{home}/caretaker.db",
            CARETAKER_LOG_FORMAT="json",
        )
        print(json.dumps(WORK[work](lab, given)))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
