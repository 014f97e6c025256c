"""Each kind of loss, from the error's own hint to a trail that goes on without a double."""

from __future__ import annotations

import contextlib

import pymysql
import pytest

from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench, wait_until
from tests.binlog_sync.losing import hinted, purge
from tests.binlog_sync.shell import Shell


@pytest.fixture
def own(forgetful_server, mongodb_server, name):
    with Bench(forgetful_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY)")
        yield bench


@pytest.fixture
def shell(own, tmp_path, capsys):
    return Shell(own, tmp_path, capsys)


def accept(shell, lost, *arguments, source=None):
    named = source or shell.bench.name
    said = shell("accept-gap", "--source", named, "--reason", "r", "--lost", lost, *arguments)
    assert said.code == 0, said.err


def prepare(bench, row):
    """Leave an XA transaction that waits, on a connection that is gone."""
    connection = bench.server.connect(database=bench.name)
    with contextlib.closing(connection), connection.cursor() as cursor:
        for said in ("XA START 'x'", f"INSERT INTO t VALUES ({row})", "XA END 'x'"):
            cursor.execute(said)
        cursor.execute("XA PREPARE 'x'")


def settle(bench):
    """XA COMMIT, as soon as the server has let go of the connection that prepared it."""

    def settled():
        with contextlib.suppress(pymysql.MySQLError):
            bench.sql("XA COMMIT 'x'")
            return True
        return False

    wait_until(settled, "the XA transaction to be free")


def keys(bench):
    return [each["meta"]["pk"] for each in bench.rows("t")]


def whole(bench):
    seqs = [each["seq"] for each in bench.documents()]
    return seqs == list(range(1, len(seqs) + 1))


def test_an_xa_transaction_whose_rows_are_purged_is_given_up_and_nothing_comes_twice(own, shell):
    """Twice lost: its place, then its XA COMMIT; the rows behind it are in the trail already."""
    prepare(own, 1)
    own.sql("FLUSH BINARY LOGS", f"INSERT INTO {own.name}.t VALUES (10)")
    own.sync()
    own.sql("FLUSH BINARY LOGS", f"INSERT INTO {own.name}.t VALUES (11)")
    own.sync()
    purge(own.server)

    accept(shell, hinted(own))
    own.sync()
    own.sql(f"INSERT INTO {own.name}.t VALUES (12)")
    settle(own)
    own.sql(f"INSERT INTO {own.name}.t VALUES (13)")
    accept(shell, hinted(own))
    own.sync()

    assert keys(own) == [10, 11, 12, 13]
    assert whole(own)


def test_an_xa_commit_of_what_was_prepared_before_the_trail_is_accepted_by_its_name(own, shell):
    prepare(own, 1)
    own.sync(start="current")
    own.sql(f"INSERT INTO {own.name}.t VALUES (2)")
    settle(own)
    own.sql(f"INSERT INTO {own.name}.t VALUES (3)")

    lost = hinted(own)
    wrong = shell("accept-gap", "--source", own.name, "--reason", "r", "--lost", "binlog.000777:4")
    accept(shell, lost)
    own.sync()

    assert wrong.code == 3
    assert lost in wrong.err
    assert keys(own) == [2, 3]
    assert whole(own)


@pytest.mark.parametrize("forgetful_server", ["MySQL", "MariaDB"], indirect=True)
def test_a_source_that_lost_its_last_transactions_is_not_read_from_its_beginning(own, shell):
    """Restored, or crashed: it numbers the next ones as those that the trail has."""
    own.sql(*[f"INSERT INTO {own.name}.t VALUES ({number})" for number in range(3)])
    own.sync()
    with own.mongo() as client:
        offsets = client[own.name].binlog_offsets
        saved = offsets.find_one({"_id": own.name})
        separator = ":1-" if ":" in saved["gtid"] else "-"
        head, _, last = saved["gtid"].rpartition(separator)
        further = f"{head}{separator}{int(last) + 2}"
        offsets.update_one({"_id": own.name}, {"$set": {"gtid": further}})

    accept(shell, hinted(own), "--incarnation", "1")
    own.sql(*[f"INSERT INTO {own.name}.t VALUES ({number})" for number in range(3, 8)])
    own.sync(incarnation=1)

    assert keys(own) == list(range(8))
    assert whole(own)


@pytest.mark.parametrize("forgetful_server", ["MySQL"], indirect=True)
def test_a_gap_of_one_source_touches_no_other_in_the_same_trail(own, shell):
    own.sync(source="one")
    own.sync(source="two")
    own.sql(f"INSERT INTO {own.name}.t VALUES (1)")
    purge(own.server)
    own.sql(f"INSERT INTO {own.name}.t VALUES (2)")
    lost = hinted(own, source="one")
    with own.mongo() as client:
        trail = client[own.name]
        before = trail.binlog_offsets.find_one({"_id": "two"})
        documents = trail.row_changes.count_documents({})

        accept(shell, lost, source="one")

        assert trail.binlog_offsets.find_one({"_id": "two"}) == before
        assert trail.row_changes.count_documents({}) == documents + 1
        assert not trail.row_changes_staging.count_documents({"source": "two"})
        own.sync(source="one")
        assert trail.binlog_offsets.find_one({"_id": "two"}) == before
        assert hinted(own, source="two") == lost
        accept(shell, lost, source="two")
        own.sync(source="two")
        gaps = list(trail.row_changes.find({"op": "gap"}))
        rows = list(trail.row_changes.find({"op": "i"}))
    assert len({bytes(each["_id"])[:5] for each in gaps}) == 2
    assert [each["meta"]["pk"] for each in rows] == [2, 2]
