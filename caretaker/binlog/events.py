"""The bodies of events that are not rows: what they say, checked byte by byte.

Layouts are the servers' own (libs/mysql/binlog/event, sql/log_event.h); every number was held
against recordings of MySQL 9.7 and MariaDB 10.11. Errors carry the reason, the stream adds the
place.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from caretaker.binlog.cursor import Cursor
from caretaker.binlog.frames import HEADER_BYTES
from caretaker.binlog.model import MariadbGtid, MysqlGtid
from caretaker.binlog.statements import xid_text
from caretaker.errors import CorruptEventError

#: Inflate a zstd stream piece by piece, so that no size that the stream claims has to be believed;
#: an error of the library is turned into CorruptEventError by whoever passes it in.
Decompress = Callable[[bytes], Iterable[bytes]]

# flags, uuid, gno, logical timestamp type, last committed, sequence number
_GTID = struct.Struct("<B16sqBqq")
_GTID_TIMES = 7
_ORIGINAL_FOLLOWS = 1 << 55
_GNO_END = 2**63 - 1


@dataclass(slots=True)
class GtidHead:
    """The head of a transaction of MySQL.

    Attributes:
        gtid: None for an anonymous transaction.
        commit_us: When it was committed on its first server; None before MySQL 8.0.1.
    """

    gtid: MysqlGtid | None
    commit_us: int | None


def parse_gtid(body: bytes, *, anonymous: bool) -> GtidHead:
    """Read GTID (33) or ANONYMOUS_GTID (34)."""
    if len(body) < _GTID.size:
        raise CorruptEventError(f"a GTID event of {len(body)} bytes")
    _, sid, gno, _, _, _ = _GTID.unpack_from(body)
    commit_us = None
    at = _GTID.size
    if len(body) >= at + _GTID_TIMES:
        commit_us = int.from_bytes(body[at : at + 7], "little")
        if commit_us & _ORIGINAL_FOLLOWS:
            if len(body) < at + 14:
                raise CorruptEventError("a GTID event cut short in its times")
            commit_us = int.from_bytes(body[at + 7 : at + 14], "little")
    if anonymous:
        return GtidHead(None, commit_us)
    return GtidHead(MysqlGtid(sid, "", _number(gno)), commit_us)


def _number(gno: int) -> int:
    if not 0 < gno < _GNO_END:
        raise CorruptEventError(f"{gno} is no transaction number")
    return gno


#: Field numbers of the tagged GTID event.
_UUID, _GNO, _TAG, _IMMEDIATE, _ORIGINAL = 1, 2, 3, 6, 7
_UNSIGNED_FIELDS = frozenset((0, 6, 7, 8, 9, 10, 11))
_SIGNED_FIELDS = frozenset((4, 5))
_MAX_TAG = 32


def parse_gtid_tagged(body: bytes) -> GtidHead:
    """Read GTID_TAGGED (42), a message of mysql::serialization.

    Fields come in rising order. One that we do not know ends the reading: its length is not in the
    message; up to `last_non_ignorable` such a field must not be passed over.
    """
    cursor = Cursor(body)
    if cursor.varlen() != 1:
        raise CorruptEventError("a tagged GTID event of an unknown version")
    before = len(body) - cursor.left
    size = cursor.varlen()
    must_know = cursor.varlen()
    # the size counts from the start of the message
    if size > len(body) or before > size:
        raise CorruptEventError(f"a tagged GTID event claims {size} bytes, it has {len(body)}")
    sid, gno, tag = b"", 0, ""
    times: dict[int, int] = {}
    while len(body) - cursor.left < size:
        field = cursor.varlen()
        if field == _UUID:
            sid = _uuid(cursor)
        elif field == _GNO:
            gno = cursor.signed_varlen()
        elif field == _TAG:
            tag = _tag(cursor)
        elif field in _UNSIGNED_FIELDS:
            times[field] = cursor.varlen()
        elif field in _SIGNED_FIELDS:
            cursor.signed_varlen()
        elif field <= must_know:
            raise CorruptEventError(f"a tagged GTID event with an unknown field {field}")
        else:
            break
    if len(sid) != 16:  # noqa: PLR2004
        raise CorruptEventError("a tagged GTID event without a uuid")
    commit_us = times.get(_ORIGINAL) or times.get(_IMMEDIATE)
    return GtidHead(MysqlGtid(sid, tag, _number(gno)), commit_us)


def _uuid(cursor: Cursor) -> bytes:
    values = [cursor.varlen() for _ in range(16)]
    if max(values) > 255:  # noqa: PLR2004
        raise CorruptEventError("a uuid with a byte over 255")
    return bytes(values)


def _tag(cursor: Cursor) -> str:
    count = cursor.varlen()
    if count > _MAX_TAG:
        raise CorruptEventError(f"a tag of {count} characters")
    return cursor.text(count, "tag")


#: Flags of MariaDB's GTID event.
_STANDALONE, _GROUP_COMMIT, _PREPARED_XA, _COMPLETED_XA = 1, 2, 64, 128
#: Flags of its second byte of flags: the halves of an ALTER that is logged at its start, too.
_START_ALTER, _COMMIT_ALTER, _ROLLBACK_ALTER = 2, 4, 8


@dataclass(slots=True)
class MariadbHead:
    """The head of a transaction of MariaDB.

    Attributes:
        standalone: One statement follows, and no COMMIT.
        prepares: The xid of an XA transaction that ends in XA PREPARE; None for any other.
        alters_later: The first half of an ALTER in two: it has changed nothing yet, or, as
            `alter_undone`, never will.
    """

    gtid: MariadbGtid
    standalone: bool
    prepares: str | None
    alters_later: bool
    alter_undone: bool


def parse_mariadb_gtid(body: bytes, server_id: int) -> MariadbHead:
    """Read GTID (162); the server id of the GTID is the one in the event's header."""
    cursor = Cursor(body)
    seq, domain, flags = cursor.uint(8), cursor.uint(4), cursor.uint(1)
    prepares = None
    if flags & _GROUP_COMMIT:
        cursor.take(8)
    if flags & (_PREPARED_XA | _COMPLETED_XA):
        xid = _mariadb_xid(cursor)
        prepares = xid if flags & _PREPARED_XA else None
    # short events are padded with zeros, which read as no flags
    extra = cursor.uint(1) if cursor.left else 0
    return MariadbHead(
        MariadbGtid(domain, server_id, seq),
        standalone=bool(flags & _STANDALONE),
        prepares=prepares,
        alters_later=bool(extra & _START_ALTER),
        alter_undone=bool(extra & _ROLLBACK_ALTER),
    )


