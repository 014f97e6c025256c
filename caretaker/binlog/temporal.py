"""Dates and times of the row images and of JSON as the text that the audit trail holds.

Zero and invalid dates stay as they are: nothing here goes through a calendar, except TIMESTAMP,
which is seconds since the epoch.
"""

from __future__ import annotations

from datetime import UTC, datetime

#: The servers' own; five digits would shift what is of fixed width behind them.
_LAST_YEAR = 9999


def fraction_width(digits: int) -> int:
    """Bytes that `digits` after the second take."""
    return (digits + 1) // 2


def _fraction(raw: bytes, digits: int) -> bytes:
    if not digits:
        return b""
    # Stored as hundredths, ten-thousandths or millionths.
    stored = b"%0*d" % (2 * len(raw), int.from_bytes(raw, "big"))
    if len(stored) > 2 * len(raw):
        raise ValueError(f"{raw.hex()} is no fraction of a second")
    return b"." + stored[:digits]


def date_text(raw: bytes) -> bytes:
    """DATE: 3 bytes, little-endian, day 5 bits, month 4, year 15."""
    packed = int.from_bytes(raw, "little")
    if packed >> 9 > _LAST_YEAR:
        raise ValueError(f"{raw.hex()} is no DATE")
    return b"%04d-%02d-%02d" % (packed >> 9, packed >> 5 & 15, packed & 31)


def datetime_text(raw: bytes, digits: int) -> bytes:
    """DATETIME(digits): 5 bytes, big-endian, and the fraction."""
    packed = int.from_bytes(raw[:5], "big") - (1 << 39)
    if packed < 0:
        raise ValueError(f"{raw.hex()} is no DATETIME")
    return _datetime(packed) + _fraction(raw[5:], digits)


def _datetime(packed: int) -> bytes:
    year, month = divmod(packed >> 22, 13)
    if year > _LAST_YEAR:
        raise ValueError(f"year {year} in a date")
    return b"%04d-%02d-%02d %02d:%02d:%02d" % (
        year,
        month,
        packed >> 17 & 31,
        packed >> 12 & 31,
        packed >> 6 & 63,
        packed & 63,
    )


def time_text(raw: bytes, digits: int) -> bytes:
    """TIME(digits): 3 bytes, big-endian, and the fraction, all one number below and above zero."""
    fraction = 8 * fraction_width(digits)
    packed = int.from_bytes(raw, "big") - (1 << 23 << fraction)
    sign, packed = (b"-", -packed) if packed < 0 else (b"", packed)
    tail = (packed & (1 << fraction) - 1).to_bytes(fraction // 8, "big")
    return sign + _clock(packed >> fraction) + _fraction(tail, digits)


def _clock(packed: int) -> bytes:
    return b"%02d:%02d:%02d" % (packed >> 12 & 0x3FF, packed >> 6 & 63, packed & 63)


def zero_timestamp(digits: int) -> bytes:
    """The zero TIMESTAMP, which is no moment."""
    return b"0000-00-00 00:00:00" + (b"." + b"0" * digits if digits else b"")


def timestamp_text(raw: bytes, digits: int) -> bytes:
    """TIMESTAMP(digits) with digits above 3 as text, UTC."""
    seconds = int.from_bytes(raw[:4], "big")
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S").encode() + _fraction(raw[4:], digits) + b"Z"


def timestamp_ms(raw: bytes, digits: int) -> int:
    """TIMESTAMP(digits) with digits up to 3 in milliseconds since the epoch."""
    seconds = int.from_bytes(raw[:4], "big")
    fraction = _fraction(raw[4:], digits)[1:] if digits else b""
    return seconds * 1000 + int(fraction.ljust(3, b"0"))


def packed_text(raw: bytes, *, kind_is_time: bool, date_only: bool) -> bytes:
    """The 8 bytes in which JSON keeps DATE, TIME, DATETIME; the latter two with 6 digits."""
    packed = int.from_bytes(raw, "little", signed=True)
    sign, packed = (b"-", -packed) if packed < 0 else (b"", packed)
    micros = packed & 0xFFFFFF
    if kind_is_time:
        return sign + _clock(packed >> 24) + b".%06d" % micros
    if sign:
        raise ValueError(f"{raw.hex()} is no date")
    text = _datetime(packed >> 24)
    return text[:10] if date_only else text + b".%06d" % micros
