"""The benchmark of a rolling restart, in its quick form: it measures what it says it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENDS_WITHIN_S = 900


def test_a_pod_costs_watches_and_few_requests_and_every_pod_was_restarted(tmp_path):
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "rolling_restart", "--quick", "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    found = json.loads(figures.read_text())["workloads"]
    ours = found["rolling_restart_3_pods"]
    assert ours["restarted"] == ours["pods"] == 3
    assert ours["watch_pods_a_pod"] > 0
    assert found["naive_1_of_3_pods"]["restarted"] == 1
    assert found["start_and_dry_run"]["restarted"] == 0
    assert ours["peak_memory_mb"] > 0
