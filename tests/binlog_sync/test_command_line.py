"""Each verb of `caretaker binlog`, as a script meets it."""

from __future__ import annotations

import json
import signal

import bson
import pytest
from bson import json_util

from ops.binlog_syncer import Syncer
from tests.binlog_sync.bench import PATIENCE_S, wait_until
from tests.binlog_sync.shell import Shell


@pytest.mark.usefixtures("rows")
def test_setup_then_run_until_current_then_status(caretaker, bench):
    made = caretaker("setup", "--output", "json")
    ran = caretaker.run("--until-current", "--output", "json")
    status = caretaker("status", "--source", bench.name, "--output", "json")

    assert made.code == 0, made.err
    assert made.json["made"]
    assert ran.code == 0, ran.err
    assert ran.json["why"] == "until_current"
    assert [each["op"] for each in bench.rows()] == ["i", "i", "i", "u", "d"]
    assert status.code == 0, status.err
    assert status.json["position"]["seq"] == ran.json["seq"] == len(bench.documents())
    assert status.json["position"]["gtid"] == bench.offset()["gtid"]
    assert status.json["paused"] is None


def test_setup_twice_makes_nothing_more(caretaker):
    caretaker("setup")
    again = caretaker("setup", "--output", "json")

    assert again.code == 0
    assert again.json["made"] == []


@pytest.mark.usefixtures("rows")
def test_dry_run_says_where_a_run_would_begin_and_changes_nothing(caretaker, bench):
    bench.setup()
    planned = caretaker.run("--dry-run", "--output", "json")

    assert planned.code == 0, planned.err
    assert planned.json["would"] == "start"
    assert bench.documents() == []


@pytest.mark.usefixtures("rows")
def test_tail_needs_no_mongodb_and_is_what_run_writes(caretaker, bench):
    bench.setup()
    options = json.loads(caretaker.config.read_text()) | {"source": bench.name}
    caretaker.config.write_text(json.dumps(options))
    begin = ("tail", "--from", "earliest", "--until-current", "--config", str(caretaker.config))
    tailed = caretaker(*begin, MONGODB_URI="", MONGODB_DATABASE="", DAGSTER_HOME="")
    ran = caretaker.run("--until-current")

    assert tailed.code == 0, tailed.err
    assert ran.code == 0, ran.err
    lines = [json_util.loads(line) for line in tailed.out.splitlines()]
    with bench.mongo() as client:
        stored = list(client[bench.name].row_changes.find().sort("seq", 1))
    assert [bson.encode(each) for each in lines] == [bson.encode(each) for each in stored]
    assert [each["seq"] for each in lines] == list(range(1, len(lines) + 1))


@pytest.mark.usefixtures("rows")
def test_tail_of_one_table_counts_its_rows_from_1(caretaker, bench):
    bench.sql(
        f"CREATE TABLE {bench.name}.u (id INT PRIMARY KEY)",
        f"INSERT INTO {bench.name}.u VALUES (1)",
    )

    tailed = caretaker(
        "tail", "--from", "earliest", "--until-current", "--table", rf"{bench.name}\.u"
    )

    documents = [json_util.loads(line) for line in tailed.out.splitlines()]
    (row,) = [each for each in documents if each["op"] != "ddl"]
    assert row["meta"]["tbl"] == "u"
    assert [each["seq"] for each in documents] == list(range(1, len(documents) + 1))


@pytest.mark.usefixtures("rows")
def test_a_sync_stopped_with_ctrl_c_ends_with_0_and_wrote_all(caretaker, bench):
    bench.setup()
    process = caretaker.start(
        "run", "--source", bench.name, "--config", str(caretaker.config), "--output", "json"
    )
    try:
        wait_until(lambda: len(bench.rows()) == 5, "5 rows")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()

    assert process.returncode == 0, err
    assert json.loads(out)["why"] == "stopped"
    assert "Flushing" in err


def test_pause_refuses_a_run_and_resume_lets_it(caretaker, bench):
    bench.setup()
    paused = caretaker("pause", "--source", bench.name, "--reason", "tonight", "--output", "json")
    refused = caretaker.run("--until-current")
    resumed = caretaker("resume", "--source", bench.name, "--output", "json")
    ran = caretaker.run("--until-current")

    assert paused.json["paused"] is True
    assert refused.code == 3
    assert "tonight" in refused.err
    assert resumed.json == {"source": bench.name, "paused": False, "was_paused": True}
    assert ran.code == 0, ran.err


def test_verify_finds_what_the_trail_does_not_say(caretaker, rows, bench):
    bench.setup()
    caretaker.run("--until-current")
    equal = caretaker("verify", rows, "--source", bench.name, "--output", "json")
    bench.server.run("SET sql_log_bin = 0", f"UPDATE {rows} SET v = 'forged' WHERE id = 1")
    forged = caretaker("verify", rows, "--source", bench.name, "--output", "json")

    assert equal.code == 0, equal.err
    assert equal.json["tables"][0]["equal"] == 2
    assert forged.code == 1
    (difference,) = forged.json["tables"][0]["differences"]
    assert difference["columns"][0]["column"] == "v"


def test_verify_calls_rows_older_than_the_trail_not_covered(caretaker, rows, bench):
    bench.setup()
    caretaker.run("--until-current", "--from", "current")

    done = caretaker("verify", rows, "--source", bench.name, "--output", "json")

    assert done.code == 0, done.err
    assert done.json["tables"][0]["not_covered"] == 2


