# ruff: noqa: S608 - the tables are our own
"""What breaks on the way costs a reader nothing but time; what is lost is said, not passed over."""

from __future__ import annotations

import time

import pytest

from caretaker.binlog.model import Checkpoint, Commit, Flavor, Heartbeat, Position, Rows
from caretaker.errors import CorruptEventError, LostPositionError, TransientError
from resources.mysql.dump import Dump
from tests.mysql.proxy import Proxy
from tests.mysql.reading import follow, read

pytestmark = pytest.mark.live("mysql")

TABLE = ("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT)")


def insert(server, *texts):
    server.run(*(f"INSERT INTO d.t (v) VALUES ('{text}')" for text in texts))


def forget(server):
    """RESET BINARY LOGS AND GTIDS in the server's own words."""
    mysql = "MariaDB" not in server.ask("SELECT VERSION()")[0][0]
    server.run("RESET BINARY LOGS AND GTIDS" if mysql else "RESET MASTER")


def purge(server):
    """Remove all binlogs but the newest; MariaDB waits for a dump that has just ended."""
    server.run("FLUSH BINARY LOGS")
    newest = server.ask("SHOW BINARY LOGS")[-1][0]
    for _ in range(100):
        server.run(f"PURGE BINARY LOGS TO '{newest}'")
        if len(server.ask("SHOW BINARY LOGS")) == 1:
            return
        time.sleep(0.1)
    raise AssertionError("not purged")


def kill_dumps(server):
    """End every dump as an operator would; whether there was one."""
    killed = [row[0] for row in server.ask("SHOW PROCESSLIST") if str(row[4]).startswith("Binlog")]
    for thread in killed:
        server.run(f"KILL {thread}")
    return bool(killed)


@pytest.fixture
def mine(start_server, open_at):
    """A server of one's own with a table, and its source."""
    server = start_server()
    server.run(*TABLE)
    return server, open_at(server.url)


@pytest.fixture
def proxied(mine, open_at):
    """The same behind a proxy."""
    server, _ = mine
    with Proxy(server.url) as proxy:
        yield server, proxy, open_at(proxy.url)


def test_a_dump_that_is_killed_within_a_transaction_is_gone_on_with(mine):
    """Each row once, although the connection ended between two rows of one transaction."""
    server, source = mine
    start = source.now()
    rows = ", ".join(f"('{number:05} {'x' * 900}')" for number in range(20000))
    server.run(f"INSERT INTO d.t (v) VALUES {rows}")
    reader = follow(source, start)
    first = reader.until(Rows, times=5)
    assert first.checkpoint.inflight is not None
    assert kill_dumps(server)
    with pytest.raises(TransientError):
        reader.until(Commit)
    reader.close()
    before = [text[:5] for text in first.values()]

    rest = read(source, first.checkpoint)

    assert 0 < len(before) < 20000
    assert before + [t[:5] for t in rest.values()] == [f"{number:05}" for number in range(20000)]


def test_a_dropped_connection_is_not_a_replay_from_the_start(proxied):
    """The next dump begins where the trail is, not where the first one began."""
    server, proxy, source = proxied
    reader = follow(source, source.now())
    insert(server, "one", "two")
    first = reader.until(Commit, times=2)
    proxy.cut()
    with pytest.raises(TransientError, match=r"closed|broke"):
        reader.until(Commit)
    reader.close()
    insert(server, "three")

    assert read(source, first.checkpoint).values() == ["three"]


def test_a_byte_that_changed_on_the_way_stops_the_reader(proxied):
    """The checksum is of every event: the message says which one, and where."""
    server, proxy, source = proxied
    start = source.now()
    insert(server, "fine", "flip me")
    proxy.flip = b"flip me"
    with pytest.raises(CorruptEventError, match=r"binlog\.0.*checksum of .*ROWS"):
        read(source, start)
    proxy.flip = b""
    assert read(source, start).values() == ["fine", "flip me"]


def test_a_source_that_is_silent_is_taken_for_dead(proxied, monkeypatch):
    """Without a word, not even heartbeats, the connection is worth nothing."""
    monkeypatch.setattr("resources.mysql.dump._LEAST_SILENCE_S", 1.0)
    _, proxy, source = proxied
    reader = follow(source, source.now())
    reader.until(Heartbeat)
    proxy.mute.set()
    with pytest.raises(TransientError, match="silent"):
        reader.until(Commit)
    reader.close()


