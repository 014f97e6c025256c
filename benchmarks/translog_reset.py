"""What a reset costs: queries, our own seconds a table, memory, seconds at 0 replicas.

The lab answers over sockets in a process of its own, and each workload runs in a process of its
own. "Own" seconds are processor seconds of that process, Dagster's included: waiting for the
database is not among them. Beside it runs the loop of `naive_reset`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

Figures = dict[str, float | None]

#: Without the nudge the lab's leases fall on their 30 s tick, as CrateDB's do.
_NO_NUDGE = {"nudge": False}


def run(*, quick: bool) -> dict[str, Figures]:
    """Return figures by workload: about 15 minutes, `quick` 3."""
    many, some, few = (100, 20, 2) if quick else (1000, 100, 6)
    large, small = _reset(many), _reset(some)
    return {
        f"detection_{many}_tables": _work("detect", tables=many, shards=2, sick=many),
        f"detection_of_5_among_{many * 50}_shards": _work("detect", tables=many, shards=25, sick=5),
        f"reset_{many}_tables": {**_growth(large, small), **large},
        f"reset_{some}_tables": small,
        **_beside_the_naive_loop(few),
        "reset_concurrent_8": _reset(some, options={"concurrent": 8}),
        "reset_without_nudge": _reset(few, options=_NO_NUDGE),
    }


def _beside_the_naive_loop(tables: int) -> dict[str, Figures]:
    """One shard a table: with more, the naive predicate holds at once, whatever the leases do."""
    ours, naive = _reset(tables, shards=1), _work("naive", tables=tables, shards=1)
    at_zero = "seconds_at_zero_median"
    return {
        f"reset_{tables}_tables": {
            "ratio_seconds_at_zero_vs_naive": _ratio(ours[at_zero], naive[at_zero]),
            "ratio_own_seconds_vs_naive": _ratio(
                ours["own_seconds_a_table"], naive["own_seconds_a_table"]
            ),
            **ours,
        },
        f"naive_{tables}_tables": naive,
    }


def _growth(large: Figures, small: Figures) -> Figures:
    """What a further table costs, and whether it costs more the more there are."""
    more = (large["tables"] or 0) - (small["tables"] or 0)
    megabytes = (large["peak_memory_mb"] or 0) - (small["peak_memory_mb"] or 0)
    return {
        "ratio_own_seconds_a_table_vs_small": _ratio(
            large["own_seconds_a_table"], small["own_seconds_a_table"]
        ),
        "own_seconds_a_further_table": (_total(large) - _total(small)) / more,
        "memory_kb_a_further_table": megabytes * 1024 / more,
    }


def _total(figures: Figures) -> float:
    return (figures["own_seconds_a_table"] or 0) * (figures["tables"] or 0)


def _ratio(ours: float | None, other: float | None) -> float | None:
    return ours / other if ours is not None and other else None


def _reset(tables: int, **given: Any) -> Figures:
    recovery_s = 0.05 if tables >= 100 else 0.5  # noqa: PLR2004 - minutes of waiting measure nothing
    return _work("reset", tables=tables, recovery_s=recovery_s, **given)


def _work(work: str, **given: Any) -> Figures:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.translog_work", work, json.dumps(given)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{work} {given} failed:\n{ended.stderr[-4000:]}")
    figures: Figures = json.loads(ended.stdout.splitlines()[-1])
    return figures
