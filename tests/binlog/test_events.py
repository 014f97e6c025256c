"""Bodies of events: what they say is read, what they cannot say is corrupt."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog import events
from caretaker.binlog.frames import Event, Frames
from caretaker.binlog.model import EventType, MysqlGtid
from caretaker.errors import CorruptEventError
from tests.binlog import wire
from tests.binlog.recordings import decompress, recording


def bodies(name: str, kind: int) -> list[bytes]:
    frames = Frames()
    opened = [frames.open(payload) for payload in recording(name).payloads]
    return [each.body for each in opened if isinstance(each, Event) and each.type == kind]


def test_tagged_gtids_are_those_the_server_says_it_executed():
    heads = [events.parse_gtid_tagged(body) for body in bodies("mysql-tagged", 42)]
    told = recording("mysql-tagged")

    tags = [head.gtid.tag for head in heads if head.gtid]
    assert tags == ["foo_1", "bar", "bar"]
    assert all(f":{tag}:" in told.executed_after for tag in tags)
    assert all(head.commit_us > 1_700_000_000_000_000 for head in heads if head.commit_us)


def field(number: int, value: bytes) -> bytes:
    return bytes((number << 1,)) + value


def tagged(fields: bytes, *, must_know: int = 0, version: int = 1) -> bytes:
    return bytes((version << 1, (len(fields) + 3) << 1, must_know << 1)) + fields


UUID_FIELD = field(1, b"\2" * 16)
GNO_FIELD = field(2, b"\x14")  # signed: 5, doubled for the sign, doubled for the length


def test_a_field_of_the_future_is_passed_over_unless_it_must_be_known():
    fields = UUID_FIELD + GNO_FIELD + field(3, b"\2a") + field(20, b"\x7f")

    assert events.parse_gtid_tagged(tagged(fields)).gtid == MysqlGtid(b"\1" * 16, "a", 5)
    with pytest.raises(CorruptEventError, match="unknown field 20"):
        events.parse_gtid_tagged(tagged(fields, must_know=20))


@pytest.mark.parametrize(
    "body",
    [
        tagged(GNO_FIELD),
        tagged(UUID_FIELD),
        tagged(UUID_FIELD + GNO_FIELD, version=2),
        tagged(UUID_FIELD + GNO_FIELD + field(3, b"\x7e" + b"a" * 63)),
        tagged(UUID_FIELD + GNO_FIELD)[:-1],
        b"",
    ],
)
def test_a_tagged_gtid_that_lacks_something_is_corrupt(body):
    with pytest.raises(CorruptEventError):
        events.parse_gtid_tagged(body)


def test_the_time_of_the_first_server_wins_over_that_of_a_replica():
    base = struct.pack("<B16sqBqq", 0, wire.SERVER, 3, 2, 0, 1)
    immediate, original = (5 | 1 << 55).to_bytes(7, "little"), (4).to_bytes(7, "little")

    assert events.parse_gtid(base + immediate + original, anonymous=False).commit_us == 4
    assert events.parse_gtid(base + (5).to_bytes(7, "little"), anonymous=False).commit_us == 5
    assert events.parse_gtid(base, anonymous=False).commit_us is None


def test_status_variables_of_the_future_do_not_hide_the_statement():
    body = wire.query_body(b"DROP TABLE t", status=b"\x04\x21\0\xff\0\xff\0" + b"\xee" * 90)
    query = events.parse_query(body)

    assert (query.sql, query.schema, query.collation) == (b"DROP TABLE t", b"s", 33)


def test_a_compressed_statement_of_mariadb():
    [body] = bodies("mariadb-compressed", EventType.QUERY_COMPRESSED)
    assert events.parse_query(body, compressed=True).sql.startswith(b"ALTER TABLE story.t ADD")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00abc",
        b"\x84\xff\xff\xff\xff" + zlib.compress(b"x"),
        b"\x81\x05" + zlib.compress(b"x" * 6),
        b"\x81\x07" + zlib.compress(b"x" * 6),
        b"\x81\x06no zlib",
        b"\x81\x06" + zlib.compress(b"x" * 6)[:-3],
    ],
)
def test_compression_that_claims_what_is_not_so_is_corrupt(data):
    with pytest.raises(CorruptEventError):
        events.inflate(data)


def payload(inflated: bytes, *, claimed: int | None = None, algorithm: int = 0) -> bytes:
    data = zstandard.compress(inflated) if algorithm == 0 else inflated
    size = len(inflated) if claimed is None else claimed

    def entry(kind: int, value: int) -> bytes:
        return bytes((kind, 9, 254)) + value.to_bytes(8, "little")

    return entry(1, len(data)) + entry(2, algorithm) + entry(3, size) + b"\0" + data


EVENTS = [wire.inner(EventType.XID, bytes(8)), wire.inner(EventType.QUERY, wire.query_body(b"x"))]


@pytest.mark.parametrize("algorithm", [0, 255])
def test_the_events_of_a_payload(algorithm):
    body = payload(b"".join(EVENTS), algorithm=algorithm)
    assert list(events.payload_events(body, decompress)) == EVENTS


@pytest.mark.parametrize(
    "body",
    [
        payload(b"".join(EVENTS), claimed=10),
        payload(b"".join(EVENTS), claimed=1 << 40),
        payload(b"".join(EVENTS)[:-1]),
        payload(bytes(1 << 20)),
        payload(b"".join(EVENTS), algorithm=3),
        payload(b"".join(EVENTS)) + b"x",
        payload(b"".join(EVENTS))[:-1],
        b"\x01\x01\x05\x02\x01\x00\x00zstd?",
        b"\x01",
        b"",
    ],
)
def test_a_payload_that_is_not_what_it_claims_is_corrupt(body):
    with pytest.raises(CorruptEventError):
        list(events.payload_events(body, decompress))


def test_a_bomb_costs_no_memory():
    one = wire.inner(EventType.ROWS_QUERY, bytes(1000))
    bomb = payload(one * 20_000)  # 20 MB in some 2 kB
    tracemalloc.start()
    count = sum(1 for _ in events.payload_events(bomb, decompress))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 20_000
    assert len(bomb) < 20_000
    assert peak < 2_000_000


PARSERS = [
    lambda body: events.parse_gtid(body, anonymous=False),
    events.parse_gtid_tagged,
    lambda body: events.parse_mariadb_gtid(body, 1),
    events.parse_query,
    lambda body: events.parse_query(body, compressed=True),
    events.inflate,
    events.parse_xa_prepare,
    events.parse_incident,
    lambda body: list(events.payload_events(body, decompress)),
]


@pytest.mark.parametrize("parser", PARSERS)
@given(body=st.binary(max_size=120))
def test_any_bytes_are_read_or_corrupt(parser, body):
    with contextlib.suppress(CorruptEventError):
        parser(body)


def test_an_xa_prepare_of_a_real_server():
    prepares = [events.parse_xa_prepare(body) for body in bodies("mysql-xa", 38)]

    assert [p.one_phase for p in prepares].count(True) == 1
    assert prepares[0].xid == "X'646f6e65',X'6272616e6368',7"


def test_a_mariadb_gtid_of_an_xa_transaction():
    heads = [events.parse_mariadb_gtid(body, 7) for body in bodies("mariadb-xa", 162)]

    first = next(head.prepares for head in heads if head.prepares)
    assert first == "X'646f6e65',X'6272616e6368',7"
    assert not any(head.alters_later for head in heads)


@pytest.mark.parametrize(
    "body",
    [
        wire.query_body(b"INSERT INTO t VALUES (1) -- \0BEGIN"),
        wire.query_body(b"BEGIN; DELETE FROM t"),
        wire.query_body(b"begin"),
        wire.query_body(b""),
        wire.query_body(b"BEGIN", schema=b"s")[:-1],
        b"\0BEGIN",
        b"",
    ],
)
def test_only_begin_alone_is_passed_over_as_begin(body):
    """Whoever believed the end of a statement would lose the statement."""
    assert not events.is_begin(body)


@pytest.mark.parametrize("schema", [b"", b"s", b"x" * 64])
@pytest.mark.parametrize("status", [b"", b"\0\0\0\0\0", b"v" * 300])
def test_begin_is_begin_in_any_database(schema, status):
    body = wire.query_body(b"BEGIN", schema=schema, status=status)
    assert events.is_begin(body)
    assert events.parse_query(body).sql == b"BEGIN"
