"""Recorded binlogs, and what chance makes of them: bytes that a broken or hostile source sends."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from caretaker.binlog.frames import HEADER_BYTES, Packets
from caretaker.binlog.model import Flavor, Position

RECORDED = Path(__file__).resolve().parents[1] / "tests" / "binlog"

#: What lengths, counts and offsets are broken with.
_NUMBERS = (0, 1, 2, 127, 128, 250, 251, 252, 253, 254, 255, 256, 32767, 32768, 65535, 65536)
_LARGE = (*_NUMBERS, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_MOST_INSERTED = 64


@dataclass(frozen=True)
class Dump:
    """A whole dump: payloads of packets, and where it began."""

    name: str
    flavor: Flavor
    start: Position
    payloads: tuple[bytes, ...]


@dataclass(frozen=True)
class Events:
    """Table maps and rows events: (type, body without header and checksum)."""

    name: str
    flavor: Flavor
    events: tuple[tuple[int, bytes], ...]


def dumps() -> list[Dump]:
    """Return the dumps that the tests keep."""
    found = []
    for path in sorted((RECORDED / "recorded").glob("*.gz")):
        about, *lines = _lines(path)
        told = json.loads(about)
        payloads = Packets().feed(b"".join(map(bytes.fromhex, lines)))
        start = Position(*told["dumped_from"])
        found.append(Dump(path.stem, Flavor(told["flavor"]), start, tuple(payloads)))
    return found


def rows_events() -> list[Events]:
    """Return the rows events that the tests keep."""
    found = []
    for path in sorted((RECORDED / "recorded_rows").glob("*.gz")):
        about, *lines = _lines(path)
        split = (line.partition(" ") for line in lines)
        events = tuple((int(kind), bytes.fromhex(body)) for kind, _, body in split)
        found.append(Events(path.stem, Flavor(json.loads(about)["flavor"]), events))
    return found


def _lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().split("\n")


class Chance:
    """Changes, all of them decided by one seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1."""
        return self._random.randrange(limit)

    def broken(self, raw: bytes, others: bytes = b"") -> bytes:
        """Return bytes with one to four changes; some are pieces of `others`."""
        body = bytearray(raw)
        for _ in range(1 + self._random.choice((0, 0, 0, 1, 3))):
            self._break(body, others)
        return bytes(body)

    def _break(self, body: bytearray, others: bytes) -> None:
        chance = self._random
        at = chance.randrange(len(body) + 1)
        match chance.randrange(8):
            case 0 if at < len(body):
                body[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(body):
                body[at] = chance.choice(_NUMBERS) & 0xFF
            case 2:
                number = chance.choice(_LARGE)
                form = chance.choice([f for f, bits in _FORMS if number < 1 << bits])
                body[at : at + struct.calcsize(form)] = struct.pack(form, number)
            case 3:
                del body[at : at + 1 + chance.randrange(_MOST_INSERTED)]
            case 4:
                body[at:at] = chance.randbytes(1 + chance.randrange(_MOST_INSERTED))
            case 5:
                piece = body[at : at + 1 + chance.randrange(_MOST_INSERTED)]
                body[at:at] = piece
            case 6:
                del body[at:]
            case _:
                start = chance.randrange(len(others) + 1)
                piece = bytearray(others[start : start + 1 + chance.randrange(_MOST_INSERTED)])
                body[at : at + len(piece)] = piece

    def payloads(self, dump: Dump, foreign: Dump) -> Iterator[bytes]:
        """Yield a dump's payloads, some broken, lost, doubled, in another order or of others."""
        chance = self._random
        rarity = chance.choice((3, 10, 40))
        held: bytes | None = None
        for payload in dump.payloads:
            if held is not None:
                yield payload
                yield held
                held = None
            elif chance.randrange(rarity):
                yield payload
            else:
                match chance.randrange(10):
                    case 0:
                        continue
                    case 1:
                        yield payload
                        yield payload
                    case 2:
                        held = payload
                    case 3:
                        yield chance.choice(foreign.payloads)
                    case 4:
                        yield self.broken(payload)  # the checksum does not fit, nor the header
                    case _:
                        yield self._event(payload, chance.choice(foreign.payloads))

    def _event(self, payload: bytes, other: bytes) -> bytes:
        """Return an event with another body, or type, and a checksum that fits."""
        if payload[:1] != b"\0" or len(payload) < 1 + HEADER_BYTES + 4:
            return self.broken(payload)
        header, body = bytearray(payload[1 : 1 + HEADER_BYTES]), payload[1 + HEADER_BYTES : -4]
        if self._random.randrange(12):
            body = self.broken(body, other[20:])
        else:
            header[4] = self._random.randrange(256)
        header[9:13] = (HEADER_BYTES + len(body) + 4).to_bytes(4, "little")
        whole = bytes(header) + body
        return b"\0" + whole + crc32(whole).to_bytes(4, "little")


_FORMS = (("<B", 8), ("<H", 16), (">H", 16), ("<I", 32), (">I", 32), ("<Q", 64), (">Q", 64))
