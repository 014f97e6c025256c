"""RESET on the source: files and transactions get the same names again, and are others."""

from __future__ import annotations

import pytest

from caretaker.errors import LostPositionError
from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench, wait_until
from tests.binlog_sync.losing import BY_FILE, to_accept
from tests.binlog_sync.shell import Shell


def forget(server):
    """RESET, in another second than the one in which the file was begun."""
    mysql = "MariaDB" not in server.ask("SELECT VERSION()")[0][0]
    ((now,),) = server.ask("SELECT UNIX_TIMESTAMP()")
    wait_until(lambda: server.ask("SELECT UNIX_TIMESTAMP()")[0][0] > now, "the next second")
    server.run("RESET BINARY LOGS AND GTIDS" if mysql else "RESET MASTER")


def inserts(name, ids):
    return [f"INSERT INTO {name}.t VALUES ({number})" for number in ids]


def test_as_many_bytes_of_other_transactions_are_not_taken_for_the_same(
    forgetful_server, mongodb_server, name, tmp_path, capsys
):
    """The saved place, in a file of the same name, lies between two events again."""
    with Bench(forgetful_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        caretaker = Shell(bench, tmp_path, capsys)
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        forget(forgetful_server)
        bench.sql(*inserts(name, range(100, 105)))
        caretaker.run("--until-current")
        forget(forgetful_server)
        bench.sql(*inserts(name, range(200, 208)))

        refused = caretaker.run("--until-current")
        lost = to_accept(refused.err)
        accepted = caretaker(
            *("accept-gap", "--source", name, "--lost", lost),
            *("--reason", "RESET", "--incarnation", "1"),
        )
        bench.sync(incarnation=1)

        assert refused.code == 1
        assert "incarnation" in refused.err
        assert accepted.code == 0, accepted.err
        assert [each["meta"]["pk"] for each in bench.rows("t")] == [
            *range(100, 105),
            *range(200, 208),
        ]
        assert [each["gap"]["lost"] for each in bench.documents() if each["op"] == "gap"] == [lost]


def test_a_trail_from_before_such_moments_were_saved_goes_on_once_and_learns_it(
    start_mysql, mongodb_server, name
):
    server = start_mysql(**BY_FILE)
    with Bench(server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        bench.sync()
        with bench.mongo() as client:
            client[name].binlog_offsets.update_one({"_id": name}, {"$unset": {"begun_s": 1}})

        bench.sql(*inserts(name, [1]))
        bench.sync()
        forget(server)
        bench.sql(*inserts(name, range(2, 9)))

        with pytest.raises(LostPositionError, match="another file of that name"):
            bench.sync()
