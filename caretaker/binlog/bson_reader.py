"""The elements of BSON documents that this wing wrote, without making objects of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from caretaker.binlog.bson_writer import Value

_FIXED_SIZES = {0x01: 8, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x12: 8, 0x13: 16}
_TEXT, _BINARY = 0x02, 0x05
_length = struct.Struct("<i").unpack_from


def elements(document: bytes) -> Iterator[tuple[bytes, Value]]:
    """Yield (name, value) of a document's or an array's elements."""
    place = 4
    while document[place]:
        code = document[place]
        name_end = document.index(b"\0", place + 1)
        start = name_end + 1
        if code in _FIXED_SIZES:
            end = start + _FIXED_SIZES[code]
        else:
            length = int(_length(document, start)[0])
            # A document's length counts itself, a text's not, BinData's neither it nor its subtype.
            end = start + length + {_TEXT: 4, _BINARY: 5}.get(code, 0)
        yield document[place + 1 : name_end], (bytes((code,)), document[start:end])
        place = end
