"""Kill -9, again and again, two at once: every row is there once, in a trail without a hole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resources.mongodb.settings import Protocol
from tests.mongodb.place import SOURCE

ROWS = 4000
KILLS = 5
CHECKOUT = Path(__file__).parents[2]


def child(place, protocol):
    return subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("committer.py")),
            place.url,
            place.db.name,
            protocol,
            str(ROWS),
        ],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def at(place):
    found = place.db.binlog_offsets.find_one({"_id": SOURCE})
    return 0 if found is None else found["seq"]


def await_progress(place, target, running):
    """Return when the trail is at `target`, or nobody writes it any more."""
    deadline = time.monotonic() + 120.0
    while at(place) < target and any(each.poll() is None for each in running):
        assert time.monotonic() < deadline, f"stuck at {at(place)}"
        time.sleep(0.01)


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT, Protocol.IDEMPOTENT])
def test_every_row_is_there_once_after_kills_at_any_moment(anywhere, protocol):
    chance = random.Random(7)  # noqa: S311 - where it dies, not a secret
    for kill in range(KILLS):
        begun = at(anywhere)
        running = [child(anywhere, protocol) for _ in range(1 + kill % 2)]
        # Each gets somewhere, and dies somewhere.
        target = min(begun + chance.randint(1, 2 * ROWS // KILLS), ROWS)
        await_progress(anywhere, target, running)
        for each in running:
            each.kill()
            _, said = each.communicate()
            assert each.returncode in {0, -9} or b"FencedError" in said, said.decode()
    last = child(anywhere, protocol)
    _, said = last.communicate(timeout=120)
    assert last.returncode == 0, said.decode()
    assert anywhere.seqs() == list(range(1, ROWS + 1))
    assert at(anywhere) == ROWS
    assert "pending" not in {status for _, status in anywhere.staged()}
