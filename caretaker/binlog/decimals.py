"""DECIMAL as the row image packs it: nine digits to four bytes, most significant first."""

from __future__ import annotations

from caretaker.binlog.bson_writer import DECIMAL128, MOST_DIGITS, Value, decimal128, text

DIGITS_A_GROUP = 9
GROUP_BYTES = 4
#: Bytes that 0 to 9 digits outside of full groups take.
LEFTOVER_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def groups(precision: int, scale: int) -> list[tuple[int, int]]:
    """Return (bytes, digits) of each group of DECIMAL(precision, scale), in order.

    >>> groups(12, 2)
    [(1, 1), (4, 9), (1, 2)]
    """
    whole_groups, whole_left = divmod(precision - scale, DIGITS_A_GROUP)
    fraction_groups, fraction_left = divmod(scale, DIGITS_A_GROUP)
    full = (GROUP_BYTES, DIGITS_A_GROUP)
    parts = [(LEFTOVER_BYTES[whole_left], whole_left), *[full] * (whole_groups + fraction_groups)]
    parts.append((LEFTOVER_BYTES[fraction_left], fraction_left))
    return [(size, digits) for size, digits in parts if digits]


def packed_width(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale)."""
    return sum(size for size, _ in groups(precision, scale))


def unpack(raw: bytes, precision: int, scale: int) -> tuple[int, bool]:
    """Return (the digits as one number, whether it is below zero); ValueError for other bytes."""
    if len(raw) != packed_width(precision, scale) or not raw:
        raise ValueError(f"{raw.hex()} is no DECIMAL({precision},{scale})")
    bits = 8 * len(raw)
    packed = int.from_bytes(raw, "big")
    negative = not packed >> (bits - 1)
    # The sign bit is inverted, and below zero every other bit is, too.
    packed = packed ^ (1 << bits - 1) if not negative else packed ^ (1 << bits - 1) - 1
    digits = 0
    left = bits
    for size, count in groups(precision, scale):
        left -= 8 * size
        group = packed >> left & (1 << 8 * size) - 1
        if group >= 10**count:
            raise ValueError(f"{raw.hex()} is no DECIMAL({precision},{scale})")
        digits = digits * 10**count + group
    return digits, negative


def value(raw: bytes, precision: int, scale: int) -> Value:
    """Return a DECIMAL as Decimal128 with exponent -scale, above 34 digits as text."""
    digits, negative = unpack(raw, precision, scale)
    if precision <= MOST_DIGITS:
        return DECIMAL128, decimal128(digits, scale, negative=negative)
    plain = str(digits).rjust(scale + 1, "0")
    if scale:
        plain = f"{plain[:-scale]}.{plain[-scale:]}"
    return text(f"{'-' if negative else ''}{plain}".encode())
