"""Bodies of HTTP answers, up to a limit."""

from __future__ import annotations

from typing import Any

#: Read at a time.
CHUNK_BYTES = 64 * 1024


def read_bounded(response: Any, limit_bytes: int) -> bytes | None:
    """Return the body of a urllib3 response; None where it is larger, which is not read on."""
    chunks: list[bytes] = []
    size = 0
    # Counted after decompression: a few kilobytes of gzip can hold gigabytes.
    for chunk in response.stream(CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > limit_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
