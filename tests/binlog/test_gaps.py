"""Where a trail goes on behind an accepted loss: all that is still there is read, nothing twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caretaker.binlog.continuity import continues
from caretaker.binlog.gaps import beyond
from caretaker.binlog.model import Checkpoint, Flavor, Inflight, Mode, Position
from caretaker.binlog.source_facts import LogFile, Progression
from caretaker.errors import LostPositionError

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
LOGS = (LogFile("binlog.000003", 500), LogFile("binlog.000004", 900))
HERE = Position("binlog.000004", 700)


def mysql(executed, purged="", server=UUID):
    end = Position("binlog.000004", 900)
    return Progression(Flavor.MYSQL, server, Mode.GTID, executed, purged, None, LOGS, end)


def mariadb(state, oldest=""):
    told = mysql(state, oldest, "mariadb-1")
    return replace(told, flavor=Flavor.MARIADB, gtid_state=state)


def by_file():
    return replace(mysql(None, None), mode=Mode.FILE)


def accepted(saved, source, *, anew=False, uuid=None):
    """Accept what is lost, and see that the source goes on behind it."""
    with pytest.raises(LostPositionError) as lost:
        continues(saved, uuid or source.server_uuid, source)
    same = uuid in (None, source.server_uuid)
    after = beyond(saved, str(lost.value.target), source, same_server=same, anew=anew)
    continues(after, source.server_uuid, source)
    return after


def at(gtid, **changes):
    return Checkpoint(gtid, HERE, 7, **changes)


def test_what_a_restored_server_never_had_is_taken_out_and_nothing_read_again():
    assert accepted(at(f"{UUID}:1-9"), mysql(f"{UUID}:1-6")).gtid == f"{UUID}:1-6"
    assert accepted(at(f"{UUID}:1-9,{OTHER}:1-2"), mysql(f"{UUID}:1-9")).gtid == f"{UUID}:1-9"


def test_a_source_that_began_anew_is_read_from_its_beginning():
    assert accepted(at(f"{UUID}:1-9"), mysql(f"{UUID}:1-6"), anew=True).gtid == ""
    assert accepted(at(f"{OTHER}:1-9"), mysql(f"{UUID}:1-6", f"{UUID}:1-2")).gtid == f"{UUID}:1-2"


def test_another_server_is_no_source_that_began_anew():
    """All its binlogs are younger than the trail, and what both have is the same."""
    source = mysql(f"{UUID}:1-6,{OTHER}:1-3", server=OTHER)
    assert accepted(at(f"{UUID}:1-9"), source, anew=True, uuid=UUID).gtid == f"{UUID}:1-6"


def test_what_was_purged_is_put_in():
    after = accepted(at(f"{UUID}:1-3"), mysql(f"{UUID}:1-9", f"{UUID}:1-6"))
    assert after.gtid == f"{UUID}:1-6"


@pytest.mark.parametrize(("number", "kept"), [(5, False), (7, True), (9, False)])
def test_the_rest_of_a_transaction_in_flight_comes_if_it_is_there(number, kept):
    """Purged, there, or never there."""
    inflight = Inflight(f"{UUID}:{number}", 2, 1)
    saved = at(f"{UUID}:1-3,{OTHER}:1", inflight=inflight)
    purged = mysql(f"{UUID}:1-8,{OTHER}:1", f"{UUID}:1-6")
    source = purged if number == 5 else mysql(f"{UUID}:1-8")
    assert (accepted(saved, source).inflight == inflight) is kept


def test_what_was_purged_of_one_domain_of_mariadb_reads_no_other_domain_again():
    after = accepted(at("0-1-4,5-1-80"), mariadb("0-1-9,5-1-90", "0-1-6,5-1-20"))
    assert (after.gtid, after.ahead) == ("0-1-6,5-1-80", None)


def test_a_purged_xa_transaction_of_mariadb_does_not_bring_later_ones_again():
    after = accepted(at("0-1-4", ahead="0-1-8"), mariadb("0-1-9", "0-1-6"))
    assert (after.gtid, after.ahead) == ("0-1-6", "0-1-8")
    passed = accepted(at("0-1-4", ahead="0-1-5"), mariadb("0-1-9", "0-1-6"))
    assert (passed.gtid, passed.ahead) == ("0-1-6", None)


def test_a_mariadb_that_lost_its_end_goes_on_where_it_is():
    saved = at("0-1-9,5-1-3", ahead="0-1-12,5-1-3")
    after = accepted(saved, mariadb("0-1-10,5-1-3"))
    assert (after.gtid, after.ahead) == ("0-1-9,5-1-3", "0-1-10,5-1-3")
    assert accepted(at("0-1-12"), mariadb("0-1-10"), anew=True).gtid == ""


def test_a_purged_xa_transaction_of_files_does_not_bring_later_ones_again():
    waiting = Checkpoint(None, Position("binlog.000002", 157), 7, ahead="binlog.000004:700")
    after = accepted(waiting, by_file())
    assert (after.position, after.ahead) == (Position("binlog.000003", 4), "binlog.000004:700")
    gone = accepted(replace(waiting, ahead="binlog.000002:900"), by_file())
    assert (gone.position, gone.ahead) == (Position("binlog.000003", 4), None)


def test_a_file_that_lost_its_end_is_followed_by_the_next():
    short = Checkpoint(None, Position("binlog.000003", 800), 7)
    assert accepted(short, by_file()).position == Position("binlog.000004", 4)
    assert accepted(short, by_file(), anew=True).position == Position("binlog.000003", 4)