def test_a_reader_that_was_busy_does_not_take_the_source_for_dead(mine, monkeypatch):
    """Only what it waited itself is silence."""
    monkeypatch.setattr("resources.mysql.dump._LEAST_SILENCE_S", 0.7)
    _, source = mine
    reader = follow(source, source.now())
    reader.until(Heartbeat)
    time.sleep(1.5)
    reader.until(Heartbeat, times=2)
    reader.close()


def test_a_server_that_is_away_is_a_matter_of_time(mine):
    """While it is down, and when it is back, on the same source."""
    server, source = mine
    start = source.now()
    insert(server, "before")
    server.kill()
    with pytest.raises(TransientError):
        source.dump(start)
    with pytest.raises(TransientError):
        source.facts()
    server.restart()
    insert(server, "after")
    assert read(source, start).values() == ["before", "after"]


def test_what_was_purged_unread_is_named(mine):
    """Lost history is an error with exactly what is missing; nobody jumps ahead."""
    server, source = mine
    start = source.now()
    insert(server, "lost", "lost, too")
    purge(server)
    insert(server, "there")
    with pytest.raises(LostPositionError, match="purged") as error:
        source.verify(start)
    executed = source.progression().gtid_executed
    if source.flavor() is Flavor.MYSQL:
        ((missing,),) = server.ask(f"SELECT GTID_SUBTRACT(@@gtid_purged, '{start.gtid}')")
        assert error.value.target == missing
    else:
        assert error.value.target == "0-2-3..4"
        assert executed == "0-2-5"
    with pytest.raises(LostPositionError):
        source.dump(start)
    assert read(source, source.earliest()).values() == ["there"]


def test_the_server_itself_says_1236_and_nobody_tries_again(mine):
    """A purge between the look and the dump: LostPositionError out of the stream."""
    server, source = mine
    start = source.now()
    insert(server, "lost")
    purge(server)
    source.verify = None
    source._judged = lambda *_: (source.progression(), None)
    with pytest.raises(LostPositionError, match="1236"):
        read(source, start)


def test_a_binlog_that_began_anew_is_found(mine):
    """RESET: the source has less than the trail."""
    server, source = mine
    insert(server, "one", "two")
    saved = source.now()
    uuid = source.facts().server_uuid
    forget(server)
    insert(server, "new")
    with pytest.raises(LostPositionError, match="never had"):
        source.verify(saved, uuid)


def test_a_binlog_that_began_anew_and_passed_the_old_numbers_is_found(mine):
    """Both subset tests hold then; what follows the trail's place gives it away."""
    server, source = mine
    insert(server, "one", "two", "three")
    saved = source.now()
    uuid = source.facts().server_uuid
    forget(server)
    insert(server, *(f"new {number}" for number in range(20)))
    assert source.progression().gtid_executed != saved.gtid
    with pytest.raises(LostPositionError, match="RESET") as error:
        source.verify(saved, uuid)
    assert "incarnation" in error.value.hint


def test_a_position_of_another_server_is_refused(mine, start_server, open_at):
    """Two servers with histories of their own."""
    server, source = mine
    insert(server, "mine")
    other = start_server(server_id=77)
    other.run(*TABLE)
    insert(other, "of the other", "of the other, too", "and more")
    with pytest.raises(LostPositionError, match="never had"):
        source.verify(open_at(other.url).now(), "somebody")


def test_a_position_of_the_other_kind_of_server_is_refused(mine):
    """A set of MySQL at a MariaDB, and the other way round."""
    _, source = mine
    other = "0-1-5" if source.flavor() is Flavor.MYSQL else "3e11fa47-71ca-11e1-9e33-c80aa9429562:1"
    with pytest.raises(LostPositionError, match="none of"):
        source.verify(Checkpoint(other, Position("", 0), 0))


def test_a_file_that_is_gone_or_too_short_is_refused(mine):
    """File mode: purged, past the end, another server."""
    server, source = mine
    here = Checkpoint(None, source.now().position, 0)
    uuid = source.facts().server_uuid
    source.verify(here, uuid)
    past = Checkpoint(None, here.position._replace(pos=here.position.pos + 1_000_000), 0)
    with pytest.raises(LostPositionError, match="only"):
        source.verify(past, uuid)
    with pytest.raises(LostPositionError, match="another server"):
        source.verify(here, "another")
    insert(server, "lost")
    purge(server)
    with pytest.raises(LostPositionError, match="any more"):
        source.verify(here, uuid)


