"""Statements as tokens: enough of SQL's spelling to tell words from what is quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<comment>/\*)
  | (?P<string>(?P<escape>[eE])?'(?:[^'\\]|''|\\.)*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$)
  | (?P<parameter>\$\d+)
  | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
  | (?P<word>[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*)
  | (?P<symbol>::|<=|>=|<>|!=|=>|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)


class UnterminatedError(Exception):
    """A quote or comment that does not end; the message is the server's."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a statement: `text` as written, `at` counted in characters from its start."""

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """Return a bare word in capitals, and nothing for whatever is no bare word."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str | None:
        """Return the identifier that it spells; None where it spells none."""
        if self.kind == "word":
            return self.text.lower()
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        return None

    @property
    def value(self) -> str | None:
        """Return what a string literal means; None where it is none."""
        if self.kind != "string":
            return None
        if self.text[0] in "eE":
            return re.sub(r"''|\\(.)", lambda m: m[1] or "'", self.text[2:-1], flags=re.DOTALL)
        return self.text[1:-1].replace("''", "'")


def tokens(sql: str) -> list[Token]:
    """Return the tokens of `sql` without space and comments, or raise UnterminatedError."""
    found: list[Token] = []
    at = 0
    while at < len(sql):
        end = _end(sql, at)
        kind, text = end[0], sql[at : end[1]]
        if kind not in {"space", "comment"}:
            found.append(Token("string" if kind == "dollar" else kind, text, at))
        at = end[1]
    return found


def _end(sql: str, at: int) -> tuple[str, int]:
    """Return the kind of the token at `at` and where it ends."""
    if sql[at] == "'":
        # A backslash means nothing in a plain literal.
        plain = re.compile(r"'(?:[^']|'')*'").match(sql, at)
        if plain is None:
            raise UnterminatedError("unterminated quoted string")
        return "string", plain.end()
    match = _TOKEN.match(sql, at)
    if match is None:  # the last branch takes any character
        raise UnterminatedError("unterminated statement")
    kind = match.lastgroup if match.lastgroup != "escape" else "string"
    if match["string"]:
        kind = "string"
    if kind == "comment":
        return "comment", _comment_end(sql, at)
    if kind == "dollar":
        end = sql.find(match[0], match.end())
        if end < 0:
            raise UnterminatedError("unterminated dollar-quoted string")
        return "dollar", end + len(match[0])
    if kind == "symbol" and match[0] == '"':
        raise UnterminatedError("unterminated quoted identifier")
    return str(kind), match.end()


def _comment_end(sql: str, at: int) -> int:
    depth, here = 0, at
    while here < len(sql):
        if sql.startswith("/*", here):
            depth, here = depth + 1, here + 2
        elif sql.startswith("*/", here):
            depth, here = depth - 1, here + 2
            if not depth:
                return here
        else:
            here += 1
    raise UnterminatedError("unterminated multiline comment")


def split(sql: str) -> list[str]:
    """Return the statements of `sql`, each without its semicolon; empty ones are left out."""
    out, begin = [], 0
    marks = [token for token in tokens(sql) if token.text == ";"]
    for mark in [*marks, None]:
        end = len(sql) if mark is None else mark.at
        piece = sql[begin:end]
        if tokens(piece):
            out.append(piece.strip())
        begin = end + 1
    return out
