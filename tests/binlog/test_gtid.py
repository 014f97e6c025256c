"""GTID sets: what the server says is what we say, and the algebra is that of sets."""

from __future__ import annotations

import contextlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog.frames import Frames
from caretaker.binlog.gtid import GtidSet, MariadbPosition, mysql_text
from caretaker.binlog.model import EndOfLog, EventType, MariadbGtid, MysqlGtid
from caretaker.errors import CaseError, CorruptEventError
from tests.binlog.recordings import all_recordings, recording

SERVERS = [uuid.UUID(int=number).bytes for number in (1, 2, 2**127)]
transactions = st.builds(
    MysqlGtid,
    st.sampled_from(SERVERS),
    st.sampled_from(["", "a", "b_2"]),
    st.integers(1, 30) | st.integers(2**63 - 4, 2**63 - 2),
)
naive = st.frozensets(transactions, max_size=25)


def set_of(members) -> GtidSet:
    result = GtidSet()
    for member in members:
        result.add(member)
    return result


@given(naive, naive)
def test_the_algebra_is_that_of_sets(one, other):
    a, b = set_of(one), set_of(other)

    assert a.union(b) == set_of(one | other)
    assert a.subtract(b) == set_of(one - other)
    assert a.issubset(b) == (one <= other)
    assert a.count() == len(one)
    assert all((each in a) == (each in one) for each in one | other)
    assert bool(a) == bool(one)


@given(naive)
def test_text_and_bytes_come_back_as_they_were(members):
    a = set_of(members)

    assert GtidSet.parse(str(a)) == a
    assert GtidSet.decode(a.encode()) == a
    assert GtidSet.decode(a.encode(tagged=True)) == a
    assert str(GtidSet.parse(str(a))) == str(a)


@given(naive, transactions)
def test_an_operation_leaves_its_operands_alone(members, more):
    a = set_of(members)
    before = str(a)

    changed = a.union(set_of([more]))
    changed.add(MysqlGtid(SERVERS[0], "", 77))

    assert str(a) == before


def previous_gtids(name: str) -> list[bytes]:
    frames = Frames()
    bodies = []
    for payload in recording(name).payloads:
        event = frames.open(payload)
        if not isinstance(event, EndOfLog) and event.type == EventType.PREVIOUS_GTIDS:
            bodies.append(event.body)
    return bodies


@pytest.mark.parametrize(
    "name", [n for n in all_recordings() if n.startswith("mysql") and recording(n).packets[1:]]
)
def test_what_a_server_wrote_is_written_back_byte_for_byte(name):
    for body in previous_gtids(name):
        assert GtidSet.decode(body).encode(tagged=body[7] == 1) == body


def test_recordings_have_sets_with_and_without_tags():
    [untagged, *_] = previous_gtids("mysql-plain")
    [tagged, *_] = previous_gtids("mysql-tagged")

    assert untagged[:8] == (1).to_bytes(8, "little")
    assert GtidSet.decode(untagged).encode() == untagged
    assert GtidSet.decode(tagged).encode() == tagged
    assert tagged[7] == 1
    assert ":foo_1:" in str(GtidSet.decode(tagged))


def test_the_servers_own_text_is_canonical():
    for name in all_recordings():
        told = recording(name)
        if told.flavor == "mysql":
            assert str(GtidSet.parse(told.executed_after)) == told.executed_after
        else:
            assert str(MariadbPosition.parse(told.executed_after)) == told.executed_after


def test_text_in_any_order_is_read_as_the_server_reads_it():
    one, two = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
    text = f" {two.upper()} : 7 : 1-3 : TAG : 5 ,\n{one}:4-6:5-9,{two}:4 "

    assert str(GtidSet.parse(text)) == f"{one}:4-9,{two}:1-4:7:tag:5"


@pytest.mark.parametrize(
    "text",
    [
        "x:1",
        "00000000-0000-0000-0000-000000000001",
        "00000000-0000-0000-0000-000000000001:0",
        "00000000-0000-0000-0000-000000000001:5-3",
        "00000000-0000-0000-0000-000000000001:tag",
        "00000000-0000-0000-0000-000000000001:tag:other:1",
        "00000000-0000-0000-0000-000000000001:1:tag",
        "00000000-0000-0000-0000-000000000001:9223372036854775807",
        "00000000-0000-0000-0000-000000000001:t-g:1",
        "{00000000-0000-0000-0000-000000000001}:1",
    ],
)
def test_a_text_that_is_no_set_is_refused(text):
    with pytest.raises(CaseError):
        GtidSet.parse(text)


@given(st.text(max_size=60))
def test_no_text_raises_anything_but_a_case_error(text):
    for parse in (GtidSet.parse, MariadbPosition.parse):
        with contextlib.suppress(CaseError):
            parse(text)


@given(naive, st.data())
def test_bytes_that_are_no_set_are_corrupt(members, data):
    raw = bytearray(set_of(members).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for mutated in (bytes(raw), bytes(raw[:cut])):
        with contextlib.suppress(CorruptEventError):
            GtidSet.decode(mutated)


def test_a_transaction_is_named_as_in_the_servers_log():
    gtid = MysqlGtid(uuid.UUID("d38e4ccc-e5a6-11f1-9ed6-02fc00000001").bytes, "foo_1", 7)

    assert mysql_text(gtid) == "d38e4ccc-e5a6-11f1-9ed6-02fc00000001:foo_1:7"
    assert gtid in GtidSet.parse(mysql_text(gtid))


def test_a_mariadb_position_keeps_the_last_of_each_domain():
    position = MariadbPosition.parse("5-7-1,0-7-80")
    position.add(MariadbGtid(0, 9, 81))

    assert str(position) == "0-9-81,5-7-1"
    assert position.last(5) == MariadbGtid(5, 7, 1)
    assert position.last(6) is None


@pytest.mark.parametrize("text", ["0-7", "0-7-1,0-8-2", "4294967296-1-1", "a-b-c", "0-1-2-3"])
def test_a_text_that_is_no_position_is_refused(text):
    with pytest.raises(CaseError):
        MariadbPosition.parse(text)
