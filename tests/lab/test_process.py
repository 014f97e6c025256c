"""`python -m lab.cratedb` starts, says so, is driven from outside, and ends when told to."""

from __future__ import annotations

import socket
import time
import urllib.request

import pytest

from lab.cratedb import LabCrateDB
from lab.cratedb.process import LabDidNotStartError, LabProcess
from lab.cratedb.showcase import Decay, populate


def test_it_serves_until_sigterm(wire):
    with LabProcess("--nodes", "2", "--cluster-name", "outside") as running:
        urls = running.connection_string.split(",")
        assert len(urls) == 2
        assert wire(urls[1])("SELECT name FROM sys.cluster").rows == [["outside"]]
        assert running.control.status()["tables"] == 0
        assert running.stop() == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(urls[0], timeout=2)  # noqa: S310 - loopback


def test_a_taken_port_is_one_sentence_and_exit_code_1():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        second = LabProcess("--nodes", "1", port_base=port)
        with pytest.raises(LabDidNotStartError, match=f"cannot listen .* {port}.*running already"):
            second.start()
        assert second.stop() == 1


def test_the_demo_has_healthy_and_sick_tables_of_all_kinds():
    with LabCrateDB() as lab:
        populate(lab)
        sick = {
            relation.name
            for relation in lab.world.relations()
            if any(copy.uncommitted > 10**9 for _, copy in relation.copies())
        }
        assert len(lab.world.tables) == 13
        assert 5 <= len(sick) <= 8
        assert lab.sql("SELECT health FROM sys.cluster_health")["rows"] == [["GREEN"]]
        texts = {relation.replicas for relation in lab.world.relations()}
        assert texts >= {"0-1", "1", "0-all", "2", "1-2", "0"}


def test_a_demo_never_runs_dry():
    with LabCrateDB() as lab:
        lab.table("doc.only", replicas="1")
        lab.table("doc.never", replicas="0")
        decay = Decay(lab, every_s=0.05)
        decay.start()
        deadline = time.monotonic() + 60
        while lab.table("doc.only").worst_mb < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
        decay.stop()
        assert lab.table("doc.only").worst_mb > 1000
        assert lab.table("doc.never").worst_mb < 1
        assert decay.strike() is None


def test_when_every_table_had_its_turn_a_new_day_is_next():
    with LabCrateDB() as lab:
        populate(lab)
        decay = Decay(lab)
        struck = [decay.strike() for _ in range(12)]

        assert len(set(struck)) == 12
        assert str(struck[-1]).startswith("sensors.readings")
