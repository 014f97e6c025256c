"""What is concluded from what a source says of itself: no server needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog.continuity import continues
from caretaker.binlog.gtid import GtidSet
from caretaker.binlog.model import Checkpoint, Flavor, Mode, Position
from caretaker.binlog.preflight import problems, version_of
from caretaker.binlog.source_facts import LogFile, Progression, SourceFacts
from caretaker.errors import LostPositionError
from resources.mysql.follower import follower

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
LOGS = (LogFile("binlog.000003", 500), LogFile("binlog.000004", 900))
HERE = Position("binlog.000004", 900)
US = follower("audit")


def mysql(executed, purged="", **changes):
    told = Progression(Flavor.MYSQL, UUID, Mode.GTID, executed, purged, None, LOGS, HERE)
    return replace(told, **changes)


def mariadb(pos, state, oldest=""):
    return Progression(Flavor.MARIADB, "mariadb-1", Mode.GTID, pos, oldest, state, LOGS, HERE)


def at(gtid, pos=HERE, **changes):
    return Checkpoint(gtid, pos, 7, **changes)


def missing(checkpoint, source, uuid=None):
    with pytest.raises(LostPositionError) as error:
        continues(checkpoint, uuid, source)
    return error.value.target


def test_a_source_that_has_everything_goes_on():
    """The same set, or more; nothing purged that was not read."""
    assert continues(at(f"{UUID}:1-5"), UUID, mysql(f"{UUID}:1-9", f"{UUID}:1-5")) is None
    assert continues(at(""), None, mysql("")) is None


def test_exactly_what_is_missing_is_named_tags_included():
    """It is what accept-gap is told."""
    assert missing(at(f"{UUID}:1-5"), mysql(f"{UUID}:1-9:t:1-4", f"{UUID}:1-7:t:1")) == (
        f"{UUID}:6-7:t:1"
    )
    assert missing(at(f"{UUID}:1-5,{OTHER}:1-2"), mysql(f"{UUID}:1-9")) == f"{OTHER}:1-2"


def test_the_hole_of_an_xa_transaction_that_waits_is_lost_with_its_binlog():
    """The set lacks it on purpose: its rows must come again, and cannot."""
    assert missing(at(f"{UUID}:1-3:5-9"), mysql(f"{UUID}:1-9", f"{UUID}:1-6")) == f"{UUID}:4"


@given(st.sets(st.integers(1, 12)), st.sets(st.integers(1, 12)), st.sets(st.integers(1, 12)))
def test_a_source_goes_on_if_and_only_if_both_subset_tests_hold(saved, executed, purged):
    """`GTID_SUBSET(saved, executed)` and `GTID_SUBSET(purged, saved)`."""
    purged &= executed

    def text(numbers):
        return f"{UUID}:{':'.join(map(str, sorted(numbers)))}" if numbers else ""

    source = mysql(str(GtidSet.parse(text(executed))), text(purged))
    if saved <= executed and purged <= saved:
        assert continues(at(text(saved)), None, source) is None
    else:
        lost = (saved - executed) or (purged - saved)
        assert GtidSet.parse(missing(at(text(saved)), source)) == GtidSet.parse(text(lost))


def test_mariadb_is_judged_domain_by_domain():
    """By the server that wrote the last transaction, too."""
    state = "0-1-50,0-2-80,5-7-3"
    assert continues(at("0-1-50,5-7-3"), None, mariadb("0-2-80,5-7-3", state)) is None
    assert missing(at("0-1-51"), mariadb("0-2-80", state)) == "0-1-51"
    assert missing(at("0-3-9"), mariadb("0-2-80", state)) == "0-3-9"
    assert missing(at("9-1-1"), mariadb("0-2-80", state)) == "9-1-1"
    assert missing(at("0-1-50"), mariadb("0-2-80,5-7-3", state, "0-2-60,5-7-2")) == (
        "0-2-51..60,5-7-1..2"
    )


def test_where_the_trail_really_is_counts_too():
    """A held-back XA transaction makes the dump begin earlier than the trail ends."""
    source = mariadb("0-1-50", "0-1-50")
    assert continues(at("0-1-40", ahead="0-1-50"), None, source) is None
    assert missing(at("0-1-40", ahead="0-1-51"), source) == "0-1-51"


def test_another_server_is_a_failover_and_its_files_are_its_own():
    """The old place is not looked for there, and not kept."""
    behind = at(f"{UUID}:1-5", Position("binlog.000099", 5))
    failover = continues(behind, OTHER, mysql(f"{UUID}:1-9"))
    assert failover is not None
    assert (failover.before, failover.after) == (OTHER, UUID)
    assert continues(failover.moved(behind), UUID, mysql(f"{UUID}:1-9")) is None
    assert missing(behind, mysql(f"{UUID}:1-9"), UUID) == "binlog.000099:5"


def test_a_gtid_trail_does_not_go_on_by_file():
    """Whoever switched GTIDs off is told."""
    off = mysql(None, None, mode=Mode.FILE)
    assert missing(at(f"{UUID}:1"), off) == f"{UUID}:1"


GOOD = SourceFacts(
    flavor=Flavor.MYSQL,
    version="8.4.3",
    server_uuid=UUID,
    server_id=1,
    user="caretaker@10.%",
    settings={
        "log_bin": "ON",
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "gtid_mode": "ON",
        "binlog_expire_logs_seconds": "2592000",
    },
    progression=mysql(""),
)


def settings(**changed):
    return replace(GOOD, settings={**GOOD.settings, **changed})


def found(facts, mode=None):
    return {problem.setting: problem for problem in problems(facts, US, mode)}


def test_a_source_in_order_has_no_problems():
    """Nor has one by file that was asked for by file."""
    assert problems(GOOD, US) == []


@pytest.mark.parametrize(
    ("facts", "setting", "blocking"),
    [
        (settings(log_bin="OFF"), "log_bin", True),
        (settings(binlog_format="MIXED"), "binlog_format", True),
        (settings(binlog_row_image="NOBLOB"), "binlog_row_image", True),
        (settings(binlog_row_metadata="MINIMAL"), "binlog_row_metadata", True),
        (settings(gtid_mode="OFF"), "gtid_mode", False),
        (settings(gtid_mode="ON_PERMISSIVE"), "gtid_mode", True),
        (settings(binlog_expire_logs_seconds="3600"), "binlog_expire_logs_seconds", False),
        (settings(binlog_checksum="NONE"), "binlog_checksum", False),
        (replace(GOOD, version="5.7.44"), "version", True),
        (replace(GOOD, server_id=0), "server_id of the source", True),
        (replace(GOOD, server_id=US.server_id), "server_id", True),
        (
            replace(GOOD, denied=frozenset({"REPLICATION SLAVE"})),
            "privilege REPLICATION SLAVE",
            True,
        ),
        (replace(GOOD, columns_hidden=True), "privilege SELECT", False),
        (replace(GOOD, cascades=("a.b",)), "foreign keys that cascade", False),
    ],
)
def test_each_problem_is_said_with_what_is_needed(facts, setting, blocking):
    """And only that one."""
    (problem,) = problems(facts, US)
    assert problem.setting == setting
    assert problem.blocking == blocking
    assert problem.found
    assert problem.needed


def test_what_forbids_to_begin_comes_first():
    """Whoever reads one line reads the one that matters."""
    told = problems(settings(binlog_checksum="NONE", binlog_row_image="MINIMAL"), US)
    assert [problem.blocking for problem in told] == [True, False]


def test_a_binlog_that_is_never_removed_is_no_problem():
    """0 seconds, or no purge by itself."""
    assert found(settings(binlog_expire_logs_seconds="0")) == {}
    never = settings(binlog_expire_logs_seconds="60", binlog_expire_logs_auto_purge="OFF")
    assert found(never) == {}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("9.7.4-2", (9, 7, 4)),
        ("10.11.18-MariaDB-0+deb12u1-log", (10, 11, 18)),
        ("5.5.5-10.6.1-MariaDB", (10, 6, 1)),
        ("who knows", (0, 0, 0)),
    ],
)
def test_versions_are_read_as_servers_spell_them(text, version):
    """MariaDB puts one before its own for the sake of old clients."""
    assert version_of(text) == version
