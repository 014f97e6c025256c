"""`accept-gap` where the source has no sets: MariaDB, and MySQL by file and position."""

from __future__ import annotations

import re
import shlex

import pytest

from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench, wait_until
from tests.binlog_sync.shell import Shell


@pytest.fixture(params=["MariaDB", "MySQL by file"])
def server(request):
    """Give a source of one's own, so that its binlogs may be purged."""
    if request.param == "MariaDB":
        return request.getfixturevalue("start_mariadb")()
    start = request.getfixturevalue("start_mysql")
    return start(gtid_mode="OFF", enforce_gtid_consistency="OFF")


def purged(server):
    """Ask again: a server keeps a binlog for as long as it thinks that somebody reads it."""
    newest = server.ask("SHOW BINARY LOGS")[-1][0]
    server.run(f"PURGE BINARY LOGS TO '{newest}'")
    return len(server.ask("SHOW BINARY LOGS")) == 1


def test_a_loss_is_named_accepted_and_written_and_the_next_run_goes_on(
    server, mongodb_server, name, tmp_path, capsys
):
    with Bench(server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        caretaker = Shell(bench, tmp_path, capsys)
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        caretaker.run("--until-current")
        bench.sql(f"INSERT INTO {name}.t VALUES (1)", "FLUSH BINARY LOGS")
        wait_until(lambda: purged(server), "the old binlogs to be gone")
        bench.sql(f"INSERT INTO {name}.t VALUES (2)")

        status = caretaker("status", "--source", name, "--output", "json").json
        lost = caretaker.run("--until-current")
        told = re.search(r"accept-gap --lost (\S+|'[^']*')", lost.err)
        assert told is not None, lost.err
        (missing,) = shlex.split(told[1])
        said = ["--source", name, "--reason", "holidays"]
        wrong = caretaker("accept-gap", *said, "--lost", "binlog.000777:4")
        accepted = caretaker("accept-gap", *said, "--lost", missing)
        after = caretaker.run("--until-current")

        assert status["purge_margin_s"] == 0
        assert status["source_error"] in lost.err
        assert lost.code == 1
        assert wrong.code == 3
        assert accepted.code == 0, accepted.err
        assert after.code == 0, after.err
        (gap,) = [each for each in bench.documents() if each["op"] == "gap"]
        assert (gap["gap"]["lost"], gap["gap"]["reason"]) == (missing, "holidays")
        assert [each["meta"]["pk"] for each in bench.rows("t")] == [2]
        seqs = [each["seq"] for each in bench.documents()]
        assert seqs == list(range(1, len(seqs) + 1))
