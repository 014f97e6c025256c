"""The least client of a binary log: a dump from a GTID set to the end, as raw events."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

_COM_BINLOG_DUMP, _COM_BINLOG_DUMP_GTID = 0x12, 0x1E
_NON_BLOCK, _THROUGH_GTID = 1, 4
_SLAVE_ID = 4711

#: Event types.
XID, TABLE_MAP, WRITE_ROWS_V1, WRITE_ROWS = 16, 19, 23, 30
GTID, MARIADB_GTID, MARIADB_GTID_LIST = 33, 162, 163


def mysql_events(server: Any, after: str) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of every event of a MySQL after a GTID set of one server's one range."""
    uuid, _, ranges = after.partition(":")
    first, _, last = ranges.partition("-")
    have = struct.pack("<Q", 1) + bytes.fromhex(uuid.replace("-", ""))
    have += struct.pack("<QQQ", 1, int(first), int(last or first) + 1)
    flags = _NON_BLOCK | _THROUGH_GTID
    body = struct.pack("<BHIIQI", _COM_BINLOG_DUMP_GTID, flags, _SLAVE_ID, 0, 4, len(have)) + have
    yield from _dump(server, body, "SET @source_binlog_checksum = 'CRC32'")


def mariadb_events(server: Any, after: str) -> Iterator[tuple[int, bytes]]:
    """Yield the same of a MariaDB after a position such as 0-2-7."""
    body = struct.pack("<BIHI", _COM_BINLOG_DUMP, 4, _NON_BLOCK, _SLAVE_ID)
    yield from _dump(
        server,
        body,
        "SET @master_binlog_checksum = 'CRC32'",
        "SET @mariadb_slave_capability = 4",
        f"SET @slave_connect_state = '{after}'",
    )


def _dump(server: Any, body: bytes, *settings: str) -> Iterator[tuple[int, bytes]]:
    with contextlib.closing(server.connect()) as connection:
        with connection.cursor() as cursor:
            for setting in settings:
                cursor.execute(setting)
        connection._write_bytes(struct.pack("<I", len(body)) + body)
        connection._next_seq_id = 1
        while True:
            packet = connection._read_packet()
            if packet.is_eof_packet():
                return
            event = packet.get_all_data()[1:]
            yield event[4], event[19:-4]