def test_history_shows_a_row_and_undo_prints_what_takes_it_back(caretaker, rows, bench):
    bench.setup()
    caretaker.run("--until-current")

    history = caretaker("history", rows, "2", "--output", "json")
    undo = caretaker("undo", rows, "2")
    deleted = caretaker("undo", rows, "3")

    assert history.code == 0, history.err
    assert [each["op"] for each in history.json["changes"]] == ["i", "u"]
    assert history.json["row"] == {"id": 2, "v": "B"}
    bench.sql(undo.out, deleted.out)
    assert bench.server.ask(f"SELECT * FROM {rows} ORDER BY id") == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.usefixtures("rows")
def test_undo_takes_back_a_transaction(caretaker, bench):
    bench.setup()
    caretaker.run("--until-current")
    (gtid,) = {each["src"]["gtid"] for each in bench.rows() if each["op"] == "d"}

    undo = caretaker("undo", "--gtid", gtid, "--output", "json")

    assert undo.json["changes"] == 1
    assert undo.json["statements"][0].startswith("INSERT INTO ")


def test_accept_gap_writes_the_loss_into_the_trail_and_goes_on(
    start_mysql, mongodb_server, name, tmp_path, capsys
):
    from resources.mongodb.settings import MongoDBSettings  # noqa: PLC0415
    from tests.binlog_sync.bench import Bench  # noqa: PLC0415

    server = start_mysql()
    with Bench(server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        caretaker = Shell(bench, tmp_path, capsys)
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        caretaker.run("--until-current")
        bench.sql(f"INSERT INTO {name}.t VALUES (1)", "FLUSH BINARY LOGS")
        bench.sql(
            "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY", f"INSERT INTO {name}.t VALUES (2)"
        )
        lost = caretaker.run("--until-current")
        wrong = caretaker(
            "accept-gap", "--source", name, "--lost", f"{_uuid(server)}:77", "--reason", "r"
        )
        missing = wrong.err.split("--lost '")[1].split("'")[0]
        accepted = caretaker(
            "accept-gap", "--source", name, "--lost", missing, "--reason", "holidays"
        )
        after = caretaker.run("--until-current")

        assert lost.code == 1
        assert wrong.code == 3
        assert accepted.code == 0, accepted.err
        assert after.code == 0, after.err
        (gap,) = [each for each in bench.documents() if each["op"] == "gap"]
        assert gap["gap"]["lost"] == missing
        assert gap["gap"]["reason"] == "holidays"
        assert [each["meta"]["pk"] for each in bench.rows("t")] == [2]


def _uuid(server):
    return server.ask("SELECT @@server_uuid")[0][0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "--from", "yesterday"), 1, "--from: found 'yesterday'"),
        (("run", "--protocol", "fast"), 1, "--protocol: found 'fast'"),
        (("run", "--include", "("), 1, "include"),
        (("run", "--cross-check", "much"), 2, "no percentage"),
        (("verify", "nodot"), 2, "no DB.TABLE"),
        (("history", "t.t"), 2, "KEY"),
        (("undo",), 2, "say which row"),
        (("tail", "--from", "saved"), 2, "remembers nothing"),
        (("accept-gap", "--lost", "x"), 2, "--reason"),
        (("nothing",), 2, "No such command"),
    ],
)
def test_bad_input_is_one_sentence(caretaker, arguments, code, said):
    ended = caretaker(*arguments)

    assert ended.code == code, ended.err
    assert said in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("verb", [("history", "1"), ("undo", "1"), ("verify",)])
def test_a_table_that_is_unknown_is_no_table_without_changes(caretaker, rows, bench, verb):
    bench.setup()
    caretaker.run("--until-current")
    (word, *key) = verb

    ended = caretaker(word, f"{rows}s", *key)

    assert ended.code == 1
    assert ended.out == ""
    assert f"{rows}s" in ended.err
    assert f"of {bench.name} it has t;" in ended.err or "GRANT SELECT" in ended.err


@pytest.mark.parametrize("variable", ["MYSQL_URL", "MONGODB_URI", "MONGODB_DATABASE"])
def test_a_missing_variable_is_named(caretaker, variable):
    ended = caretaker("run", "--until-current", **{variable: ""})

    assert ended.code == 1
    assert variable in ended.err


@pytest.mark.usefixtures("rows")
def test_a_run_that_was_stopped_before_its_goal_has_not_succeeded(caretaker, monkeypatch):
    """A script that goes on after `--until-current` must be able to tell."""
    whole = Syncer.run

    def stopped_at_once(syncer, *given):
        syncer.stop()
        return whole(syncer, *given)

    caretaker("setup")
    with monkeypatch.context() as patch:
        patch.setattr(Syncer, "run", stopped_at_once)
        to_the_end = caretaker.run("--until-current", "--output", "json")
        standing = caretaker.run("--output", "json")

    assert (to_the_end.code, to_the_end.json["why"]) == (1, "stopped")
    assert to_the_end.json["exit_code"] == 1
    assert standing.code == 0


@pytest.mark.usefixtures("rows")
def test_a_trail_that_was_never_set_up_is_not_begun(bench, caretaker):
    """Without its indexes it would fill, and every look at it take longer than the last."""
    with bench.mongo() as client:
        client.drop_database(bench.name)

    refused = caretaker.run("--until-current")

    assert refused.code == 3
    assert "no collection row_changes" in refused.err
    assert "caretaker binlog setup" in refused.err
    with bench.mongo() as client:
        assert client[bench.name].binlog_offsets.find_one() is None
