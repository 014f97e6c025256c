"""The text of a statement in the character set of the client that sent it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: First and last collation id of the character sets whose bytes are not UTF-8 where it matters.
_LATIN1 = frozenset((5, 8, 15, 31, 47, 48, 49, 94))
_CODECS: Mapping[int, str] = MappingProxyType(
    {
        **dict.fromkeys(_LATIN1, "cp1252"),
        **dict.fromkeys((1, 84), "big5hkscs"),
        **dict.fromkeys((2, 9, 21, 27, 77), "iso8859_2"),
        **dict.fromkeys((12, 91), "euc_jp"),
        **dict.fromkeys((13, 88), "cp932"),
        **dict.fromkeys((95, 96), "cp932"),
        **dict.fromkeys((19, 85), "euc_kr"),
        **dict.fromkeys((24, 86), "gb2312"),
        **dict.fromkeys((28, 87), "gbk"),
        **dict.fromkeys((248, 249, 250), "gb18030"),
        **dict.fromkeys((14, 23, 50, 51, 52), "cp1251"),
        **dict.fromkeys((7, 74), "koi8_r"),
        **dict.fromkeys((25, 70), "iso8859_7"),
        **dict.fromkeys((16, 71), "iso8859_8"),
        **dict.fromkeys((30, 78), "iso8859_9"),
    }
)


def decode_sql(raw: bytes, collation: int | None) -> str:
    """Return the statement as text; bytes that are none stay readable, as Python escapes them."""
    codec = _CODECS.get(collation, "utf-8") if collation is not None else "utf-8"
    return raw.decode(codec, "backslashreplace")
