"""The commands of the replication protocol, as bytes."""

from __future__ import annotations

import struct

from caretaker.binlog.gtid import GtidSet
from caretaker.binlog.model import Position
from caretaker.binlog.source_facts import FIRST_EVENT, Follower
from caretaker.errors import RefusedError

COM_BINLOG_DUMP = 0x12
COM_REGISTER_SLAVE = 0x15
COM_BINLOG_DUMP_GTID = 0x1E

_NON_BLOCK = 1
_THROUGH_GTID = 4
_MOST_POSITION = 2**32


def register(follower: Follower) -> bytes:
    """Say who follows: what SHOW REPLICAS shows."""
    name = follower.name.encode()[:255]
    # no user, password, port or rank: nobody is to connect back
    return (
        struct.pack("<BI", COM_REGISTER_SLAVE, follower.server_id)
        + bytes((len(name),))
        + name
        + b"\0\0"
        + struct.pack("<HII", 0, 0, 0)
    )


def dump_by_gtid(gtid_set: str, follower: Follower, *, wait: bool) -> bytes:
    """Ask MySQL for all that a set lacks; sets with tags in the format of 8.3 and later."""
    data = GtidSet.parse(gtid_set).encode()
    flags = _THROUGH_GTID | (0 if wait else _NON_BLOCK)
    head = struct.pack("<BHII", COM_BINLOG_DUMP_GTID, flags, follower.server_id, 0)
    return head + struct.pack("<QI", FIRST_EVENT, len(data)) + data


def dump_by_file(position: Position | None, follower: Follower, *, wait: bool) -> bytes:
    """Ask for all behind a place; None where a MariaDB knows our GTID position already."""
    file, pos = position if position is not None else ("", FIRST_EVENT)
    if pos >= _MOST_POSITION:
        raise RefusedError(
            f"{file}:{pos} is past 4 GiB, where the protocol cannot begin by file",
            target=f"{file}:{pos}",
            hint="switch GTIDs on, or begin at the next file",
        )
    flags = 0 if wait else _NON_BLOCK
    head = struct.pack("<BIHI", COM_BINLOG_DUMP, max(pos, FIRST_EVENT), flags, follower.server_id)
    return head + file.encode()
