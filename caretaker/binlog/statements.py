"""What a statement in the binlog is: a mark of a transaction, a definition, or a change of rows.

Only the words matter, so the text is cut into words, with strings, quoted names and comments out of
the way; what stands in a version comment (`/*!80000 ... */`) is text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto

from caretaker.errors import CorruptEventError


class Kind(Enum):
    """What a statement does to the trail."""

    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    ROLLBACK_TO = auto()
    MARK = auto()  # SAVEPOINT, RELEASE SAVEPOINT, XA END
    XA_START = auto()
    XA_COMMIT = auto()
    XA_ROLLBACK = auto()
    DEFINITION = auto()
    ADMINISTRATION = auto()
    ROWS = auto()
    UNKNOWN = auto()


_TOKEN = re.compile(
    rb"""
    (?P<skip> [\s;(]+ | \#[^\n]* | --(?=\s|\Z)[^\n]* | /\*(?!M?!).*?(?:\*/|\Z) | /\*M?!\d* | \*/ )
  | (?P<quoted> '(?:[^'\\]|\\.|'')*(?:'|\Z) | "(?:[^"\\]|\\.|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) )
  | (?P<word> [A-Za-z0-9_$@\x80-\xff]+ )
  | (?P<other> . )
    """,
    re.DOTALL | re.VERBOSE,
)

_MARKS = {
    b"BEGIN": Kind.BEGIN,
    b"COMMIT": Kind.COMMIT,
    b"SAVEPOINT": Kind.MARK,
    b"RELEASE": Kind.MARK,
}
_XA = {
    b"START": Kind.XA_START,
    b"BEGIN": Kind.XA_START,
    b"END": Kind.MARK,
    b"COMMIT": Kind.XA_COMMIT,
    b"ROLLBACK": Kind.XA_ROLLBACK,
}
_DEFINITIONS = frozenset(
    b"ALTER CREATE DROP GRANT IMPORT INSTALL RENAME REVOKE TRUNCATE UNINSTALL".split()
)
_ADMINISTRATION = frozenset(b"ANALYZE CACHE CHECK CHECKSUM FLUSH OPTIMIZE REPAIR RESET".split())
_ROWS = frozenset(
    b"CALL DELETE DO EXECUTE INSERT LOAD MERGE REPLACE SELECT TABLE UPDATE VALUES WITH".split()
)
#: SET that defines something; other SETs change a session and are not logged.
_SET_DEFINITIONS = frozenset((b"PASSWORD", b"DEFAULT", b"ROLE", b"RESOURCE"))

_XID = re.compile(
    rb"\s*XA\s+\w+\s+X'([0-9A-Fa-f]{0,128})',X'([0-9A-Fa-f]{0,128})',([0-9]{1,20})\b",
    re.IGNORECASE,
)


def tokens(sql: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield `word`, `quoted` and `other` tokens; blanks, comments and open parentheses are none."""
    for token in _TOKEN.finditer(sql):
        if token.lastgroup is not None and token.lastgroup != "skip":
            yield token.lastgroup, token[0]


def _words(sql: bytes) -> Iterator[bytes]:
    for token in _TOKEN.finditer(sql):
        if token.lastgroup == "word":
            yield token[0].upper()
        elif token.lastgroup != "skip":
            yield b""


def kind_of(sql: bytes) -> Kind:
    """Say what a statement is; one that is not recognised is UNKNOWN, and the reader stops.

    >>> kind_of(b"/* batch 7 */ UPDATE t SET a = 1")
    <Kind.ROWS: 11>
    >>> kind_of(b"CREATE TABLE t (a INT) SELECT 1 AS a")
    <Kind.ROWS: 11>
    """
    mark = _MARKS.get(sql)  # nearly all of them, and as servers spell them
    if mark is not None:
        return mark
    words = _words(sql)
    first = next(words, b"")
    if first in _MARKS:
        return _MARKS[first]
    if first in _DEFINITIONS:
        return _definition(first, words)
    if first in _ADMINISTRATION:
        return Kind.ADMINISTRATION
    if first in _ROWS:
        return Kind.ROWS
    second = next(words, b"")
    if first == b"ROLLBACK":
        target = next(words, b"") if second == b"WORK" else second
        return Kind.ROLLBACK_TO if target == b"TO" else Kind.ROLLBACK
    if first == b"XA":
        return _XA.get(second, Kind.UNKNOWN)
    if first == b"START" and second == b"TRANSACTION":
        return Kind.BEGIN
    if first == b"SET":
        return _setting(second, sql)
    return Kind.UNKNOWN


def _definition(first: bytes, words: Iterator[bytes]) -> Kind:
    """CREATE TABLE ... SELECT, logged whole, changes rows that the binlog has no images of."""
    if first != b"CREATE":
        return Kind.DEFINITION
    noun = next(words, b"")
    if noun == b"OR":
        next(words, b"")
        noun = next(words, b"")
    # rows of a temporary table are nobody's history
    if noun != b"TABLE":
        return Kind.DEFINITION
    before = b""
    for word in words:
        if word in (b"SELECT", b"TABLE") or (before, word) == (b"VALUES", b"ROW"):
            return Kind.ROWS
        before = word
    return Kind.DEFINITION


def _setting(second: bytes, sql: bytes) -> Kind:
    if second in _SET_DEFINITIONS:
        return Kind.DEFINITION
    if second == b"STATEMENT":  # MariaDB: SET STATEMENT variable = value FOR statement
        for token in _TOKEN.finditer(sql):
            if token.lastgroup == "word" and token[0].upper() == b"FOR":
                return kind_of(sql[token.end() :])
    return Kind.UNKNOWN


_SECRET_NOUNS = frozenset((b"USER", b"SERVER", b"ROLE"))
_BEFORE_SECRETS = frozenset((b"BY", b"AS", b"USING", b"PASSWORD", b"="))


def without_secrets(sql: bytes) -> bytes:
    """Return the statement with passwords and their hashes masked; MariaDB logs them as typed.

    >>> without_secrets(b"CREATE USER app IDENTIFIED BY 'hunter2' COMMENT 'the app'")
    b"CREATE USER app IDENTIFIED BY '***' COMMENT 'the app'"
    """
    words = _words(sql)
    first = [next(words, b"") for _ in range(5)]
    if first[0] not in (b"GRANT", b"SET") and not _SECRET_NOUNS.intersection(first):
        return sql
    parts: list[bytes] = []
    before, named = b"", False
    for token in _TOKEN.finditer(sql):
        part = token[0]
        if token.lastgroup == "quoted" and named and before in _BEFORE_SECRETS:
            part = b"'***'"
        if token.lastgroup != "skip":
            before = part.upper()
            named = named or before in (b"IDENTIFIED", b"PASSWORD")
        parts.append(part)
    return b"".join(parts)


def xid_of(sql: bytes) -> str:
    """Return the id of an XA statement as servers log it: `X'gtrid',X'bqual',format`."""
    found = _XID.match(sql)
    if found is None:
        raise CorruptEventError(f"no XA id: {sql[:200]!r}")
    return xid_text(found[1].lower().decode(), found[2].lower().decode(), int(found[3]))


def xid_text(gtrid_hex: str, bqual_hex: str, format_id: int) -> str:
    """The one spelling of an XA id here."""
    return f"X'{gtrid_hex}',X'{bqual_hex}',{format_id}"
