"""A place in a statement, and what the parser says when something else stands there."""

from __future__ import annotations

from lab.materialize.errors import MaterializeError, syntax
from lab.materialize.tokens import Token, tokens

#: Words that Materialize's parser calls keywords when it meets one where it does not belong.
_KEYWORDS = frozenset({
    "ALL", "ALTER", "AND", "AS", "ASC", "AVAILABILITY", "BEGIN", "BILLED", "BY", "CASCADE",
    "CLUSTER", "CLUSTERS", "COMMIT", "COPY", "CREATE", "CROSS", "DEBUGGING", "DEFAULT", "DELETE",
    "DESC", "DISK", "DISTINCT", "DROP", "EXISTS", "EXPLAIN", "FACTOR", "FETCH", "FOR", "FROM",
    "GRANT", "GROUP", "HAVING", "IF", "IN", "INDEX", "INSERT", "INTERNAL", "INTERVAL", "INTO",
    "INTROSPECTION", "JOIN", "KEY", "LIKE", "LIMIT", "MANAGED", "MATERIALIZED", "NO", "NOT", "NULL",
    "ON", "OR", "ORDER", "OWNER", "PRIMARY", "READY", "REFRESH", "RENAME", "REPLICA", "REPLICAS",
    "REPLICATION", "RESET", "RESTRICT", "RETURNING", "REVOKE", "ROLLBACK", "ROW", "SCHEDULE",
    "SELECT", "SET", "SHOW", "SIZE", "SOURCE", "START", "SUBSCRIBE", "SWAP", "TABLE", "TIMEOUT",
    "TO", "TRANSACTION", "UNION", "UNIQUE", "UNTIL", "UPDATE", "USING", "VALUES", "VIEW", "WAIT",
    "WHERE", "WITH", "ZONE", "ZONES",
})  # fmt: skip
_SYMBOLS = {
    ".": "dot", "(": "left parenthesis", ")": "right parenthesis", ",": "comma", ";": "semicolon",
    "[": "left square bracket", "]": "right square bracket", "*": "star",
}  # fmt: skip


def described(token: Token | None) -> str:
    """Return a token as the parser names it: `EOF`, `dot`, `REPLICATION`, `identifier "x"`."""
    if token is None:
        return "EOF"
    if token.kind == "word" and token.word in _KEYWORDS:
        return token.word
    if token.name is not None:
        return f'identifier "{token.name}"'
    if token.value is not None:
        return f'string literal "{token.value}"'
    if token.kind == "number":
        return f'number "{token.text}"'
    if token.kind == "parameter":
        return f'parameter "{token.text}"'
    return _SYMBOLS.get(token.text, f'operator "{token.text}"')


class Cursor:
    """Walks the tokens of one statement."""

    def __init__(self, sql: str) -> None:
        """Stand before the first token."""
        self._tokens = [token for token in tokens(sql) if token.text != ";"]
        self._here = 0
        self._length = len(sql)

    def peek(self, ahead: int = 0) -> Token | None:
        """Return the token that is `ahead` of here; None behind the end."""
        here = self._here + ahead
        return self._tokens[here] if here < len(self._tokens) else None

    def advance(self) -> None:
        """Step over one token."""
        self._here += 1

    def at_word(self, word: str) -> bool:
        """Return whether this bare word stands here."""
        token = self.peek()
        return token is not None and token.word == word

    def accept(self, *words: str) -> bool:
        """Step over these words if all of them stand here."""
        found = [self.peek(n) for n in range(len(words))]
        if [token.word if token else "" for token in found] != list(words):
            return False
        self._here += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Step over these words, or complain about the first that does not stand here."""
        for word in words:
            if not self.accept(word):
                raise self.complaint(f"Expected {word}")

    def one_of(self, *words: str) -> str:
        """Step over one of these words and return it."""
        for word in words:
            if self.accept(word):
                return word
        raise self.complaint(f"Expected one of {' or '.join(words)}")

    def take(self, symbol: str) -> bool:
        """Step over a symbol if it stands here."""
        token = self.peek()
        if token is None or token.text != symbol:
            return False
        self._here += 1
        return True

    def symbol(self, symbol: str) -> None:
        """Step over a symbol, or complain."""
        if not self.take(symbol):
            raise self.complaint(f"Expected {_SYMBOLS.get(symbol, symbol)}")

    def identifier(self) -> str:
        """Step over an identifier and return what it names."""
        token = self.peek()
        name = token.name if token is not None else None
        if token is None or name is None:
            raise self.complaint("Expected identifier")
        if not name:
            raise syntax("zero-length delimited identifier", token.at)
        self._here += 1
        return name

    def string(self) -> str:
        """Step over a string literal and return what it means."""
        token = self.peek()
        value = token.value if token is not None else None
        if value is None:
            raise self.complaint("Expected literal string")
        self._here += 1
        return value

    def end(self) -> None:
        """Complain unless nothing is left."""
        if self.peek() is not None:
            raise self.complaint("Expected end of statement")

    def complaint(self, expected: str) -> MaterializeError:
        """Return the parser's error about what stands here instead."""
        token = self.peek()
        at = self._length if token is None else token.at
        return syntax(f"{expected}, found {described(token)}", at)
