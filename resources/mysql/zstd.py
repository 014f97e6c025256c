"""Inflating the payload of a compressed transaction, in pieces: memory is that of one piece."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from caretaker.errors import CorruptEventError

_PIECE = 1 << 16


def decompress(data: bytes) -> Iterator[bytes]:
    """Yield what `data` inflates to; for `Stream`.

    Raises:
        CorruptEventError: It is no zstd, or ends too early.
    """
    try:
        yield from zstandard.ZstdDecompressor().read_to_iter(
            data, read_size=1 << 17, write_size=_PIECE
        )
    except zstandard.ZstdError as error:
        raise CorruptEventError(f"zstd: {error}") from None
