"""The audit document as BSON: what stands around the changed columns, and the other kinds.

`{_id, ts[, ts_<zone>], op, meta: {db, tbl, pk}, seq, chg[, partial], src: {binlog: {file, pos},
gtid, server_id, commit_us}}`. What is the same for all rows of an event is written once.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum

from caretaker.binlog.bson_writer import (
    DOCUMENT,
    NULL_VALUE,
    Value,
    document,
    element,
    int64,
    text,
)
from caretaker.binlog.model import RowContext

_i32 = struct.Struct("<i").pack
_i64 = struct.Struct("<q").pack
_u32be = struct.Struct(">I").pack


class Op(StrEnum):
    """What a document says happened."""

    INSERT = "i"
    UPDATE = "u"
    DELETE = "d"
    DDL = "ddl"
    GAP = "gap"
    TOPOLOGY = "topology"


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A second spelling of `ts`, for people: `YYYY-MM-DD HH:MM:SS` in one zone.

    Attributes:
        name: What follows `ts_` in the field's name, such as "ist".
    """

    name: str
    zone: tzinfo

    def field(self, timestamp_s: int) -> bytes:
        """Return the element for a moment."""
        moment = datetime.fromtimestamp(timestamp_s, UTC).astimezone(self.zone)
        told = moment.strftime("%Y-%m-%d %H:%M:%S").encode()
        return element(b"ts_" + self.name.encode(), text(told))


@dataclass(frozen=True, slots=True)
class TableParts:
    """What every document of a table has in common."""

    row_key: tuple[str, str]
    hash: bytes
    meta: bytes

    @classmethod
    def of(cls, schema: str, name: str) -> TableParts:
        """Return the parts for one table name."""
        meta = element(b"db", text(schema.encode())) + element(b"tbl", text(name.encode()))
        digest = hashlib.sha256(f"{schema}\0{name}".encode()).digest()
        return cls((schema, name), digest[:6], meta)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every document of one rows event has in common.

    Attributes:
        id_head: From `_id` to the row number, which is 4 bytes, big-endian.
        head: From `ts` to `meta`, without meta's length.
        tail: From behind `chg` to the end.
    """

    id_head: bytes
    head: bytes
    tail: bytes

    @classmethod
    def of(
        cls, op: Op, table_hash: bytes, context: RowContext, local_time: LocalTime | None
    ) -> Envelope:
        """Return the envelope of one event's documents."""
        prefix = context.id_prefix + table_hash
        zone = b"" if local_time is None else local_time.field(context.timestamp_s)
        return cls(
            b"\x05_id\0" + _i32(len(prefix) + 4) + b"\0" + prefix,
            b"\x09ts\0" + _i64(context.timestamp_s * 1000) + zone + _OP_AND_META[op],
            source(context) + b"\0",
        )


_OP_AND_META = {op: element(b"op", text(op.encode())) + DOCUMENT + b"meta\0" for op in Op}


def source(context: RowContext) -> bytes:
    """Return the element `src`.

    Written as one piece: for a transaction of one row this is a good part of its document's time.
    """
    gtid, commit_us = context.gtid, context.commit_us
    shape = (context.file, -1 if gtid is None else len(gtid), commit_us is None)
    lead = _leads.get(shape)
    if lead is None:
        if len(_leads) >= _MOST_LEADS:
            _leads.clear()
        lead = _leads[shape] = _lead(*shape)
    before, between = lead
    return b"".join(
        (
            before,
            _i64(context.pos),
            between,
            b"" if gtid is None else gtid.encode() + b"\0",
            b"\x12server_id\0",
            _i64(context.server_id),
            _NO_COMMIT if commit_us is None else b"\x12commit_us\0" + _i64(commit_us) + b"\0",
        )
    )


