"""What a definition (CREATE, ALTER, DROP, ...) is about, and what it does to rows without a word.

TRUNCATE, DROP and their like take rows away that the binlog has no images of. The text is all there
is to tell it by, so its words are read as the server reads them; what is not understood concerns
the database that was in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from caretaker.binlog.filters import Filters
from caretaker.binlog.statements import tokens

Name: TypeAlias = tuple[str, str]


class Effect(Enum):
    """What a definition does to the rows of a table."""

    NONE = auto()
    EMPTIES = auto()
    #: Some may be gone, or others have come: a partition was dropped, another table took the name.
    UNCLEAR = auto()


@dataclass(frozen=True, slots=True)
class Concern:
    """What a definition is about.

    Attributes:
        tables: Tables, and whatever else shares a name's shape: views, procedures, triggers.
        schema: The database that it is about; empty where it is about the server: its accounts.
        emptied: Tables without rows after it, `unclear` those of which nobody can say.
        dropped: The database is gone with all its tables.
        routine: What is named is no table, and no view: a procedure, an event.
    """

    tables: tuple[Name, ...] = ()
    schema: str = ""
    emptied: frozenset[Name] = frozenset()
    unclear: frozenset[Name] = frozenset()
    dropped: bool = False
    routine: bool = False

    @property
    def table(self) -> Name | None:
        """The one table or view that it is about; None where there are several, or none."""
        return self.tables[0] if len(self.tables) == 1 and not self.routine else None

    def covered(self, filters: Filters) -> bool:
        """Say whether it is about anything that a trail covers; accounts are everybody's."""
        if self.tables:
            return any(filters.covers(schema, table) for schema, table in self.tables)
        return not self.schema or filters.covers_some(self.schema)

    def effect(self, schema: str, table: str) -> Effect:
        """Say what it does to the rows of a table.

        A server that does not tell cases apart logs a name as it was typed: one that differs in
        case only may be the same table or another.
        """
        if self.dropped and self.schema == schema:
            return Effect.EMPTIES
        if (schema, table) in self.unclear:
            return Effect.UNCLEAR
        if (schema, table) in self.emptied:
            return Effect.EMPTIES
        folded = (schema.casefold(), table.casefold())
        touched = self.emptied | self.unclear
        if any((db.casefold(), name.casefold()) == folded for db, name in touched):
            return Effect.UNCLEAR
        return Effect.NONE


def concern_of(sql: str, schema: str) -> Concern:
    """Return what a definition is about; `schema` is the database in use.

    >>> concern_of("TRUNCATE TABLE t", "shop").effect("shop", "t")
    <Effect.EMPTIES: 2>
    >>> concern_of("CREATE USER app", "shop").schema
    ''
    """
    return _Reader(sql, schema).concern()


_RELATIONS = frozenset(
    b"VIEW PROCEDURE FUNCTION TRIGGER EVENT SEQUENCE PACKAGE INDEX TABLE TABLES DATABASE SCHEMA"
    b" DATABASES USER ROLE SERVER LOGFILE TABLESPACE UNDO RESOURCE SPATIAL LIBRARY INSTANCE".split()
)
_OF_THE_SERVER = frozenset(
    b"USER ROLE SERVER LOGFILE TABLESPACE UNDO RESOURCE SPATIAL INSTANCE".split()
)
_LIKE_TABLES = frozenset((b"VIEW", b"SEQUENCE"))
_DATABASES = frozenset((b"DATABASE", b"SCHEMA"))
_TABLES = frozenset((b"TABLE", b"TABLES"))
_BEFORE_A_NAME = frozenset(b"IF NOT EXISTS WAIT NOWAIT BODY".split())
_PARTITION_VERBS = frozenset(b"TRUNCATE DROP EXCHANGE DISCARD IMPORT CONVERT".split())
_NOT_THE_TABLE = frozenset(b"COLUMN INDEX KEY PARTITION".split())


