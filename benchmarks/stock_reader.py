"""Stock mysql-replication on packets that were recorded: no network, no server, its own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import bson
from pymysql.protocol import MysqlPacket
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

_EOF = b"\xfe\0\0\0\0"
_OPS = {WriteRowsEvent: "i", UpdateRowsEvent: "u", DeleteRowsEvent: "d"}


class _Packets:
    """A connection whose server says what is recorded, then nothing more."""

    def __init__(self, packets: Iterable[bytes]) -> None:
        self._packets = iter(packets)

    def _read_packet(self) -> MysqlPacket:
        return MysqlPacket(next(self._packets, _EOF), "utf8")

    def close(self) -> None:
        """Nothing is open."""


class _Control:
    """What the reader asks of its second connection."""

    charset = "utf8"

    def __init__(self, dbms: str) -> None:
        self._dbms = dbms

    def _get_dbms(self) -> str:
        return self._dbms

    def close(self) -> None:
        """Nothing is open."""


def stock_events(packets: Iterable[bytes], dbms: str = "mysql") -> Iterator[Any]:
    """Yield stock mysql-replication's rows events of recorded packets."""
    reader = BinLogStreamReader(
        connection_settings={}, server_id=1, only_events=list(_OPS), blocking=False
    )
    private = "_BinLogStreamReader__"
    for name in ("connected_stream", "connected_ctl", "optional_meta_data", "use_checksum"):
        setattr(reader, private + name, True)
    reader._stream_connection = _Packets(packets)  # noqa: SLF001 - what a connection would be
    reader._ctl_connection = _Control(dbms)  # noqa: SLF001
    yield from reader


def stock_documents(packets: Iterable[bytes], source: str) -> Iterator[bytes]:
    """Yield the audit documents that a program on stock mysql-replication writes, as BSON."""
    seq = 0
    for event in stock_events(packets):
        op = _OPS[type(event)]
        position = {"binlog": {"file": source, "pos": event.packet.log_pos}, "gtid": None}
        key = event.primary_key
        for row in event.rows:
            seq += 1
            before, after = row.get("before_values"), row.get("after_values")
            values = row.get("values") or before
            if op == "u":
                changes = {
                    name: {"f": _bson(old), "t": _bson(after[name])}
                    for name, old in before.items()
                    if old != after[name]
                }
            else:
                side = "t" if op == "i" else "f"
                changes = {name: {side: _bson(value)} for name, value in values.items()}
            yield bson.encode(
                {
                    "_id": b"%s:%d" % (source.encode(), seq),
                    "ts": event.timestamp * 1000,
                    "op": op,
                    "meta": {"db": event.schema, "tbl": event.table, "pk": values.get(key)},
                    "seq": seq,
                    "chg": changes,
                    "src": {**position, "server_id": 1, "commit_us": None},
                }
            )


def _bson(value: Any) -> Any:
    if isinstance(value, Decimal):
        return bson.Decimal128(value)
    if isinstance(value, dict):
        return {_name(key): _bson(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bson(inner) for inner in value]
    return _name(value)


def _name(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
