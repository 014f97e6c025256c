"""Nothing is lost or doubled under kill -9: the proof in its short form, a sample of moments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from zlib import crc32

import pytest

from proofs.binlog_verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]

#: Some two minutes of its own; the machine may have other things to do.
ENDS_WITHIN_S = 580


@pytest.mark.skipif(sys.platform != "linux", reason="forks syncers and ends what they leave")
@pytest.mark.usefixtures("mysql_server", "mariadb_server", "mongodb_server")
def test_wherever_a_syncer_is_killed_the_trail_is_whole(tmp_path):
    """Killed while staging, in the transaction, after the commit, recovering, two at once."""
    counts = tmp_path / "counts.json"
    done = subprocess.run(
        [sys.executable, "-m", "proofs", "binlog_kills", "--short", "--json", str(counts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said

    # It is worth nothing where nobody was hit, or never at a bad moment.
    verdicts = json.loads(counts.read_text())
    assert {each["protocol"] for each in verdicts} == {"staged", "direct", "idempotent"}
    assert all(each["kills"] > 0 and each["changes"] > 0 for each in verdicts), said
    moments = sum((Counter(each["moments"]) for each in verdicts), Counter())
    for moment in (
        "while staging",
        "inside the transaction",
        "between rows and offset",
        "during recovery",
        "two at once",
        "MongoDB stepping down",
    ):
        assert moments[moment] > 0, said


class Table:
    """A source that has these rows."""

    def __init__(self, *rows):
        self.rows = rows

    def ask(self, _query):
        return list(self.rows)


@pytest.fixture
def trail(mongodb_server, name):
    """A trail of three changes of one row."""
    with mongodb_server.client() as client:
        client[name].row_changes.insert_many(
            {"_id": bytes([seq]), "seq": seq, "op": op, "meta": {"pk": 1}, "chg": change}
            for seq, op, change in (
                (1, "i", {"id": {"t": 1}, "n": {"t": 0}, "v": {"t": "a"}}),
                (2, "u", {"n": {"f": 0, "t": 1}}),
                (3, "u", {"n": {"f": 1, "t": 2}}),
            )
        )
        yield client[name].row_changes
        client.drop_database(name)


@pytest.fixture
def name(request):
    return f"verdict_{os.getpid()}_{crc32(request.node.name.encode())}"


def judged(mongodb_server, name, *, changes=3, row=(1, 2, "a")):
    verdict = Verdict("mysql", "staged", changes=changes)
    verdict.compare(Table(row), name, mongodb_server.url)
    return verdict


@pytest.mark.usefixtures("trail")
def test_a_whole_trail_breaks_no_promise(mongodb_server, name):
    assert judged(mongodb_server, name).broken == 0


def test_a_lost_change_is_found(mongodb_server, name, trail):
    trail.delete_one({"seq": 2})
    verdict = judged(mongodb_server, name)
    assert (verdict.lost, verdict.holes, verdict.broken_chains) == (1, 1, 1)


def test_a_doubled_change_is_found(mongodb_server, name, trail):
    trail.insert_one(
        {"_id": b"x", "seq": 4, "op": "u", "meta": {"pk": 1}, "chg": {"n": {"f": 1, "t": 2}}}
    )
    verdict = judged(mongodb_server, name)
    assert (verdict.doubled, verdict.broken_chains) == (1, 1)


@pytest.mark.usefixtures("trail")
def test_a_row_that_is_another_is_found(mongodb_server, name):
    assert judged(mongodb_server, name, row=(1, 7, "a")).wrong_rows == 1


def test_whoever_does_not_end_breaks_a_promise():
    assert Verdict("mysql", "staged", did_not_end=1).broken == 1
