"""A source that cannot be followed says so before anything is written, with what to run."""

from __future__ import annotations

import pytest

from caretaker.binlog.model import Mode
from caretaker.errors import InvalidSettingError, RefusedError
from resources.mysql.source import open_source
from tests.mysql.reading import follow

pytestmark = pytest.mark.live("mysql")


def problems_of(source):
    return {problem.setting: problem for problem in source.check()}


def test_a_source_as_it_should_be_has_no_problems(source):
    """For a user who may do everything."""
    assert source.check() == []


def test_a_user_who_may_only_read_and_follow_is_enough(server, open_at):
    """The least privileges that the documentation asks for."""
    source = open_at(server.reader_url)
    assert [str(problem) for problem in source.check() if problem.blocking] == []
    source.dump(source.now()).close()


def test_settings_that_lose_changes_are_named_with_what_is_needed(start_server, open_at, system):
    """Each with what was found and the statement that mends it, which does."""
    server = start_server(
        binlog_format="STATEMENT",
        binlog_row_image="MINIMAL",
        binlog_row_metadata="NO_LOG" if system == "mariadb" else "MINIMAL",
        binlog_checksum="NONE",
    )
    source = open_at(server.url)
    found = problems_of(source)
    assert found["binlog_format"].found == "STATEMENT"
    assert found["binlog_row_image"].found == "MINIMAL"
    assert found["binlog_row_metadata"].blocking
    assert not found["binlog_checksum"].blocking

    server.run(*(problem.remedy.partition(" and the same")[0] for problem in found.values()))

    assert problems_of(source) == {}


def test_a_server_without_binlog_is_refused(start_server, open_at):
    """With the line for its configuration."""
    source = open_at(
        start_server(log_bin=None, gtid_mode=False, enforce_gtid_consistency=False).url
        if "mysql" in start_server.__qualname__
        else start_server(log_bin=None).url
    )
    found = problems_of(source)
    assert found["log_bin"].blocking
    assert "log_bin = " in found["log_bin"].remedy
    with pytest.raises(RefusedError):
        source.now()


def test_a_source_without_gtids_is_followed_by_file_and_said_to_be(start_mysql, open_at):
    """Unless GTIDs were asked for; a mode between on and off is refused."""
    server = start_mysql(gtid_mode=False)
    source = open_at(server.url)
    assert source.facts().mode is Mode.FILE
    assert not problems_of(source)["gtid_mode"].blocking
    assert problems_of(open_at(f"{server.url}?mode=gtid"))["gtid_mode"].blocking
    server.run("SET GLOBAL gtid_mode = OFF_PERMISSIVE", "SET GLOBAL gtid_mode = ON_PERMISSIVE")
    assert problems_of(source)["gtid_mode"].blocking


@pytest.fixture
def user_with(server, name):
    """Make users with some privileges."""
    users: list[str] = []

    def makes(*privileges):
        user = f"u{len(users)}{name[-8:]}"
        users.append(user)
        server.run(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'p@ss/word'")
        if privileges:
            server.run(f"GRANT {', '.join(privileges)} ON *.* TO {user}@'127.0.0.1'")
        at = server.url.rpartition("@")[2]
        return f"mysql://{user}:p%40ss%2Fword@{at}"

    yield makes
    server.run(*(f"DROP USER {user}@'127.0.0.1'" for user in users))


@pytest.mark.parametrize("missing", ["REPLICATION SLAVE", "REPLICATION CLIENT", "SELECT"])
def test_a_missing_privilege_is_named_with_its_grant(
    server, user_with, open_at, system, database, missing
):
    """And the grant, run as it stands, mends it."""
    server.run(f"CREATE TABLE {database}.t (id INT PRIMARY KEY)")
    has = {"REPLICATION SLAVE", "REPLICATION CLIENT", "SELECT"} - {missing}
    source = open_at(user_with(*sorted(has)))

    found = problems_of(source)

    named = (
        missing if system == "mysql" else missing.replace("REPLICATION CLIENT", "BINLOG MONITOR")
    )
    assert set(found) == {f"privilege {named}"}
    assert found[f"privilege {named}"].blocking == (missing != "SELECT" or system == "mariadb")
    server.run(*(problem.remedy for problem in found.values()))
    source.close()
    assert problems_of(source) == {}


def test_a_server_id_that_somebody_else_has_is_refused(server, open_at):
    """The source would end the one dump for the other, for ever."""
    url = f"{server.url}?server_id=4242"
    first = open_at(url, "first")
    reader = follow(first, first.now())
    try:
        found = problems_of(open_at(url, "second"))
        assert "taken by" in found["server_id"].found
        assert "server_id" not in problems_of(first)
    finally:
        reader.close()


def test_the_number_of_the_source_itself_is_refused(server, open_at):
    """No server follows itself."""
    ((number,),) = server.ask("SELECT @@server_id")
    assert problems_of(open_at(f"{server.url}?server_id={number}"))["server_id"].blocking


def test_tables_whose_cascades_are_not_logged_are_reported(server, source, database, system):
    """MariaDB leaves them out of its binlog; MySQL 9.7 does not."""
    server.run(
        f"CREATE TABLE {database}.parent (id INT PRIMARY KEY)",
        f"CREATE TABLE {database}.child (id INT PRIMARY KEY, p INT,"
        f" FOREIGN KEY (p) REFERENCES {database}.parent (id) ON DELETE CASCADE)",
    )
    found = problems_of(source)
    if system == "mysql":
        assert found == {}
    else:
        assert f"{database}.child" in found["foreign keys that cascade"].found
        assert not found["foreign keys that cascade"].blocking


def test_binlogs_that_are_kept_for_hours_only_are_reported(start_server, open_at):
    """A sync that stands still over a weekend would have lost changes."""
    source = open_at(start_server(binlog_expire_logs_seconds=3600).url)
    problem = problems_of(source)["binlog_expire_logs_seconds"]
    assert not problem.blocking
    assert "3600" in problem.found


def test_a_wrong_password_is_refused_without_being_told(server, open_at):
    """The message names the user, the host and the variable, and no password."""
    url = server.url.replace("root:caretaker", "root:s3cret%2Fword")
    with pytest.raises(RefusedError) as error:
        open_at(url).check()
    told = f"{error.value} {error.value.hint} {error.value.__cause__}"
    assert "root" in told
    assert "MYSQL_URL" in told
    assert "s3cret" not in told
    assert "caretaker@" not in told


def test_an_unknown_host_is_named():
    """By the variable that has it."""
    with pytest.raises(InvalidSettingError, match="no-such-host") as error:
        open_source("mysql://me:s3cret@no-such-host.invalid/").check()
    assert error.value.key == "MYSQL_URL"
    assert "s3cret" not in str(error.value)
