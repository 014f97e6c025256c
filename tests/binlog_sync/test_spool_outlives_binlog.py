"""MongoDB is away, the spool has rows, the run ends, and the source purges them: none is lost."""

from __future__ import annotations

import contextlib

import pytest

from lab.mongodb.server import LabMongoDB
from ops.binlog_syncer import FlushFailedError
from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench, wait_until
from tests.binlog_sync.losing import hinted, purge
from tests.binlog_sync.shell import Shell


@pytest.fixture
def lab():
    with LabMongoDB() as server:
        yield server


@pytest.fixture
def own(start_mysql, lab, name):
    """A source of one's own, and a MongoDB that is soon given up."""
    settings = MongoDBSettings(lab.url, name, server_selection_timeout_s=0.5)
    with Bench(start_mysql(), settings, name) as bench:
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        yield bench


def spooled_and_purged(bench, lab, folder, ids, **options):
    """Run without MongoDB until rows are spooled, end, and let the source forget them."""
    with bench.running(spool_dir=folder, shutdown_flush_s=1, **options) as running:
        wait_until(lambda: bench.offset_or_none() is not None, "the first commit")
        lab.stop()
        for number in ids:
            bench.sql(f"INSERT INTO {bench.name}.t VALUES ({number})")
        end = bench.server.ask("SELECT @@gtid_executed")[0][0].replace("\n", "")
        sink = running.syncer._writer._sink
        wait_until(lambda: sink.resume_from.gtid == end, "the last row to be read")
        wait_until(lambda: running.syncer.metrics.vitals().spooled_batches, "a spooled batch")
        with contextlib.suppress(FlushFailedError):
            running.stop()
    purge(bench.server)
    lab.start()


def test_the_next_run_replays_what_only_the_spool_has(own, lab, tmp_path):
    """With the filters of before; other filters are announced behind it."""
    folder = str(tmp_path / "spool")
    spooled_and_purged(own, lab, folder, [1, 2])
    own.sql(f"INSERT INTO {own.name}.t VALUES (3)")

    own.sync(spool_dir=folder, exclude=[rf"{own.name}\.u"])

    assert [each["meta"]["pk"] for each in own.rows("t")] == [1, 2, 3]
    told = [each["op"] for each in own.documents() if each["op"] in ("i", "topology")]
    assert told == ["i", "i", "topology", "i"]
    seqs = [each["seq"] for each in own.documents()]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_gap_behind_the_spool_is_accepted_and_what_is_spooled_comes_first(
    own, lab, tmp_path, capsys
):
    folder = str(tmp_path / "spool")
    caretaker = Shell(own, tmp_path, capsys)
    spooled_and_purged(own, lab, folder, [1, 2])
    own.sql(f"INSERT INTO {own.name}.t VALUES (3)")
    purge(own.server)
    own.sql(f"INSERT INTO {own.name}.t VALUES (4)")
    said = ["accept-gap", "--source", own.name, "--reason", "holidays", "--lost"]

    wrong = caretaker(*said, hinted(own))
    accepted = caretaker(*said, hinted(own, spool_dir=folder))
    own.sync(spool_dir=folder)

    assert wrong.code == 3
    assert accepted.code == 0, accepted.err
    assert [each["meta"]["pk"] for each in own.rows("t")] == [1, 2, 4]
    assert [each["op"] for each in own.documents() if each["op"] in ("i", "gap")] == [
        *("i", "i", "gap", "i"),
    ]


def test_a_spool_that_is_elsewhere_is_not_passed_over(own, tmp_path, capsys):
    """Until somebody says that it is lost, too."""
    caretaker = Shell(own, tmp_path, capsys)
    folder = tmp_path / "spool"
    own.sync(spool_dir=str(folder))
    own.sql(f"INSERT INTO {own.name}.t VALUES (1)")
    purge(own.server)
    own.sql(f"INSERT INTO {own.name}.t VALUES (2)")
    (folder / f"{own.name}.spool").rename(folder / "moved")
    said = ["accept-gap", "--source", own.name, "--reason", "r", "--lost", hinted(own)]

    refused = caretaker(*said)
    accepted = caretaker(*said, "--spool-lost")

    assert refused.code == 3
    assert "--spool-lost" in refused.err
    assert accepted.code == 0, accepted.err
