"""`accept-gap` where the source has no sets: MariaDB, and MySQL by file and position."""

from __future__ import annotations

import pytest

from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench
from tests.binlog_sync.losing import purge, to_accept
from tests.binlog_sync.shell import Shell


@pytest.mark.parametrize("forgetful_server", ["MariaDB", "MySQL by file"], indirect=True)
def test_a_loss_is_named_accepted_and_written_and_the_next_run_goes_on(
    forgetful_server, mongodb_server, name, tmp_path, capsys
):
    with Bench(forgetful_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        caretaker = Shell(bench, tmp_path, capsys)
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        caretaker.run("--until-current")
        bench.sql(f"INSERT INTO {name}.t VALUES (1)")
        purge(forgetful_server)
        bench.sql(f"INSERT INTO {name}.t VALUES (2)")

        status = caretaker("status", "--source", name, "--output", "json").json
        lost = caretaker.run("--until-current")
        missing = to_accept(lost.err)
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
