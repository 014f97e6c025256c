"""Partition idents exactly as CrateDB makes them, and ids that are the same in every run."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence

_SEVEN_BITS = 0x7F


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def partition_ident(values: Sequence[str | None]) -> str:
    """Return the ident of a partition whose values, as text, are `values`.

    The number of values, then for each its length in UTF-8 plus one (0 is NULL) and its bytes,
    in lower-case base32hex without padding (PartitionName.java; both recorded idents come out).

    >>> partition_ident(["1704153600000", None, "y"])
    '0c732dpg6gojacpm60o30c1g0017i'
    """
    raw = bytearray(_varint(len(values)))
    for value in values:
        if value is None:
            raw += _varint(0)
            continue
        encoded = value.encode()
        raw += _varint(len(encoded) + 1) + encoded
    return base64.b32hexencode(bytes(raw)).decode().rstrip("=").lower()


def as_ident_text(value: object) -> str | None:
    """Return a partition value as the text that goes into the ident.

    Booleans are `t` and `f` there (StringType.java), not `true` and `false`.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


class Ids:
    """Ids that look like CrateDB's (22 characters of URL-safe base64), from a seed."""

    def __init__(self, seed: int) -> None:
        """Take the seed that makes two runs alike."""
        self._random = random.Random(seed)

    def short(self) -> str:
        """Return a node or cluster id."""
        raw = bytes(self._random.getrandbits(8) for _ in range(16))
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def uuid(self) -> str:
        """Return an id as sys.jobs shows it."""
        raw = f"{self._random.getrandbits(128):032x}"
        return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
