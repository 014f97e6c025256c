"""Text of MySQL's and MariaDB's character sets as UTF-8, exactly as the server converts it.

Python's codecs were compared with `CONVERT(... USING utf8mb4)` of MySQL 9.7 for every single byte
and every double byte: where they differ, `_DIFFERENCES` has the server's word. What Python lacks
comes as a table from the caller, who asks the server once.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from typing import TypeAlias

from caretaker.errors import RefusedError

#: Bytes as stored -> UTF-8. Raises ValueError (UnicodeDecodeError is one) for what is no text.
Transcoder: TypeAlias = Callable[[bytes], bytes]

#: Of one character set: each character's bytes -> the character.
CharacterTable: TypeAlias = Mapping[bytes, str]

# Ids of collations by character set; both servers agree where both have an id. Those of MariaDB
# above 2047 belong to UCA 14, those from 1025 on are NO PAD twins.
_COLLATIONS: dict[str, tuple[range | int, ...]] = {
    "armscii8": (32, 64, 1056, 1088),
    "ascii": (11, 65, 1035, 1089),
    "big5": (1, 84, 1025, 1108),
    "binary": (63,),
    "cp1250": (26, 34, 44, 66, 99, 1050, 1090),
    "cp1251": (14, 23, range(50, 53), 1074, 1075),
    "cp1256": (57, 67, 1081, 1091),
    "cp1257": (29, 58, 59, 1082, 1083),
    "cp850": (4, 80, 1028, 1104),
    "cp852": (40, 81, 1064, 1105),
    "cp866": (36, 68, 1060, 1092),
    "cp932": (95, 96, 1119, 1120),
    "dec8": (3, 69, 1027, 1093),
    "eucjpms": (97, 98, 1121, 1122),
    "euckr": (19, 85, 1043, 1109),
    "gb18030": (range(248, 251),),
    "gb2312": (24, 86, 1048, 1110),
    "gbk": (28, 87, 1052, 1111),
    "geostd8": (92, 93, 1116, 1117),
    "greek": (25, 70, 1049, 1094),
    "hebrew": (16, 71, 1040, 1095),
    "hp8": (6, 72, 1030, 1096),
    "keybcs2": (37, 73, 1061, 1097),
    "koi8r": (7, 74, 1031, 1098),
    "koi8u": (22, 75, 1046, 1099),
    "latin1": (5, 8, 15, 31, 47, 48, 49, 94, 1032, 1071),
    "latin2": (2, 9, 21, 27, 77, 1033, 1101),
    "latin5": (30, 78, 1054, 1102),
    "latin7": (20, 41, 42, 79, 1065, 1103),
    "macce": (38, 43, 1062, 1067),
    "macroman": (39, 53, 1063, 1077),
    "sjis": (13, 88, 1037, 1112),
    "swe7": (10, 82, 1034, 1106),
    "tis620": (18, 89, 1042, 1113),
    "ucs2": (35, 90, range(128, 160), range(640, 643), 1059, 1114, 1152, 1174, range(2560, 2816)),
    "ujis": (12, 91, 1036, 1115),
    "utf16": (
        *(54, 55, range(101, 125), range(672, 675)),
        *(1078, 1079, 1125, 1147, range(2816, 3072)),
    ),
    "utf16le": (56, 62, 1080, 1086),
    "utf32": (
        *(60, 61, range(160, 192), range(736, 739)),
        *(1084, 1085, 1184, 1206, range(3072, 3328)),
    ),
    "utf8mb3": (
        *(33, 76, 83, range(192, 224), range(576, 579)),
        *(1057, 1107, 1216, 1238, range(2048, 2304)),
    ),
    "utf8mb4": (
        *(45, 46, range(224, 248), range(255, 324), range(608, 611)),
        *(1069, 1070, 1248, 1270, range(2304, 2560)),
    ),
}

_CHARSETS: dict[int, str] = {
    number: charset
    for charset, ranges in _COLLATIONS.items()
    for numbers in ranges
    for number in (numbers if isinstance(numbers, range) else (numbers,))
}

_UTF8 = {"utf8mb3", "utf8mb4", "utf8"}

_CODECS = {
    "big5": "big5",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1256": "cp1256",
    "cp1257": "cp1257",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp866": "cp866",
    "cp932": "cp932",
    "euckr": "cp949",  # the server's euckr has the extended syllables, too
    "gb18030": "gb18030",
    "gb2312": "gb2312",
    "gbk": "gbk",
    "greek": "iso8859_7",
    "hebrew": "iso8859_8",
    "hp8": "hp_roman8",
    "koi8r": "koi8_r",
    "koi8u": "koi8_u",
    "latin1": "cp1252",
    "latin2": "iso8859_2",
    "latin5": "iso8859_9",
    "latin7": "iso8859_13",
    "macce": "mac_latin2",
    "macroman": "mac_roman",
    "sjis": "shift_jis",
    "tis620": "tis_620",
    "ucs2": "utf_16_be",
    "ujis": "euc_jp",
    "utf16": "utf_16_be",
    "utf16le": "utf_16_le",
    "utf32": "utf_32_be",
}

_SINGLE_BYTE = {
    *("cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "greek", "hebrew", "hp8"),
    *("koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "tis620"),
}
_WIDE = {"ucs2", "utf16", "utf16le", "utf32"}

# What the server says where Python's codec says something else, or nothing.
_DIFFERENCES: dict[str, dict[bytes, str]] = {
    "cp866": {b"\xfc": "\u207f", b"\xfd": "\u00b2"},
    "gb18030": {b"\xa8\xbc": "\u1e3f"},
    "greek": {b"\xa1": "\u02bd", b"\xa2": "\u02bc"},
    "hebrew": {b"\xaf": "\u203e"},
    "koi8u": {b"\x95": "\u2022"},
    "latin1": {bytes((hole,)): chr(hole) for hole in (0x81, 0x8D, 0x8F, 0x90, 0x9D)},
    "sjis": {b"\x81\x5f": "\\"},
    "ujis": {b"\xa1\xc0": "\\"},
}

_LONGEST_CHARACTER = 4


class Charsets:
    """Transcoders by collation, each made once.

    Args:
        tables: Character sets that Python lacks, by name. Wins over Python's where both are there.
        collations: Ids that the source has and this module does not know -> character set.
    """

    def __init__(
        self,
        tables: Mapping[str, CharacterTable] | None = None,
        collations: Mapping[int, str] | None = None,
    ) -> None:
        self._tables = tables or {}
        self._collations = collations or {}
        self._made: dict[str, Transcoder | None] = {}

    def charset(self, collation: int) -> str:
        """Return the character set of a collation."""
        charset = _CHARSETS.get(collation) or self._collations.get(collation)
        if charset is None:
            raise RefusedError(
                f"collation {collation} is unknown",
                target=collation,
                hint="its row of information_schema.COLLATIONS tells the character set",
            )
        return charset

    def transcoder(self, collation: int) -> Transcoder | None:
        """Return what makes UTF-8 of text in `collation`; None where it is UTF-8 already."""
        charset = self.charset(collation)
        if charset not in self._made:
            self._made[charset] = self._make(charset)
        return self._made[charset]

    def ascii_inside(self, collation: int) -> bool:
        """Whether bytes below 128 are ASCII, wherever they stand in text."""
        charset = self.charset(collation)
        return charset in _UTF8 or (charset not in _WIDE and charset not in self._tables)

    def utf8(self, raw: bytes, collation: int) -> bytes:
        """Return `raw` as UTF-8; ValueError where it is no text in its character set."""
        transcoder = self.transcoder(collation)
        return checked(raw) if transcoder is None else transcoder(raw)

    def _make(self, charset: str) -> Transcoder | None:
        if charset in _UTF8:
            return None
        if charset in self._tables:
            return _from_table(self._tables[charset])
        if charset == "ascii":
            return _ascii
        codec = _CODECS.get(charset)
        if codec is None:
            raise RefusedError(
                f"text in {charset} needs a table of that character set",
                target=charset,
                hint="the source gives one: SELECT CONVERT(... USING utf8mb4)",
            )
        differences = _DIFFERENCES.get(charset, {})
        if charset in _SINGLE_BYTE:
            return _single_byte(codec, differences)
        return _multi_byte(codec, differences, ascii_inside=charset not in _WIDE)


def checked(raw: bytes) -> bytes:
    """Return UTF-8 as it is; ValueError where it is not.

    The servers let surrogates into utf8 columns (seen: x'EDA080'); BSON's readers do not.
    """
    if not raw.isascii():
        raw.decode("utf-8")
    return raw


def _ascii(raw: bytes) -> bytes:
    if not raw.isascii():
        raw.decode("ascii")
    return raw


def _single_byte(codec: str, differences: Mapping[bytes, str]) -> Transcoder:
    table = "".join(
        differences.get(bytes((code,)), bytes((code,)).decode(codec, "replace"))
        for code in range(256)
    )

    def transcode(raw: bytes) -> bytes:
        if raw.isascii():
            return raw
        # U+FFFD is this function's "undefined", and charmap_decode refuses U+FFFE alone.
        text = codecs.charmap_decode(raw, "strict", table)[0]
        if "\ufffd" in text:
            raise ValueError(f"{raw!r} is not text in {codec}")
        return text.encode("utf-8")

    return transcode


def _multi_byte(codec: str, differences: Mapping[bytes, str], *, ascii_inside: bool) -> Transcoder:
    decode = codecs.lookup(codec).decode

    def transcode(raw: bytes) -> bytes:
        if ascii_inside and raw.isascii():
            return raw
        if any(sequence in raw for sequence in differences):
            return _piecewise(raw)
        return decode(raw, "strict")[0].encode("utf-8")

    def _piecewise(raw: bytes) -> bytes:
        # The same two bytes may be the end of one character and the beginning of the next.
        decoder = codecs.getincrementaldecoder(codec)()
        text, pending = [], b""
        for code in raw:
            pending += bytes((code,))
            character = decoder.decode(pending[-1:])
            if character:
                text.append(differences.get(pending, character))
                pending = b""
        if pending:
            raise ValueError(f"{raw!r} ends within a character of {codec}")
        return "".join(text).encode("utf-8")

    return transcode


def _from_table(table: CharacterTable) -> Transcoder:
    lengths = sorted({len(sequence) for sequence in table})
    if not lengths or lengths[0] < 1 or lengths[-1] > _LONGEST_CHARACTER:
        raise ValueError("a table of a character set has sequences of 1 to 4 bytes")

    def transcode(raw: bytes) -> bytes:
        text, place = [], 0
        while place < len(raw):
            for length in lengths:
                character = table.get(raw[place : place + length])
                if character is not None and place + length <= len(raw):
                    text.append(character)
                    place += length
                    break
            else:
                raise ValueError(f"{raw[place : place + 4]!r} is no character of the table")
        return "".join(text).encode("utf-8")

    return transcode
