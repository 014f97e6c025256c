"""A thousand tables are no burden, and fifty thousand copies are bearable."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lab.cratedb import LabCrateDB

# Limits have room for a busy machine; what is measured on an idle one is a third or less.
ONE_TABLE_S, ALL_TABLES_S = 0.03, 9.0
RECORDING = Path(__file__).with_name("cratedb-recorded.jsonl")


def detection():
    for line in RECORDING.read_text().splitlines():
        entry = json.loads(line)
        if entry["step"] == "observe detection":
            return entry["stmt"]
    raise AssertionError


def fastest(what, times):
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        what()
        best = min(best, time.perf_counter() - began)
    return best


def test_one_table_of_a_thousand_is_read_in_milliseconds_also_right_after_a_change(wire):
    question = "SELECT * FROM sys.shards WHERE table_name = ?"
    with LabCrateDB() as lab:
        for n in range(1000):
            lab.table(f"doc.t{n}", shards=2, replicas="1")
        ask = wire(lab.url)
        assert len(ask(question, ["t500"]).rows) == 4

        def change_and_read():
            ask("ALTER TABLE doc.t500 SET (number_of_replicas = ?)", ["0"])
            assert len(ask(question, ["t500"]).rows) == 2
            # '1' would be over the shard budget (4000 of 3000); a range is not held against it.
            ask("ALTER TABLE doc.t500 SET (number_of_replicas = ?)", ["0-1"])
            assert len(ask(question, ["t500"]).rows) == 4

        assert fastest(lambda: ask(question, ["t7"]), 10) < ONE_TABLE_S
        assert fastest(change_and_read, 5) < 4 * ONE_TABLE_S


EVERYTHING = """SELECT schema_name, table_name, partition_ident, id, "primary", routing_state, node,
translog_stats, seq_no_stats, retention_leases FROM sys.shards"""


@pytest.mark.parametrize("stmt", [detection(), EVERYTHING], ids=["detection", "everything"])
def test_fifty_thousand_copies_are_read_in_seconds(stmt, wire):
    with LabCrateDB() as lab:
        for n in range(500):
            lab.table(f"doc.t{n}", shards=50, replicas="1", sick_mb=1200 if n < 5 else 0)
        began = time.perf_counter()
        reply = wire(lab.url)(stmt)
        took = time.perf_counter() - began
        assert reply.json["rowcount"] in {5, 50_000}
        assert took < ALL_TABLES_S
