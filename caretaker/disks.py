"""CrateDB's disk watermarks: whether a node may take a shard by them."""

from __future__ import annotations

import re

_PERCENT = re.compile(r"^\s*([0-9.]+)\s*%\s*$")
_RATIO = re.compile(r"^\s*(0?\.[0-9]+|1(?:\.0+)?)\s*$")
_SIZE = re.compile(r"^\s*([0-9.]+)\s*([kmgtp]?)i?b\s*$", re.IGNORECASE)
_UNITS: dict[str, int] = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def is_above(watermark: str | None, total_bytes: int | None, used_bytes: int | None) -> bool | None:
    """Tell whether a disk is fuller than a watermark allows; None where nobody can tell.

    A percentage or ratio is of space used, a size is of space left (CrateDB's own reading).

    >>> is_above("85%", 100, 86), is_above("0.85", 100, 80), is_above("50kb", 100_000, 60_000)
    (True, False, True)
    >>> is_above("85%", None, None), is_above("much", 100, 10)
    (None, None)
    """
    if not total_bytes or used_bytes is None or used_bytes < 0 or watermark is None:
        return None
    if percent := _PERCENT.match(watermark):
        return used_bytes * 100 > float(percent[1]) * total_bytes
    if ratio := _RATIO.match(watermark):
        return used_bytes > float(ratio[1]) * total_bytes
    if size := _SIZE.match(watermark):
        return total_bytes - used_bytes < float(size[1]) * float(1024 ** _UNITS[size[2].lower()])
    return None
