"""Reading bytes that someone else wrote: every length is checked before it is believed."""

from __future__ import annotations

from caretaker.errors import CorruptEventError

#: Length-encoded integers: the first byte that announces more, and how many bytes follow.
_LENENC = {252: 2, 253: 3, 254: 8}
_SERIALIZED_LIMIT = 8


class Cursor:
    """A place in a body; `CorruptEventError` for whatever reaches past its end."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at
        self._end = len(data)

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self._end - self._at

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self._at
        if count > self._end - start:
            raise CorruptEventError(f"{count} bytes claimed at {start}, {self._end - start} left")
        self._at = start + count
        return self._data[start : self._at]

    def lenenc_bytes(self) -> bytes:
        """Return bytes that follow their length-encoded length."""
        return self.take(self.lenenc())

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(self.left)

    def uint(self, size: int) -> int:
        """Return a little-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def lenenc(self) -> int:
        """Return a length-encoded integer of the MySQL protocol."""
        first = self.uint(1)
        if first < 251:  # noqa: PLR2004
            return first
        if first not in _LENENC:
            raise CorruptEventError(f"{first} begins no length-encoded integer")
        return self.uint(_LENENC[first])

    def varlen(self) -> int:
        """Return an unsigned integer of mysql::serialization.

        As many extra bytes follow as the first byte has trailing one bits; the value is what is
        left of the little-endian whole.
        """
        first = self.uint(1)
        extra = 0
        while extra < _SERIALIZED_LIMIT and first >> extra & 1:
            extra += 1
        if extra == _SERIALIZED_LIMIT:
            return self.uint(_SERIALIZED_LIMIT)
        return (first | self.uint(extra) << 8) >> (extra + 1)

    def signed_varlen(self) -> int:
        """Return a signed integer of mysql::serialization: the sign is the lowest bit."""
        value = self.varlen()
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def text(self, count: int, what: str) -> str:
        """Return `count` bytes of UTF-8."""
        raw = self.take(count)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise CorruptEventError(f"{what} is no UTF-8: {raw[:64]!r}") from None
