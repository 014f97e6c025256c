"""Bytes of a connection become events, whole and checked, or nothing does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog.frames import Event, Frames, Packets, parse_heartbeat_v2
from caretaker.binlog.model import EndOfLog, Position
from caretaker.errors import CorruptEventError, LostPositionError, RefusedError, TransientError
from tests.binlog import wire
from tests.binlog.recordings import recording


def opened(frames: Frames, payload: bytes) -> Event:
    event = frames.open(payload)
    assert isinstance(event, Event)
    return event


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_payloads_do_not_depend_on_how_the_bytes_arrive(sizes):
    told = recording("mysql-tagged")
    data, packets, got = told.wire, Packets(), []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        got += packets.feed(data[at : at + size])
        at, turn = at + size, turn + 1

    assert got == told.payloads


def test_a_row_of_17_mb_is_one_event():
    told = recording("mysql-big")
    full = [packet for packet in told.packets if packet[:3] == b"\xff\xff\xff"]

    largest = max(told.payloads, key=len)

    assert full
    assert len(largest) > 17_000_000
    frames = Frames()
    for payload in told.payloads:
        frames.open(payload)  # its checksum is over the whole


def test_a_payload_of_exactly_one_full_packet_ends_with_an_empty_one():
    payload = bytes(0xFFFFFF)
    assert Packets().feed(wire.packet(payload, 1)) == [payload]


def test_a_packet_out_of_turn_is_corrupt():
    packets = Packets()
    packets.feed(wire.packet(b"a", 255) + wire.packet(b"b", 0))
    with pytest.raises(CorruptEventError, match="packet 2 arrived where 1 was due"):
        packets.feed(wire.packet(b"c", 2))


@pytest.mark.parametrize("name", ["mysql-plain", "mariadb-plain", "mysql-asked_none"])
def test_a_flipped_bit_anywhere_in_an_event_of_the_file_is_noticed(name):
    payloads = [p for p in recording(name).payloads if p[:1] == b"\0"]
    chance = random.Random(7)  # noqa: S311
    for which in range(1, len(payloads)):
        if payloads[which][5] == 4:  # what the server makes up may go without a checksum
            continue
        frames = Frames()
        for payload in payloads[:which]:
            event = opened(frames, payload)
            if event.type == 4 and event.flags & 0x20:
                frames.enter(Position("f.000001", 4))
        for _ in range(40):
            broken = bytearray(payloads[which])
            at = chance.randrange(1, len(broken))
            broken[at] ^= 1 << chance.randrange(8)
            if at == 18 and broken[5] == 15:
                continue  # the flag that says the file is in use is not under the checksum
            with pytest.raises(CorruptEventError):
                frames.open(bytes(broken))


def test_a_source_without_checksums_is_read_and_the_bytes_are_not_cut_short():
    told = recording("mysql-unchecked")
    frames = Frames()
    events = [frames.open(payload) for payload in told.payloads]
    xids = [event for event in events if isinstance(event, Event) and event.type == 16]

    assert [len(event.body) for event in xids] == [8]


def test_the_flag_of_a_file_in_use_is_not_under_the_checksum():
    frames = Frames()
    frames.open(wire.rotate())
    assert opened(frames, wire.description(flags=1)).type == 15


def test_positions_go_on_past_4_gib():
    frames = Frames()
    frames.enter(Position("binlog.000001", 0xFFFFFF00))
    frames.open(wire.description())

    first = opened(frames, wire.xid(log_pos=0xFFFFFFF0))
    second = opened(frames, wire.xid(log_pos=0x1_0000_0050))

    assert (first.pos, second.pos) == (0xFFFFFFF0, 0x1_0000_0050)
    assert second.start == Position("binlog.000001", 0x1_0000_0050 - second.size)


def test_a_position_that_a_server_made_up_moves_nothing():
    told = recording("mariadb-held")  # a made-up GTID list carries one from further on
    frames = Frames()
    last = 0
    for payload in told.payloads:
        event = frames.open(payload)
        if isinstance(event, Event):
            if event.type == 4:
                frames.enter(Position("mbin.000001", 4))
            assert frames.pos >= last
            last = frames.pos
    assert last == 2303


def test_an_event_before_the_format_description_is_corrupt():
    with pytest.raises(CorruptEventError, match="before the format description"):
        Frames().open(wire.xid())


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0" * 19, b"\xfe" * 30, b"\xff", b"\x07abc"])
def test_what_is_no_packet_of_a_dump_is_corrupt(payload):
    with pytest.raises(CorruptEventError):
        Frames().open(payload)


def test_the_end_of_a_dump_that_does_not_wait():
    assert isinstance(Frames().open(b"\xfe\0\0\2\0"), EndOfLog)


def error_packet(code: int, message: str) -> bytes:
    return b"\xff" + code.to_bytes(2, "little") + b"#HY000" + message.encode()


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (
            1236,
            "Cannot replicate because the source purged required binary logs.",
            LostPositionError,
        ),
        (1236, "Could not find first log file name in binary log index file", LostPositionError),
        (
            1236,
            "Client requested source to start replication from position > file size",
            LostPositionError,
        ),
        (1236, "Replica has more GTIDs than the source has", LostPositionError),
        (
            1236,
            "Could not find GTID state requested by slave in any binlog files.",
            LostPositionError,
        ),
        (1236, "requested GTID 0-1-9, which is not in the master's binlog", LostPositionError),
        (
            1236,
            "binlog truncated in the middle of event; consider out of disk space",
            CorruptEventError,
        ),
        (
            1236,
            "A replica with the same server_uuid/server_id as this replica has connected",
            RefusedError,
        ),
        (
            1236,
            "log event entry exceeded max_allowed_packet; Increase max_allowed_packet",
            RefusedError,
        ),
        (1236, "something never seen", RefusedError),
        (1045, "Access denied for user", RefusedError),
        (1227, "you need (at least one of) the REPLICATION SLAVE privilege(s)", RefusedError),
        (1040, "Too many connections", TransientError),
        (1053, "Server shutdown in progress", TransientError),
        (1927, "Connection was killed", TransientError),
        (2013, "Lost connection", TransientError),
    ],
)
def test_an_error_packet_says_whether_to_come_back(code, message, kind):
    with pytest.raises(kind) as caught:
        Frames().open(error_packet(code, message))
    assert type(caught.value) is kind
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "name", ["mysql-purged", "mariadb-purged", "mysql-foreign", "mariadb-foreign"]
)
def test_real_servers_that_cannot_go_on_are_lost_positions(name):
    [payload] = recording(name).payloads
    with pytest.raises(LostPositionError):
        Frames().open(payload)


def test_a_heartbeat_of_version_2_carries_64_bits():
    body = b"\x01\x0dbinlog.000009\x02\x09\xfe" + (5 << 32).to_bytes(8, "little") + b"\0"
    assert parse_heartbeat_v2(body) == Position("binlog.000009", 5 << 32)