def _mariadb_xid(cursor: Cursor) -> str:
    format_id, gtrid, bqual = cursor.uint(4), cursor.uint(1), cursor.uint(1)
    data = cursor.take(gtrid + bqual)
    return xid_text(data[:gtrid].hex(), data[gtrid:].hex(), format_id)


#: Thread id, seconds, length of the default database, error code, length of the status variables.
_QUERY = struct.Struct("<IIBHH")

#: Status variables in front of the character set, by the bytes they take; others end the search.
_STATUS_BYTES = {0: 4, 1: 8, 3: 4}
_STATUS_CHARSET = 4
_STATUS_CATALOG = 6


@dataclass(slots=True)
class Query:
    """A statement as logged."""

    schema: bytes
    error_code: int
    status: bytes
    sql: bytes

    @property
    def collation(self) -> int | None:
        """The client's collation id, None where the event does not say."""
        return _client_collation(self.status)


def is_begin(body: bytes) -> bool:
    """Whether a query event says BEGIN and nothing else, as every transaction of MySQL does."""
    if body[-len(_BEGIN) :] != _BEGIN or len(body) < _QUERY.size + len(_BEGIN):
        return False
    return len(body) == _QUERY.size + body[8] + (body[11] | body[12] << 8) + len(_BEGIN)


#: The end of the schema's name, and the statement.
_BEGIN = b"\0BEGIN"


def parse_query(body: bytes, *, compressed: bool = False) -> Query:
    """Read QUERY (2) or MariaDB's QUERY_COMPRESSED (165).

    Status variables are skipped by their total length: servers add new ones with every release.
    """
    if len(body) < _QUERY.size:
        raise CorruptEventError(f"a query event of {len(body)} bytes")
    _, _, schema_bytes, error_code, status_bytes = _QUERY.unpack_from(body)
    at = _QUERY.size + status_bytes
    end = at + schema_bytes
    if len(body) <= end or body[end]:
        raise CorruptEventError("a query event whose lengths do not fit")
    sql = body[end + 1 :]
    if compressed:
        sql = inflate(sql)
    return Query(body[at:end], error_code, body[_QUERY.size : at], sql)


def _client_collation(status: bytes) -> int | None:
    cursor = Cursor(status)
    try:
        while cursor.left:
            code = cursor.uint(1)
            if code == _STATUS_CHARSET:
                return cursor.uint(2)
            if code == _STATUS_CATALOG:
                cursor.take(cursor.uint(1))
            elif code in _STATUS_BYTES:
                cursor.take(_STATUS_BYTES[code])
            else:
                return None
    except CorruptEventError:
        return None
    return None