@pytest.mark.parametrize("system", ["mysql"])
def test_a_replica_that_was_promoted_goes_on(mine, start_server, open_at):
    """The same transactions on another server: a failover, for the topology document."""
    server, source = mine
    insert(server, "one")
    saved = source.now()
    uuid = source.facts().server_uuid
    replica = start_server(server_id=9)
    port = server.url.rstrip("/").rpartition(":")[2]
    replica.run(
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port},"
        " SOURCE_USER='root', SOURCE_PASSWORD='caretaker', SOURCE_AUTO_POSITION=1,"
        " GET_SOURCE_PUBLIC_KEY=1",
        "START REPLICA",
    )
    insert(server, "two")
    wait_for(lambda: replica.ask("SELECT @@gtid_executed") == server.ask("SELECT @@gtid_executed"))
    replica.run("STOP REPLICA", "RESET REPLICA ALL")
    insert(replica, "three")
    promoted = open_at(replica.url)

    failover = promoted.verify(saved, uuid)

    assert failover.before == uuid
    assert failover.after == promoted.facts().server_uuid
    assert promoted.verify(failover.moved(saved), failover.after) is None
    assert read(promoted, saved, server_uuid=uuid).values() == ["two", "three"]


def test_a_promoted_replica_of_mariadb_goes_on(start_mariadb, open_at):
    """Its state has the domain with both servers."""
    server = start_mariadb()
    server.run(*TABLE)
    source = open_at(server.url)
    insert(server, "one")
    saved = source.now()
    uuid = source.facts().server_uuid
    replica = start_mariadb(server_id=9, log_slave_updates=True)
    port = server.url.rstrip("/").rpartition(":")[2]
    replica.run(
        f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root',"
        " MASTER_PASSWORD='caretaker', MASTER_USE_GTID=slave_pos",
        "START SLAVE",
    )
    insert(server, "two")
    wait_for(
        lambda: replica.ask("SELECT @@gtid_slave_pos") == server.ask("SELECT @@gtid_binlog_pos")
    )
    replica.run("STOP SLAVE", "RESET SLAVE ALL")
    insert(replica, "three")
    promoted = open_at(replica.url)

    failover = promoted.verify(saved, uuid)

    assert failover.after == "mariadb-9"
    assert read(promoted, saved, server_uuid=uuid).values() == ["two", "three"]


def wait_for(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_the_dump_says_that_another_server_answers_now(proxied, start_server):
    """An address may lead elsewhere from one connection to the next: the dump looks itself."""
    server, proxy, source = proxied
    insert(server, "one")
    saved = source.now()
    uuid = source.facts().server_uuid
    other = start_server(server_id=78)
    proxy.aim(other.url)
    with pytest.raises(LostPositionError):
        source.dump(saved, server_uuid=uuid)


def test_the_margin_is_what_is_left_of_the_file_that_is_read(mine):
    """Seconds until the source may remove it; nothing where it removes nothing by itself."""
    server, source = mine
    server.run("SET GLOBAL binlog_expire_logs_seconds = 86400")
    saved = source.now()
    assert source.purge_margin_s(saved) == 86400
    server.run("FLUSH BINARY LOGS")
    time.sleep(1.1)
    margin = source.purge_margin_s(saved)
    assert 86400 - 120 < margin < 86400
    server.run("SET GLOBAL binlog_expire_logs_seconds = 0")
    assert source.purge_margin_s(saved) is None


def test_nothing_is_left_of_the_margin_once_something_is_purged_unread(mine):
    """A file that was read to its end may go."""
    server, source = mine
    server.run("SET GLOBAL binlog_expire_logs_seconds = 86400")
    unread = source.now()
    insert(server, "one")
    read_to_the_end = source.now()
    purge(server)

    assert source.purge_margin_s(unread) == 0
    assert source.purge_margin_s(read_to_the_end) > 86400 - 120


def test_a_reader_that_starts_again_ends_the_dump_it_left_behind(mine):
    """After kill -9 the server still has the old dump: the new one replaces it."""
    _, source = mine
    left = follow(source, source.now())
    left.until(Heartbeat)
    again = follow(source, source.now())
    again.until(Heartbeat)
    assert [problem for problem in source.check() if problem.blocking] == []
    again.close()
    left.close()


def test_a_closed_dump_reads_no_more(mine):
    """Not even what had come already."""
    _, source = mine
    dump: Dump = source.dump(source.now())
    dump.close()
    with pytest.raises(TransientError):
        dump.read(1.0)
