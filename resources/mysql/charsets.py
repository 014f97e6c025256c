"""What only the source knows of its character sets, for `caretaker.binlog.charsets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from caretaker.binlog.charsets import CharacterTable, Charsets
from resources.mysql.session import Session
from resources.mysql.settings import MySQLSettings
from resources.sql import mysql as sql

#: Character sets that Python has no codec for, and how many bytes a character has at most.
_ASKED = {"armscii8": 1, "dec8": 1, "geostd8": 1, "keybcs2": 1, "swe7": 1, "eucjpms": 3}
_AT_ONCE = 512


def charsets_of(session: Session, settings: MySQLSettings) -> Charsets:
    """Return the transcoders of a source; what Python lacks is asked when it is met."""
    collations = {int(number): str(name) for number, name in session.rows(sql.COLLATIONS) if name}
    return Charsets(_Tables(settings), collations)


class _Tables(Mapping[str, CharacterTable]):
    """Tables by character set, each asked once, on a connection of its own: 0.1 s at most."""

    def __init__(self, settings: MySQLSettings) -> None:
        self._settings = settings
        self._known: dict[str, CharacterTable] = {}

    def __getitem__(self, charset: str) -> CharacterTable:
        if charset not in self._known:
            longest = _ASKED[charset]
            with Session(self._settings) as session:
                self._known[charset] = dict(_characters(session, charset, longest))
        return self._known[charset]

    def __iter__(self) -> Iterator[str]:
        return iter(_ASKED)

    def __len__(self) -> int:
        return len(_ASKED)

    def __contains__(self, charset: object) -> bool:
        # Mapping's own would ask for the table to answer
        return charset in _ASKED


def _characters(session: Session, charset: str, longest: int) -> Iterator[tuple[bytes, str]]:
    sequences = list(_sequences(longest))
    for at in range(0, len(sequences), _AT_ONCE):
        asked = sequences[at : at + _AT_ONCE]
        (told,) = session.rows(sql.characters(charset, asked))
        for raw, text in zip(asked, told, strict=True):
            if _is_one_character(raw, text):
                yield raw, text


def _is_one_character(raw: bytes, text: Any) -> bool:
    # what is none becomes NULL or '?', or two characters where its first byte is one by itself
    return isinstance(text, str) and len(text) == 1 and (text != "?" or raw == b"?")


def _sequences(longest: int) -> Iterator[bytes]:
    yield from (bytes((code,)) for code in range(256))
    if longest > 1:
        # EUC: two bytes from the upper half, or one behind 8E, or two behind 8F
        upper = range(0xA1, 0xFF)
        yield from (bytes((first, second)) for first in (0x8E, *upper) for second in upper)
        yield from (bytes((0x8F, first, second)) for first in upper for second in upper)