class _Reader:
    """Reads one statement from the left."""

    def __init__(self, sql: str, schema: str) -> None:
        self._schema = schema
        self._tokens = list(tokens(sql.encode("utf-8", "surrogateescape")))
        self._at = 0

    def concern(self) -> Concern:
        verb = self._word()
        self._at += 1
        if verb == b"TRUNCATE":
            self._pass({b"TABLE"})
            names = (self._name(),)
            return Concern(names, self._schema, emptied=frozenset(names))
        if verb in {b"GRANT", b"REVOKE", b"SET", b"INSTALL", b"UNINSTALL"}:
            return Concern()
        if verb == b"RENAME" and self._word() in _TABLES:
            return self._rename()
        replaces, temporary, noun = self._noun()
        if noun in _OF_THE_SERVER:
            return Concern()
        if noun in _DATABASES:
            return self._database(dropped=verb == b"DROP")
        if noun == b"INDEX":
            return self._behind(b"ON")
        if noun in _TABLES:
            return self._tables(verb, replaces=replaces, temporary=temporary)
        if noun == b"TRIGGER" and verb == b"CREATE":
            return self._behind(b"ON")
        if noun:
            self._before_a_name()
            return Concern((self._name(),), self._schema, routine=noun not in _LIKE_TABLES)
        return Concern(schema=self._schema)

    def _noun(self) -> tuple[bool, bool, bytes]:
        """Pass what stands between the verb and what it is applied to."""
        replaces = temporary = False
        while self._at < len(self._tokens):
            word = self._word()
            self._at += 1
            replaces |= word == b"REPLACE"
            temporary |= word == b"TEMPORARY"
            # CREATE SPATIAL INDEX, and CREATE SPATIAL REFERENCE SYSTEM.
            if word in _RELATIONS and not (word == b"SPATIAL" and self._word() == b"INDEX"):
                return replaces, temporary, word
        return replaces, temporary, b""

    def _database(self, *, dropped: bool) -> Concern:
        self._before_a_name()
        # ALTER DATABASE may leave the name out.
        name = self._text() if self._at < len(self._tokens) else ""
        return Concern(schema=name or self._schema, dropped=dropped)

    def _tables(self, verb: bytes, *, replaces: bool, temporary: bool) -> Concern:
        self._before_a_name()
        names = [self._name()]
        while verb == b"DROP" and self._other() == b",":
            self._at += 1
            names.append(self._name())
        if temporary:
            return Concern(tuple(names), self._schema)
        if verb == b"DROP" or replaces:
            return Concern(tuple(names), self._schema, emptied=frozenset(names))
        if verb != b"ALTER":
            return Concern(tuple(names), self._schema)
        return self._altered(names[0])

    def _altered(self, name: Name) -> Concern:
        """Look for what else than a table's shape is changed: its name, whole partitions."""
        names = [name]
        emptied: set[Name] = set()
        unclear: set[Name] = set()
        while self._at < len(self._tokens):
            word = self._word()
            self._at += 1
            if word in _PARTITION_VERBS and self._word() in {b"PARTITION", b"TABLESPACE"}:
                unclear.add(name)
                if word == b"EXCHANGE":
                    other = self._behind(b"TABLE")
                    names.extend(other.tables)
                    unclear.update(other.tables)
            elif word == b"RENAME" and self._word() not in _NOT_THE_TABLE:
                self._pass({b"TO", b"AS"})
                if self._other() == b"=":
                    self._at += 1
                names.append(self._name())
                emptied.add(name)
                unclear.add(names[-1])
        return Concern(tuple(names), self._schema, frozenset(emptied), frozenset(unclear))

    def _rename(self) -> Concern:
        """RENAME TABLE a TO b, c TO a: from left to right, so that two may change places."""
        self._at += 1
        names: list[Name] = []
        emptied: set[Name] = set()
        unclear: set[Name] = set()
        while self._at < len(self._tokens):
            self._before_a_name()
            old = self._name()
            while self._at < len(self._tokens) and self._word() != b"TO":
                self._at += 1
            self._at += 1
            new = self._name()
            names += [old, new]
            emptied.add(old)
            unclear.discard(old)
            emptied.discard(new)
            unclear.add(new)
            while self._at < len(self._tokens) and self._other() != b",":
                self._at += 1
            self._at += 1
        return Concern(
            tuple(dict.fromkeys(names)), self._schema, frozenset(emptied), frozenset(unclear)
        )

    def _behind(self, word: bytes) -> Concern:
        """The table is named behind a word."""
        while self._at < len(self._tokens) and self._word() != word:
            self._at += 1
        self._at += 1
        if self._at >= len(self._tokens):
            return Concern(schema=self._schema)
        return Concern((self._name(),), self._schema)

    def _before_a_name(self) -> None:
        while self._word() in _BEFORE_A_NAME:
            waits = self._word() == b"WAIT"
            self._at += 2 if waits else 1

    def _pass(self, words: set[bytes]) -> None:
        if self._word() in words:
            self._at += 1

    def _name(self) -> Name:
        first = self._text()
        if self._other() != b".":
            return self._schema, first
        self._at += 1
        return first, self._text()

    def _text(self) -> str:
        """Take one identifier."""
        if self._at >= len(self._tokens):
            return ""
        kind, token = self._tokens[self._at]
        self._at += 1
        if kind == "quoted":
            quote = token[:1]
            token = token[1:-1].replace(quote * 2, quote)
        return token.decode("utf-8", "surrogateescape")

    def _word(self) -> bytes:
        """Return the keyword that is next, if one is: a quoted name is none."""
        kind, token = self._tokens[self._at] if self._at < len(self._tokens) else ("", b"")
        return token.upper() if kind == "word" else b""

    def _other(self) -> bytes:
        kind, token = self._tokens[self._at] if self._at < len(self._tokens) else ("", b"")
        return token if kind == "other" else b""
