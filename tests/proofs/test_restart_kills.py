"""The proof that a restart survives kill -9, in its short form: the same trials, a sample."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Minutes of its own; the machine may have other things to do.
ENDS_WITHIN_S = 1800


@pytest.mark.skipif(sys.platform != "linux", reason="kills process groups and reads /proc")
@pytest.mark.parametrize(
    "plane", ["lab", pytest.param("real", marks=pytest.mark.live("kubernetes"))]
)
def test_wherever_a_restart_is_killed_each_pod_goes_once_and_all_is_put_back(
    request, tmp_path, plane
):
    """Killed at steps and moments, and while taking over; one pod out at a time."""
    if plane == "real":
        # Not run where it cannot be, and built once where it can.
        request.getfixturevalue("control_plane")
    counts = tmp_path / "counts.json"
    command = [sys.executable, "-m", "proofs", "restart_kills", "--short", "--plane", plane]
    done = subprocess.run(
        [*command, "--json", str(counts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert "KEPT: " in said

    # It is worth nothing where nobody was hit, or nobody took anything over.
    every = json.loads(counts.read_text())["all"]
    for what in ("kills", "restarted") + (("takeovers",) if plane == "lab" else ()):
        assert every[what] > 0, said
