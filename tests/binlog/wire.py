"""Events made by hand, where no server says what is needed on demand."""

from __future__ import annotations

import struct
from zlib import crc32

from caretaker.binlog.frames import HEADER
from caretaker.binlog.model import EventType

SERVER = b"\x11" * 16
SERVER_TEXT = "11111111-1111-1111-1111-111111111111"


def event(
    kind: int,
    body: bytes = b"",
    *,
    log_pos: int = 0,
    flags: int = 0,
    checked: bool = True,
    server_id: int = 1,
) -> bytes:
    """A payload with an event, checksum included."""
    size = HEADER.size + len(body) + (4 if checked else 0)
    raw = HEADER.pack(1700000000, kind, server_id, size, log_pos & 0xFFFFFFFF, flags) + body
    return b"\0" + raw + (crc32(raw).to_bytes(4, "little") if checked else b"")


def inner(kind: int, body: bytes = b"") -> bytes:
    """An event as transaction payloads hold it."""
    return event(kind, body, checked=False)[1:]


def rotate(file: str = "binlog.000001", pos: int = 4) -> bytes:
    """The made-up rotate that opens a dump."""
    return event(EventType.ROTATE, pos.to_bytes(8, "little") + file.encode(), flags=0x20)


def description(*, created: int = 0, checksum: int = 1, log_pos: int = 0, flags: int = 0) -> bytes:
    """A format description; the checksum is that of the event without its in-use flag."""
    body = struct.pack("<H50sIB", 4, b"9.7.4", created, 19) + bytes(41) + bytes((checksum,))
    whole = bytearray(event(EventType.FORMAT_DESCRIPTION, body, log_pos=log_pos))
    whole[18] |= flags
    return bytes(whole)


def gtid(number: int, *, log_pos: int = 0) -> bytes:
    body = struct.pack("<B16sqBqq", 0, SERVER, number, 2, 0, 1)
    return event(EventType.GTID, body, log_pos=log_pos)


def query_body(sql: bytes, *, error: int = 0, status: bytes = b"", schema: bytes = b"s") -> bytes:
    head = struct.pack("<IIBHH", 1, 0, len(schema), error, len(status))
    return head + status + schema + b"\0" + sql


def query(sql: bytes, *, log_pos: int = 0, error: int = 0) -> bytes:
    return event(EventType.QUERY, query_body(sql, error=error), log_pos=log_pos)


def table_map(table_id: int = 1, name: bytes = b"t", *, more: bytes = b"") -> bytes:
    body = table_id.to_bytes(6, "little") + b"\1\0" + b"\1s\0" + bytes((len(name),)) + name + b"\0"
    return event(EventType.TABLE_MAP, body + more)


def rows(image: bytes, table_id: int = 1) -> bytes:
    return event(EventType.WRITE_ROWS, table_id.to_bytes(6, "little") + b"\1\0" + image)


def xid(*, log_pos: int = 0) -> bytes:
    return event(EventType.XID, bytes(8), log_pos=log_pos)


def packet(payload: bytes, number: int) -> bytes:
    """A payload as packets on the wire."""
    parts = []
    while True:
        part, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
        parts.append(len(part).to_bytes(3, "little") + bytes((number & 255,)) + part)
        number += 1
        if len(part) < 0xFFFFFF:
            return b"".join(parts)
