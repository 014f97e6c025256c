"""The source becomes another server, or its tables other tables, and the trail goes on."""

from __future__ import annotations

import pytest
from bson import Binary

from resources.mongodb.commits import Commits
from resources.mongodb.settings import MongoDBSettings
from resources.mysql.source import open_source
from tests.binlog_sync.bench import Bench, wait_until


def test_a_failover_can_be_started_from_again_before_the_first_row_of_the_new_server(
    start_mysql, mongodb_server, name
):
    """What is saved beside the new server's uuid is no place in the old one's files."""
    old, new = start_mysql(), start_mysql(server_id=2)
    with Bench(old, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)", *["FLUSH BINARY LOGS"] * 5)
        bench.sync()
        ((executed,),) = old.ask("SELECT @@global.gtid_executed")
        new.run(
            "SET SESSION sql_log_bin = OFF",
            f"CREATE DATABASE {name}",
            f"CREATE TABLE {name}.t (id INT PRIMARY KEY)",
            "SET SESSION sql_log_bin = ON",
            "RESET BINARY LOGS AND GTIDS",
            f"SET GLOBAL gtid_purged = '{executed}'",
        )
        bench.uri = new.url

        bench.sync()  # stands for one that was killed right after it had said so
        bench.sync()
        new.run(f"INSERT INTO {name}.t VALUES (1)")
        bench.sync()

        told = [each["topology"] for each in bench.documents() if each["op"] == "topology"]
        assert [each["meta"]["pk"] for each in bench.rows("t")] == [1]
    assert len(told) == 1
    assert told[0]["server_before"] != told[0]["server_after"]


def test_columns_that_are_added_while_it_runs_are_what_their_types_say(
    mariadb_server, mongodb_server, name
):
    """MariaDB's binlog calls a UUID BINARY(16): it has to be asked again after each statement."""
    with Bench(mariadb_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)", f"INSERT INTO {name}.t VALUES (1)")
        with bench.running():
            wait_until(lambda: bench.rows("t"), "the first row")
            bench.sql(
                f"ALTER TABLE {name}.t ADD u UUID, ADD a INET6",
                f"INSERT INTO {name}.t VALUES (2, '00112233-4455-6677-8899-aabbccddeeff', '::1')",
            )
            wait_until(lambda: len(bench.rows("t")) == 2, "the second row")
        added = bench.rows("t")[1]["chg"]

    assert added["u"]["t"] == Binary(bytes.fromhex("00112233445566778899aabbccddeeff"), 4)
    assert added["a"]["t"] == "::1"


@pytest.mark.parametrize("verb", ["verify", "margin", "another look"])
def test_who_looks_at_the_source_leaves_the_dump_alone(either_bench, verb):
    bench = either_bench
    bench.setup()
    bench.sql(f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
    bench.sync()
    with bench.running() as running:
        bench.sql(f"INSERT INTO {bench.name}.t VALUES (1)")
        wait_until(lambda: bench.rows("t"), "a row")
        with open_source(bench.uri, bench.name) as source:
            checkpoint = running.syncer.committed
            if verb == "verify":
                source.verify(checkpoint)
            elif verb == "margin":
                source.purge_margin_s(checkpoint)
            else:
                source.check()
        bench.sql(f"INSERT INTO {bench.name}.t VALUES (2)")
        wait_until(lambda: len(bench.rows("t")) == 2, "another row")

    assert not [said for said in bench.said() if said.startswith("The source is away")]


def test_two_who_look_at_one_moment_are_two(bench):
    """Under one name the source ends the look of the one for the other's."""
    with open_source(bench.uri, "audit") as one, open_source(bench.uri, "audit") as other:
        assert one._aside.uuid != other._aside.uuid
        assert one._aside.server_id != other._aside.server_id
        assert one.follower == other.follower


def test_types_of_a_table_that_is_gone_are_those_it_was_read_with(
    mariadb_server, mongodb_server, name
):
    """Its rows are read behind its DROP TABLE: nobody can be asked then."""
    row = "'123e4567-e89b-12d3-a456-426614174000', '10.0.0.1'"
    with Bench(mariadb_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        for table in ("known", "unknown"):
            bench.sql(f"CREATE TABLE {name}.{table} (id INT PRIMARY KEY, u UUID, a INET4)")
        bench.sql(f"INSERT INTO {name}.known VALUES (1, {row})")
        bench.sync()
        for table in ("known", "unknown"):
            bench.sql(f"INSERT INTO {name}.{table} VALUES (2, {row})", f"DROP TABLE {name}.{table}")
        bench.sync()
        (_, known), (unknown,) = bench.rows("known"), bench.rows("unknown")

    assert known["chg"]["u"]["t"] == Binary(bytes.fromhex("123e4567e89b12d3a456426614174000"), 4)
    assert known["chg"]["a"]["t"] == "10.0.0.1"
    assert unknown["chg"]["a"]["t"] == bytes((10, 0, 0, 1))
    (said,) = [said for said in bench.said() if "gone from the source" in said]
    assert said.startswith(f"{name}.unknown is gone from the source")
    assert ": u, a may have been UUID or INET" in said


def test_rows_from_before_a_column_became_a_uuid_are_what_they_were(
    mariadb_server, mongodb_server, name
):
    with Bench(mariadb_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(
            f"CREATE TABLE {name}.t (id INT PRIMARY KEY, u CHAR(36))",
            f"INSERT INTO {name}.t VALUES (1, '123e4567-e89b-12d3-a456-426614174000')",
            f"ALTER TABLE {name}.t MODIFY u UUID",
        )
        bench.sync()
        (row,) = bench.rows("t")

    assert row["chg"]["u"]["t"] == "123e4567-e89b-12d3-a456-426614174000"


def test_a_failover_that_was_staged_and_not_committed_is_told_once(bench, monkeypatch):
    """Killed between the two: the next run promotes the document, and must not write it again."""
    bench.setup()
    bench.sql(f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)")
    bench.sync()
    with bench.mongo() as client:
        another = {"server_uuid": "11111111-1111-1111-1111-111111111111", "file": "binlog.000777"}
        client[bench.name].binlog_offsets.update_one({"_id": bench.name}, {"$set": another})
    commit = Commits.commit

    def killed(self, held, batch, *arguments):
        if any(b"topology" in document for document in batch.documents):
            raise SystemExit
        commit(self, held, batch, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Commits, "commit", killed)
        with pytest.raises(SystemExit):
            bench.sync()
    bench.sync()

    assert [each["op"] for each in bench.documents()].count("topology") == 1
