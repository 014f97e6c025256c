"""A thousand tables and fifty thousand copies are answered, and answered right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.cratedb import LabCrateDB

RECORDING = Path(__file__).with_name("cratedb-recorded.jsonl")


def detection():
    for line in RECORDING.read_text().splitlines():
        entry = json.loads(line)
        if entry["step"] == "observe detection":
            return entry["stmt"]
    raise AssertionError


def test_one_table_of_a_thousand_is_read_right_after_each_change(wire):
    question = "SELECT * FROM sys.shards WHERE table_name = ?"
    with LabCrateDB() as lab:
        for n in range(1000):
            lab.table(f"doc.t{n}", shards=2, replicas="1")
        ask = wire(lab.url)
        assert len(ask(question, ["t500"]).rows) == 4
        for _ in range(5):
            ask("ALTER TABLE doc.t500 SET (number_of_replicas = ?)", ["0"])
            assert len(ask(question, ["t500"]).rows) == 2
            # '1' would be over the shard budget (4000 of 3000); a range is not held against it.
            ask("ALTER TABLE doc.t500 SET (number_of_replicas = ?)", ["0-1"])
            assert len(ask(question, ["t500"]).rows) == 4


EVERYTHING = """SELECT schema_name, table_name, partition_ident, id, "primary", routing_state, node,
translog_stats, seq_no_stats, retention_leases FROM sys.shards"""


@pytest.mark.parametrize(
    ("stmt", "rows"), [(detection(), 5), (EVERYTHING, 50_000)], ids=["detection", "everything"]
)
def test_fifty_thousand_copies_are_all_there(stmt, rows, wire):
    with LabCrateDB() as lab:
        for n in range(500):
            lab.table(f"doc.t{n}", shards=50, replicas="1", sick_mb=1200 if n < 5 else 0)
        assert wire(lab.url)(stmt).json["rowcount"] == rows
