"""Tables that generated decoders index instead of computing: filled as asked, and bounded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache

from caretaker.binlog import temporal

_i32 = struct.Struct("<i").pack
_i64 = struct.Struct("<q").pack

#: Above that a table is emptied; a stream does not run for weeks into more and more memory.
_MOST_ENTRIES = 1 << 16
_LONGEST_REMEMBERED = 1024

_FIRST_YEAR = 1900

#: A signed byte as int32.
SIGNED_BYTE = [struct.pack("<i", code - 256 if code > 127 else code) for code in range(256)]  # noqa: PLR2004
#: The highest byte of a signed SMALLINT or MEDIUMINT, and what follows it in an int32.
HIGH_OF_TWO = [bytes((code,)) + (b"\xff\xff" if code > 127 else b"\0\0") for code in range(256)]  # noqa: PLR2004
HIGH_OF_THREE = [bytes((code,)) + (b"\xff" if code > 127 else b"\0") for code in range(256)]  # noqa: PLR2004
#: YEAR as int32.
YEAR = [_i32(code + _FIRST_YEAR if code else 0) for code in range(256)]
#: BIT(1) to BIT(8) as int64.
BITS = [_i64(code) for code in range(256)]
#: Three digits, and the same behind a point: an index past 999 is past the end.
THREE_DIGITS = [b"%03d" % number for number in range(1000)]
POINT_AND_THREE_DIGITS = [b".%03d" % number for number in range(1000)]


class Dates(dict[bytes, bytes]):
    """DATE -> `YYYY-MM-DD`."""

    def __missing__(self, raw: bytes) -> bytes:
        if len(self) >= _MOST_ENTRIES:
            self.clear()
        self[raw] = text = temporal.date_text(raw)
        return text


class Clocks(dict[int, bytes]):
    """The lower 16 bits of a DATETIME -> `HH:MM:SS`, for hours below 16 or from 16 on."""

    def __init__(self, hours: int) -> None:
        super().__init__()
        self._hours = hours

    def __missing__(self, packed: int) -> bytes:
        text = b"%02d:%02d:%02d" % (
            self._hours + (packed >> 12),
            packed >> 6 & 63,
            packed & 63,
        )
        self[packed] = text
        return text


_CLOCKS = (Clocks(0), Clocks(16))


class Days(dict[bytes, tuple[bytes, Clocks]]):
    """The upper 3 bytes of a DATETIME -> `YYYY-MM-DD `, and what spells the lower two."""

    def __missing__(self, raw: bytes) -> tuple[bytes, Clocks]:
        if len(self) >= _MOST_ENTRIES:
            self.clear()
        text = temporal.datetime_text(raw + b"\0\0", 0)[:11]
        self[raw] = entry = (text, _CLOCKS[raw[2] & 1])
        return entry


DATES = Dates()
DAYS = Days()


class Fractions(list[bytes]):
    """Hundredths or ten-thousandths of a second -> `.` and as many digits as the column has."""

    def __init__(self, digits: int) -> None:
        stored = 2 * temporal.fraction_width(digits)
        super().__init__(b"." + (b"%0*d" % (stored, n))[:digits] for n in range(10**stored))


@cache
def fractions(digits: int) -> Fractions:
    """Return the one table of so many digits: it has up to 10,000 entries."""
    return Fractions(digits)


class Leads(dict[int, bytes]):
    """A value's length -> everything that stands in BSON between the last value and this one."""

    def __init__(self, write: Callable[[int], bytes]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, length: int) -> bytes:
        lead = self._write(length)
        if length <= _LONGEST_REMEMBERED:
            self[length] = lead
        return lead
