"""Table maps and rows events of real servers: captured while a test runs, or recorded before."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import bson

from caretaker.binlog.model import EventType, Flavor, RowContext
from caretaker.binlog.rows import EncodedRows, RowsEncoder
from caretaker.binlog.tablemap import KnownTypes, TableMap, TableMaps

RECORDED = Path(__file__).parent / "recorded_rows"
COM_BINLOG_DUMP = 0x12
NON_BLOCK = 1
TABLE_MAP = EventType.TABLE_MAP
ROWS_EVENTS = frozenset(
    kind
    for kind in EventType
    if "_ROWS" in kind.name
    and kind.name.partition("_")[0] in {"WRITE", "UPDATE", "DELETE", "PARTIAL"}
)
ID_PREFIX = bytes(range(20))


@dataclass
class Captured:
    """Events of some tables, in order: (type, body behind the header, without checksum)."""

    flavor: Flavor
    events: list[tuple[int, bytes]] = field(default_factory=list)

    def tables(self, known_types: KnownTypes | None = None) -> list[TableMap]:
        maps = TableMaps(self.flavor, known_types)
        return [maps.add(body) for kind, body in self.events if kind == TABLE_MAP]

    def encoded(
        self,
        encoder: RowsEncoder | None = None,
        known_types: KnownTypes | None = None,
        context: RowContext | None = None,
    ) -> Iterator[EncodedRows]:
        # What the generated decoders say, unless another is asked for.
        encoder = encoder or RowsEncoder(generate_after=0)
        maps = TableMaps(self.flavor, known_types)
        context = context or a_context()
        for kind, body in self.events:
            if kind == TABLE_MAP:
                maps.add(body)
            else:
                table = maps.get(int.from_bytes(body[:6], "little"))
                yield encoder.documents(kind, body, table, context)

    def raw_documents(self, *args: Any, **kwargs: Any) -> list[bytes]:
        return [d for encoded in self.encoded(*args, **kwargs) for d in encoded.documents]

    def documents(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return [bson.decode(document) for document in self.raw_documents(*args, **kwargs)]


def a_context(**values: Any) -> RowContext:
    told: dict[str, Any] = {
        "timestamp_s": 1_790_000_000,
        "server_id": 4_000_000_001,
        "file": "binlog.000007",
        "pos": 5_000_000_000,
        "gtid": "3e11fa47-71ca-11e1-9e33-c80aa9429562:23",
        "commit_us": 1_790_000_000_123_456,
        "id_prefix": ID_PREFIX,
        "next_row": {},
        "seq": 1,
    }
    return RowContext(**(told | values))


def capture(server: Any, flavor: Flavor, database: str, statements: Iterable[Any]) -> Captured:
    """Run statements in a database; return the row changes that they made there.

    A statement may be a pair of text and arguments, or a function, which is called in its turn.
    """
    with contextlib.closing(server.connect()) as connection:
        connection.autocommit(True)  # noqa: FBT003 - PyMySQL's name for it
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {database}")
            cursor.execute(f"USE {database}")
            cursor.execute("SET NAMES utf8mb4, sql_mode = '', time_zone = '+00:00'")
            file, position = _here(cursor, flavor)
            for statement in statements:
                if isinstance(statement, tuple):
                    cursor.execute(*statement)
                elif callable(statement):
                    statement()
                else:
                    cursor.execute(statement)
    return Captured(flavor, list(_of_database(_dump(server, file, position), database)))


def _here(cursor: Any, flavor: Flavor) -> tuple[str, int]:
    name = "MASTER" if flavor is Flavor.MARIADB else "BINARY LOG"
    cursor.execute(f"SHOW {name} STATUS")
    file, position, *_ = cursor.fetchone()
    return file, int(position)


def _dump(server: Any, file: str, position: int) -> Iterator[tuple[int, bytes]]:
    with contextlib.closing(server.connect()) as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'"
            )
            cursor.execute("SET @mariadb_slave_capability = 4")
        body = struct.pack("<BIHI", COM_BINLOG_DUMP, position, NON_BLOCK, 4712) + file.encode()
        connection._write_bytes(struct.pack("<I", len(body)) + body)
        connection._next_seq_id = 1
        while True:
            packet = connection._read_packet()
            if packet.is_eof_packet():
                return
            event = packet.get_all_data()[1:]
            yield event[4], event[19:-4]


def _of_database(events: Iterable[tuple[int, bytes]], database: str) -> Iterator[tuple[int, bytes]]:
    ours: set[bytes] = set()
    for kind, body in events:
        if kind == TABLE_MAP:
            if body[9 : 9 + body[8]].decode() == database:
                ours.add(body[:6])
                yield kind, body
            else:
                ours.discard(body[:6])
        elif kind in ROWS_EVENTS and body[:6] in ours:
            yield kind, body


def record(name: str, captured: Captured, **told: Any) -> None:
    """Keep what was captured; `told` is what a test compares it with."""
    RECORDED.mkdir(exist_ok=True)
    about = {"flavor": captured.flavor, **told}
    lines = [json.dumps(about), *(f"{kind} {body.hex()}" for kind, body in captured.events)]
    data = gzip.compress("\n".join(lines).encode(), mtime=0)
    (RECORDED / f"{name}.gz").write_bytes(data)


@cache
def recorded(name: str) -> tuple[Captured, dict[str, Any]]:
    """Return what was kept under a name."""
    about, *lines = gzip.decompress((RECORDED / f"{name}.gz").read_bytes()).decode().split("\n")
    told = json.loads(about)
    events = [
        (int(kind), bytes.fromhex(body))
        for kind, _, body in (line.partition(" ") for line in lines)
    ]
    return Captured(Flavor(told["flavor"]), events), told