def _lead(file: str, gtid_bytes: int, no_commit: bool) -> tuple[bytes, bytes]:
    """Return what stands before `pos`, and between it and the GTID, for texts of these lengths."""
    name = element(b"file", text(file.encode()))
    # Lengths of documents count themselves and their end.
    binlog = 4 + len(name) + len(b"\x12pos\0") + 8 + 1
    gtid = b"\x0agtid\0" if gtid_bytes < 0 else b"\x02gtid\0" + _i32(gtid_bytes + 1)
    size = 4 + len(b"\x03binlog\0") + binlog + len(gtid) + max(gtid_bytes + 1, 0)
    size += len(b"\x12server_id\0") + 8
    size += len(_NO_COMMIT) if no_commit else len(b"\x12commit_us\0") + 8 + 1
    head = b"\x03src\0" + _i32(size) + b"\x03binlog\0" + _i32(binlog)
    return head + name + b"\x12pos\0", b"\0" + gtid


_NO_COMMIT = b"\x0acommit_us\0" + b"\0"
_MOST_LEADS = 256
_leads: dict[tuple[str, int, bool], tuple[bytes, bytes]] = {}


def row_document(
    envelope: Envelope,
    *,
    row: int,
    meta: bytes,
    key: Value,
    seq: int,
    changes: bytes,
    partial: bool = False,
) -> bytes:
    """Return one finished document; `changes` are the elements of `chg`."""
    meta = meta + element(b"pk", key)
    body = b"".join(
        (
            envelope.id_head,
            _u32be(row),
            envelope.head,
            _i32(len(meta) + 5),
            meta,
            b"\0",
            element(b"seq", int64(seq)),
            DOCUMENT,
            b"chg\0",
            _i32(len(changes) + 5),
            changes,
            b"\0",
            b"\x08partial\0\x01" if partial else b"",
            envelope.tail,
        )
    )
    return _i32(len(body) + 4) + body


def ddl_document(
    context: RowContext,
    *,
    schema: str | None,
    table: str | None,
    sql: str,
    local_time: LocalTime | None = None,
) -> bytes:
    """Return the document of a statement that changes no row by itself."""
    change = element(b"ddl", (DOCUMENT, document((element(b"sql", text(_utf8(sql))),))))
    return _special(Op.DDL, context, change, schema=schema, table=table, local_time=local_time)


def gap_document(
    context: RowContext, *, lost: str, by: str, reason: str, local_time: LocalTime | None = None
) -> bytes:
    """Return the document that says which transactions the trail does not have, and who said so."""
    told = {"lost": lost, "by": by, "reason": reason}
    return _special(Op.GAP, context, _texts("gap", told), local_time=local_time)


def topology_document(
    context: RowContext, *, topology: Mapping[str, str], local_time: LocalTime | None = None
) -> bytes:
    """Return the document that says the trail goes on from another server."""
    return _special(Op.TOPOLOGY, context, _texts("topology", topology), local_time=local_time)


def _texts(name: str, fields: Mapping[str, str]) -> bytes:
    elements = (element(key.encode(), text(_utf8(value))) for key, value in fields.items())
    return element(name.encode(), (DOCUMENT, document(elements)))


def _utf8(said: str) -> bytes:
    # A statement may hold what its character set calls text and UTF-8 does not.
    return said.encode("utf-8", "backslashreplace")


def _special(
    op: Op,
    context: RowContext,
    change: bytes,
    *,
    schema: str | None = None,
    table: str | None = None,
    local_time: LocalTime | None,
) -> bytes:
    # Counted like the rows of a table, so that several in a transaction have ids of their own.
    key = (op.value, "")
    row = context.next_row.get(key, 0)
    context.next_row[key] = row + 1
    envelope = Envelope.of(op, _special_hash(op), context, local_time)
    names = [(b"db", schema), (b"tbl", table), (b"pk", None)]
    meta = document(
        element(name, NULL_VALUE if value is None else text(_utf8(value))) for name, value in names
    )
    seq = context.seq
    context.seq = seq + 1
    body = b"".join(
        (
            envelope.id_head,
            _u32be(row),
            envelope.head,
            meta,
            element(b"seq", int64(seq)),
            change,
            envelope.tail,
        )
    )
    return _i32(len(body) + 4) + body


def _special_hash(op: Op) -> bytes:
    # No table's name has NUL in it, so no table has this hash by name.
    return hashlib.sha256(b"\0" + op.encode()).digest()[:6]
