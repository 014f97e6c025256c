"""Record what a real server sends: statements in, packets of a binlog dump out, one file a story.

    python tests/binlog/recorder.py mysql 127.0.0.1 33306 root pw [STORY...]

A recording is gzip text: a JSON line that says which server and which statements, then every packet
as it came over the wire, four bytes of header included, one line of hex each.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql

from caretaker.binlog.gtid import GtidSet

# A package in the environment calls itself `tests`, so outside of pytest ours is out of reach.
sys.path.insert(0, str(Path(__file__).parent))
from stories import MARIADB, MYSQL, Story  # type: ignore[import-not-found]

RECORDED = Path(__file__).parent / "recorded"
COM_BINLOG_DUMP = 0x12
COM_BINLOG_DUMP_GTID = 0x1E
NON_BLOCK = 1
THROUGH_GTID = 4


class Server:
    """Connections by name, as a story needs them."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._login = {"host": host, "port": port, "user": user, "password": password}
        self._connections: dict[str, Any] = {}

    def connect(self) -> Any:
        return pymysql.connect(**self._login, autocommit=True, charset="utf8mb4")

    def run(self, session: str, statement: str) -> tuple[tuple[Any, ...], ...]:
        if session not in self._connections:
            self._connections[session] = self.connect()
        with self._connections[session].cursor() as cursor:
            try:
                cursor.execute(statement)
            except pymysql.MySQLError as error:
                print(f"  {session}: {statement[:70]}: {error}", file=sys.stderr)
                return ()
            return tuple(cursor.fetchall())

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def dump(self, story: Story, file: str, pos: int, known: str | None) -> Iterator[bytes]:
        """Yield the packets of a dump: all there are, or up to `story.heartbeats` heartbeats."""
        connection = self.connect()
        mysql = "MariaDB" not in connection.get_server_info()
        with connection.cursor() as cursor:
            cursor.execute(
                "SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'"
            )
            cursor.execute("SET @mariadb_slave_capability = 4")
            cursor.execute(
                "SET @source_heartbeat_period = 100000000, @master_heartbeat_period = 100000000"
            )
            for setting in story.settings:
                cursor.execute(setting)
            if known is not None and not mysql:
                cursor.execute("SET @slave_connect_state = %s", (known,))
                file, pos = "", 4
        flags = story.flags | (0 if story.heartbeats else NON_BLOCK)
        if known is not None and mysql:
            data = GtidSet.parse(known).encode()
            head = struct.pack("<BHII", COM_BINLOG_DUMP_GTID, flags | THROUGH_GTID, 9000, 0)
            body = head + struct.pack("<QI", 4, len(data)) + data
        else:
            body = struct.pack("<BIHI", COM_BINLOG_DUMP, pos, flags, 9000) + file.encode()
        connection._write_bytes(struct.pack("<I", len(body)) + body)
        beats = 0
        while not story.heartbeats or beats < story.heartbeats:
            header = connection._rfile.read(4)
            payload = connection._rfile.read(int.from_bytes(header[:3], "little"))
            yield header + payload
            beats += payload[:1] == b"\0" and payload[5] in (27, 41)
            if payload[:1] == b"\xff" or (payload[:1] == b"\xfe" and len(payload) < 9):
                break
        connection._force_close()


def record(server: Server, flavor: str, name: str, story: Story) -> None:
    """Play one story and write its recording."""
    server.run("a", "CREATE DATABASE IF NOT EXISTS story")
    for statement in story.before:
        server.run("a", statement)
    server.run("a", "FLUSH BINARY LOGS")
    status = "SHOW BINARY LOG STATUS" if flavor == "mysql" else "SHOW MASTER STATUS"
    executed = "@@global.gtid_executed" if flavor == "mysql" else "@@global.gtid_binlog_pos"
    file, pos = server.run("a", status)[0][:2]
    marks: dict[str, str] = {}
    told = []
    for statement in story.statements:
        session, _, sql = statement.partition("> ")
        told.append([session, sql])
        if session == "mark":
            marks[sql] = server.run("a", f"SELECT {executed}")[0][0].replace("\n", "")
            if sql == "here":
                pos = server.run("a", status)[0][1]
        else:
            server.run(session, sql)
    known = server.run("a", f"SELECT {story.known.format(**marks)}")[0][0] if story.known else None
    about = {
        "story": name,
        "flavor": flavor,
        "version": server.run("a", "SELECT VERSION()")[0][0],
        "statements": told,
        "dumped_from": [file, pos if "here" in marks else 4],
        "known": known and known.replace("\n", ""),
        "marks": marks,
        "executed_after": server.run("a", f"SELECT {executed}")[0][0].replace("\n", ""),
        "tables": {
            table: server.run("a", f"SELECT COUNT(*) FROM {table}")[0][0]  # noqa: S608
            for table in story.tables
        },
    }
    packets = list(server.dump(story, file, about["dumped_from"][1], known))
    server.close()
    time.sleep(0.2)  # MariaDB lets others settle an XA transaction once its session is gone
    for statement in story.after:
        server.run("a", statement)
    server.close()
    text = "\n".join([json.dumps(about), *(packet.hex() for packet in packets)])
    path = RECORDED / f"{flavor}-{name}.gz"
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{path.name}: {len(packets)} packets, {path.stat().st_size} bytes", file=sys.stderr)


def main() -> None:
    """Record the stories named, or all of them."""
    flavor, host, port, user, password, *names = sys.argv[1:]
    stories = MYSQL if flavor == "mysql" else MARIADB
    server = Server(host, int(port), user, password)
    for name in names or stories:
        record(server, flavor, name, stories[name])


if __name__ == "__main__":
    main()
