"""From the bytes of a dump to its events: packets joined, checksums verified, positions in 64 bits.

What a packet carries is told by its first byte: 0 an event, 0xff an error, 0xfe the end of a dump
that does not wait. A server appends CRC32 to each event as its format description says, even where
the dump asked for none; what a server makes up for the dump (the rotate that opens it, heartbeats)
follows what the dump asked for instead. Both are recognised; what carries a checksum is checked.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from zlib import crc32

from caretaker.binlog.cursor import Cursor
from caretaker.binlog.model import EndOfLog, EventType, Position
from caretaker.binlog.refusals import server_error
from caretaker.errors import CorruptEventError

#: Timestamp, type, server id, size, end position, flags.
HEADER = struct.Struct("<IBIIIH")
HEADER_BYTES = HEADER.size
CHECKSUM_BYTES = 4

#: A packet of exactly this many bytes goes on in the next one.
FULL_PACKET = 0xFFFFFF

IN_USE_FLAG = 0x1
ARTIFICIAL_FLAG = 0x20
IGNORABLE_FLAG = 0x80

#: Binlog version, server version, creation time, length of the common header.
_DESCRIPTION = struct.Struct("<H50sIB")
_CHECKSUM_NONE, _CHECKSUM_CRC32 = 0, 1
_MAX_EOF_BYTES = 9
_FILE_NAME = re.compile(rb"[^\x00-\x1f]{1,511}\.[0-9]{1,10}")
_PAST_2_GIB = 0x80000000

#: crc32 of anything that ends in its own crc32, little-endian: one pass, and no slices.
_RESIDUE = 0x2144DF1C
#: The start from which a packet's first byte, 0, leads to where a fresh checksum starts.
_BEFORE_ZERO = 0x0F6A7026


class Packets:
    """Bytes in, payloads out: continued packets joined, the sequence of numbers checked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._next: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes."""
        buffer = self._buffer
        buffer += data
        done: list[bytes] = []
        at, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - at >= 4:  # noqa: PLR2004
                size = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16
                if end - at - 4 < size:
                    break
                self._check(buffer[at + 3])
                payload = bytes(view[at + 4 : at + 4 + size])
                at += 4 + size
                if size == FULL_PACKET:
                    self._parts.append(payload)
                elif self._parts:
                    done.append(b"".join([*self._parts, payload]))
                    self._parts = []
                else:
                    done.append(payload)
        del buffer[:at]
        return done

    def _check(self, number: int) -> None:
        if self._next is not None and number != self._next:
            raise CorruptEventError(f"packet {number} arrived where {self._next} was due")
        self._next = (number + 1) & 0xFF


@dataclass(slots=True)
class Event:
    """An event without its header and checksum.

    Attributes:
        file: Where it is, and `pos` its end there.
        size: As in the file, header and checksum included; the event starts at `pos - size`.
    """

    type: int
    timestamp_s: int
    server_id: int
    flags: int
    file: str
    pos: int
    size: int
    body: bytes

    @property
    def start(self) -> Position:
        """Where it begins."""
        return Position(self.file, max(self.pos - self.size, 0))

    @property
    def end(self) -> Position:
        """Where it ends."""
        return Position(self.file, self.pos)

    def __str__(self) -> str:
        return f"{type_name(self.type)} at {self.start}"


def type_name(number: int) -> str:
    """Name an event type to a person."""
    try:
        return f"{EventType(number).name} ({number})"
    except ValueError:
        return f"event type {number}"


class Frames:
    """The framing of one dump, from its first payload on.

    Attributes:
        file: The file that is being read, "" before the first rotate.
        pos: The end of the last event there: 64 bits, where the header's 32 wrap around.
        server_version: As the format description says.
        created_s: When the source started, if the file is the first since then; else 0.
    """

    def __init__(self) -> None:
        self.file = ""
        self.pos = 0
        self.server_version = ""
        self.created_s = 0
        self._checksum: int | None = None

    def open(self, payload: bytes) -> Event | EndOfLog:
        """Return the event of a payload.

        Raises:
            CorruptEventError: It is none, or its checksum is not that of its bytes.
            CaretakerError: What an error packet stands for.
        """
        size = len(payload) - 1
        if size < HEADER_BYTES or payload[0]:
            return self._no_event(payload)
        stamp, kind, server_id, claimed, log_pos, flags = HEADER.unpack_from(payload, 1)
        if claimed != size:
            raise self.corrupt(f"the header claims {claimed} bytes, the packet has {size}")
        if kind in _SPECIAL:
            body = self._special(kind, flags, payload)
        elif self._checksum == _CHECKSUM_CRC32:
            if crc32(payload, _BEFORE_ZERO) != _RESIDUE:
                raise self.corrupt(f"the checksum of {type_name(kind)} is wrong")
            body = payload[20:-4]
        elif self._checksum is None:
            raise self.corrupt(f"{type_name(kind)} before the format description")
        else:
            body = payload[20:]
        if log_pos and not flags & ARTIFICIAL_FLAG:
            # Events that a dump leaves out make the position jump; a jump backwards would be one
            # of nearly 4 GiB, and only what a server makes up goes backwards.
            ahead = (log_pos - self.pos) & 0xFFFFFFFF
            if ahead < _PAST_2_GIB or size > _PAST_2_GIB:
                self.pos += ahead
        return Event(kind, stamp, server_id, flags, self.file, self.pos, size, body)

    def inner(self, outer: Event, raw: bytes) -> Event:
        """Return an event out of a transaction payload, which has no checksum and no position."""
        stamp, kind, server_id, _, _, flags = HEADER.unpack_from(raw)
        body = raw[HEADER_BYTES:]
        return Event(kind, stamp, server_id, flags, outer.file, outer.pos, outer.size, body)

    def enter(self, position: Position) -> None:
        """Go on in another file."""
        self.file, self.pos = position.file, position.pos

    def corrupt(self, reason: str) -> CorruptEventError:
        """Return the error that names this place."""
        here = Position(self.file or "(no file yet)", self.pos)
        return CorruptEventError(f"{here}: {reason}", target=here)

    def _no_event(self, payload: bytes) -> EndOfLog:
        first = payload[0] if payload else -1
        if first == 0xFE and len(payload) < _MAX_EOF_BYTES:  # noqa: PLR2004
            return EndOfLog()
        if first == 0xFF and len(payload) > 3:  # noqa: PLR2004
            code = int.from_bytes(payload[1:3], "little")
            message = payload[9:] if payload[3:4] == b"#" else payload[3:]
            raise server_error(code, message.decode("utf-8", "backslashreplace"))
        raise self.corrupt(f"a packet of {len(payload)} bytes is no event: {payload[:16].hex()}")

    def _special(self, kind: int, flags: int, payload: bytes) -> bytes:
        if kind == EventType.FORMAT_DESCRIPTION:
            return self._describe(payload)
        intact = crc32(memoryview(payload)[1:]) == _RESIDUE
        made_up = kind != EventType.ROTATE or flags & ARTIFICIAL_FLAG or self._checksum is None
        if self._checksum == _CHECKSUM_CRC32 and not made_up and not intact:
            raise self.corrupt(f"the checksum of {type_name(kind)} is wrong")
        return payload[20:-4] if intact else payload[20:]

    def _describe(self, payload: bytes) -> bytes:
        # The flag is set in place while the file is open; the checksum is of the event without it.
        whole = bytearray(memoryview(payload)[1:])
        whole[17] &= ~IN_USE_FLAG & 0xFF
        if len(whole) < HEADER_BYTES + _DESCRIPTION.size + 1 + CHECKSUM_BYTES:
            raise self.corrupt("a format description cut short")
        if crc32(whole) != _RESIDUE:
            raise self.corrupt("the checksum of the format description is wrong")
        version, server, created, header_bytes = _DESCRIPTION.unpack_from(whole, HEADER_BYTES)
        if version != 4 or header_bytes != HEADER_BYTES:  # noqa: PLR2004
            raise self.corrupt(f"binlog version {version}, headers of {header_bytes} bytes")
        checksum = whole[-5]
        if checksum not in (_CHECKSUM_NONE, _CHECKSUM_CRC32):
            raise self.corrupt(f"checksum algorithm {checksum}")
        self._checksum = checksum
        self.server_version = server.rstrip(b"\0").decode("ascii", "backslashreplace")
        self.created_s = created
        return bytes(whole[HEADER_BYTES:-4])


# Plain numbers, here and in the stream's table: to look up a member of an IntEnum costs twice.
_SPECIAL = frozenset(
    (
        int(EventType.FORMAT_DESCRIPTION),
        int(EventType.ROTATE),
        int(EventType.HEARTBEAT),
        int(EventType.HEARTBEAT_V2),
    )
)

_HEARTBEAT_FILE, _HEARTBEAT_POSITION = 1, 2


def parse_rotate(body: bytes) -> Position:
    """Return the file and position that a rotate event leads to."""
    cursor = Cursor(body)
    pos = cursor.uint(8)
    return Position(_file_name(cursor.rest()), pos)


def parse_heartbeat(body: bytes) -> str:
    """Return the file that a heartbeat names; the position is in its header."""
    return _file_name(body)


def parse_heartbeat_v2(body: bytes) -> Position:
    """Return the place that a heartbeat of version 2 names: type, length, value until type 0."""
    cursor = Cursor(body)
    file, pos = "", 0
    while cursor.left and (kind := cursor.lenenc()):
        value = cursor.lenenc_bytes()
        if kind == _HEARTBEAT_FILE:
            file = _file_name(value)
        elif kind == _HEARTBEAT_POSITION:
            pos = Cursor(value).lenenc()
    if not file:
        raise CorruptEventError("a heartbeat without a file")
    return Position(file, pos)


def _file_name(raw: bytes) -> str:
    if _FILE_NAME.fullmatch(raw) is None:
        raise CorruptEventError(f"no name of a binlog file: {raw[:64]!r}")
    return raw.decode("utf-8", "backslashreplace")


def file_order(position: Position) -> tuple[int, int]:
    """A key that puts the positions of one source in the order they are written."""
    return int(position.file.rpartition(".")[2]), position.pos
