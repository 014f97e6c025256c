"""Seconds until the sync is back after kill -9: of its worker, of the code server, of both.

Dagster's code server and daemon run as in production, over a MySQL under load. The clock runs from
the kill to the first commit of the next run. Afterwards the trail is compared with the source:
what a kill loses or doubles is counted beside what it costs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.servers import sink, source
from proofs.binlog_load import Load
from proofs.binlog_service import KINDS, Service
from proofs.binlog_verdict import Verdict
from resources.mongodb.settings import MongoDBSettings

Figures = dict[str, float | None]

_NAME = "supervised"
_KILLS, _QUICK_KILLS = 15, 1
#: Seconds within which it is to be back.
_GOALS = {"worker": 15.0, "code server": 60.0, "both": 120.0}


def run(*, quick: bool) -> dict[str, Figures]:
    """Return figures by what was killed; ServerUnavailableError where there are no servers."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="supervision-")))
        mysql = stack.enter_context(source()).server
        mongodb = stack.enter_context(sink())
        settings = MongoDBSettings(mongodb.url, _NAME)
        options = {
            "source": _NAME,
            "include": [rf"{_NAME}\..*"],
            "flush_after_s": 0.2,
        }
        figures: dict[str, Figures] = {}
        with Service(home, mysql.url, settings, options) as service:
            load = Load(mysql, _NAME, 1, short=True, stored=service.stored)
            load.prepare()
            load.start()
            try:
                for kind in KINDS:
                    figures[kind] = _seconds(service, kind, _QUICK_KILLS if quick else _KILLS)
            finally:
                load.end()
            with mongodb.client() as client:
                rows = client[_NAME]["row_changes"]
                wanted = {"op": {"$in": ["i", "u", "d"]}}
                service.until(
                    lambda: rows.count_documents(wanted) >= load.changes, "the last change"
                )
        verdict = Verdict("mysql", "staged", changes=load.changes)
        verdict.compare(mysql, _NAME, mongodb.url)
        figures["the_trail_afterwards"] = {
            "changes": verdict.changes,
            "documents": verdict.stored,
            "lost": verdict.lost,
            "doubled": verdict.doubled,
            "holes": verdict.holes,
            "broken_chains": verdict.broken_chains,
            "wrong_rows": verdict.wrong_rows,
        }
        return figures


def _seconds(service: Service, kind: str, kills: int) -> Figures:
    seconds = []
    for number in range(1, kills + 1):
        seconds.append(service.back_after(kind))
        print(f"{kind}: {number} of {kills}, {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    return {
        "kills": len(seconds),
        "median_s": statistics.median(seconds),
        "worst_s": max(seconds),
        "goal_s": _GOALS[kind],
    }
