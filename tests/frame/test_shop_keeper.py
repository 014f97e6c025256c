"""The demo's shop on a machine that can have no MySQL: said once, and nothing is started for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab.mongodb.server import LabMongoDB
from lab.row_changes import RowChanges
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def told(tmp_path) -> Path:
    """Return the file in which the keeper tells what became of the shop."""
    path: Path = tmp_path / "shop.jsonl"
    return path


def lines_of(told: Path, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 120
    while True:
        lines = told.read_text().splitlines() if told.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def test_without_apt_and_without_a_cache_it_is_left_out_and_the_trail_is_paused(
    checkout, tmp_path, unused_port, told
):
    rows = RowChanges(tmp_path, unused_port, unused_port, {})
    with LabMongoDB() as mongodb:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "lab.shop_keeper", "--port", "1", "--told", str(told)],
            cwd=checkout,
            env={
                **os.environ,
                "PATH": str(tmp_path),
                "CARETAKER_SERVER_CACHE": str(tmp_path / "cache"),
                "MONGODB_URI": mongodb.url,
                "MONGODB_DATABASE": "audit",
            },
        )
        try:
            first, second = lines_of(told, 2)
            with Trail.open_to_read(MongoDBSettings(mongodb.url, "audit")) as trail:
                paused = trail.offset("mysql").paused
                assert trail.check() == []
        finally:
            keeper.terminate()
            assert keeper.wait(60) == 0

    assert first == {"trail": "made"}
    assert "no apt-get" in second["left_out"]
    assert paused is not None
    assert paused.reason.startswith("left out, for want of a MySQL or MariaDB: ")
    (line,) = rows.news()
    assert line.startswith("binlog: left out, for want of a MySQL or MariaDB")
    assert list(rows.news()) == []
