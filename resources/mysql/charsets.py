"""What only the source knows of its character sets: asked once, for `caretaker.binlog.charsets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from caretaker.binlog.charsets import Charsets
from resources.mysql.session import Session
from resources.sql import mysql as sql

#: Character sets that Python has no codec for, and how many bytes a character has at most.
_ASKED = {"armscii8": 1, "dec8": 1, "geostd8": 1, "keybcs2": 1, "swe7": 1, "eucjpms": 3}
_AT_ONCE = 512


def charsets_of(session: Session) -> Charsets:
    """Return the transcoders of a source, with tables for what Python lacks."""
    collations = {int(number): str(name) for number, name in session.rows(sql.COLLATIONS) if name}
    there = set(collations.values())
    tables = {
        name: dict(_characters(session, name, length))
        for name, length in _ASKED.items()
        if name in there
    }
    return Charsets(tables, collations)


def _characters(session: Session, charset: str, longest: int) -> Iterator[tuple[bytes, str]]:
    sequences = list(_sequences(longest))
    for at in range(0, len(sequences), _AT_ONCE):
        asked = sequences[at : at + _AT_ONCE]
        (told,) = session.rows(sql.characters(charset, asked))
        for raw, text in zip(asked, told, strict=True):
            if _is_one_character(raw, text):
                yield raw, text


def _is_one_character(raw: bytes, text: Any) -> bool:
    # what is none becomes '?', or two characters where its first byte is one by itself
    return isinstance(text, str) and len(text) == 1 and (text != "?" or raw == b"?")


def _sequences(longest: int) -> Iterator[bytes]:
    yield from (bytes((code,)) for code in range(256))
    if longest > 1:
        # EUC: two bytes from the upper half, or one behind 8E, or two behind 8F
        upper = range(0xA1, 0xFF)
        yield from (bytes((first, second)) for first in (0x8E, *upper) for second in upper)
        yield from (bytes((0x8F, first, second)) for first in upper for second in upper)