_INFLATE_LIMIT = 1 << 30


def inflate(data: bytes) -> bytes:
    """Undo MariaDB's compression: 0x80 | algorithm << 4 | n, the size in n bytes, zlib."""
    cursor = Cursor(data)
    head = cursor.uint(1)
    if head & 0xF8 != 0x80:  # noqa: PLR2004
        raise CorruptEventError(f"compression {head:#x} is not known")
    size = int.from_bytes(cursor.take(head & 7), "big")
    if size > _INFLATE_LIMIT:
        raise CorruptEventError(f"a compressed event claims {size} bytes")
    machine = zlib.decompressobj()
    try:
        result = machine.decompress(cursor.rest(), size + 1)
    except zlib.error as error:
        raise CorruptEventError(f"a compressed event: {error}") from None
    if len(result) != size or not machine.eof:
        raise CorruptEventError(f"a compressed event claims {size} bytes, it has {len(result)}")
    return result


@dataclass(slots=True)
class XaPrepare:
    """The end of an XA transaction.

    Attributes:
        one_phase: XA COMMIT ... ONE PHASE: it is committed.
    """

    xid: str
    one_phase: bool


def parse_xa_prepare(body: bytes) -> XaPrepare:
    """Read XA_PREPARE (38)."""
    cursor = Cursor(body)
    one_phase, format_id = cursor.uint(1), cursor.uint(4)
    gtrid, bqual = cursor.uint(4), cursor.uint(4)
    data = cursor.take(gtrid + bqual)
    return XaPrepare(xid_text(data[:gtrid].hex(), data[gtrid:].hex(), format_id), bool(one_phase))


def parse_incident(body: bytes) -> str:
    """Return what an INCIDENT (26) says: a number and a message."""
    cursor = Cursor(body)
    number = cursor.uint(2)
    message = cursor.take(cursor.uint(1)) if cursor.left else b""
    return f"incident {number}: {message.decode('utf-8', 'backslashreplace')}"


#: Fields of a transaction payload and its algorithms.
_PAYLOAD_END, _PAYLOAD_SIZE, _PAYLOAD_ALGORITHM, _PAYLOAD_INFLATED = 0, 1, 2, 3
_ZSTD, _PLAIN = 0, 255
_CHUNK = 1 << 16


def payload_events(body: bytes, decompress: Decompress) -> Iterator[bytes]:
    """Yield the events of a TRANSACTION_PAYLOAD (40), header and body, one at a time.

    Memory is that of one event and one piece: a payload that claims little and inflates to much, or
    the other way round, is a CorruptEventError as soon as the first byte too many appears.
    """
    cursor = Cursor(body)
    fields: dict[int, int] = {}
    while kind := cursor.lenenc():
        fields[kind] = Cursor(cursor.lenenc_bytes()).lenenc()
    data = cursor.take(fields.get(_PAYLOAD_SIZE, cursor.left))
    if cursor.left:
        raise CorruptEventError(f"{cursor.left} bytes behind a transaction payload")
    algorithm = fields.get(_PAYLOAD_ALGORITHM)
    if algorithm == _ZSTD:
        pieces = decompress(data)
    elif algorithm == _PLAIN:
        pieces = (data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK))
    else:
        raise CorruptEventError(f"payload compression {algorithm} is not known")
    yield from _cut(pieces, fields.get(_PAYLOAD_INFLATED, len(data)))


def _cut(pieces: Iterable[bytes], claimed: int) -> Iterator[bytes]:
    buffer, inflated, needed = bytearray(), 0, HEADER_BYTES
    for piece in pieces:
        inflated += len(piece)
        if inflated > claimed:
            raise CorruptEventError(f"a payload inflates past the {claimed} bytes it claims")
        buffer += piece
        at = 0
        while len(buffer) - at >= needed:
            size = int.from_bytes(buffer[at + 9 : at + 13], "little")
            if not HEADER_BYTES <= size <= claimed:
                raise CorruptEventError(f"an event of {size} bytes in a payload of {claimed}")
            if len(buffer) - at < size:
                needed = size
                break
            yield bytes(buffer[at : at + size])
            at += size
            needed = HEADER_BYTES
        del buffer[:at]
    if buffer or inflated != claimed:
        raise CorruptEventError(f"a payload claims {claimed} bytes and has {inflated}")
