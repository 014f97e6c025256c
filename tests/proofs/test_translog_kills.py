"""The proof that a reset survives everything, in its short form: the same trials, a sample."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Two to three minutes of its own; the machine may have other things to do.
ENDS_WITHIN_S = 1200


@pytest.mark.skipif(sys.platform != "linux", reason="stops processes and reads /proc")
def test_wherever_a_run_is_killed_every_table_gets_its_text_back(tmp_path):
    """Killed at statements and writes, killed while recovering, stopped, refused by the store."""
    counts = tmp_path / "counts.json"
    done = subprocess.run(
        [sys.executable, "-m", "proofs", "translog_kills", "--short", "--json", str(counts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said

    # It is worth nothing where nobody was hit, at a bad moment, or nobody picked anything up.
    every = json.loads(counts.read_text())["all"]
    for what in ("kills", "stops", "at_zero", "by_sensor", "by_resume"):
        assert every[what] > 0, said
