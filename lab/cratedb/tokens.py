"""SQL text as tokens, fast: the grammar has judged it already, this only cuts it up."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<string>[eE]?'(?:[^']|'')*')
  | (?P<dollar>\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$)
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<number>(?:\d[\d_]*\.\d*|\.\d+|\d[\d_]*)(?:[eE][+-]?\d+)?)
  | (?P<param>\?|\$\d+)
  | (?P<word>[A-Za-z_\u0080-\uffff@][\w@\u0080-\uffff]*)
  | (?P<op>::|<>|<=|>=|!=|\|\||!~\*|!~|~\*|->>|->|&&|<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True, frozen=True)
class Token:
    """One token: its kind (string, quoted, number, param, word, op), its text, its place."""

    kind: str
    text: str
    at: int

    @property
    def low(self) -> str:
        """Return a keyword or name in lower case; anything else as it stands."""
        return self.text.lower() if self.kind == "word" else self.text

    @property
    def name(self) -> str:
        """Return the identifier this token spells: unquoted is lower-cased, quoted is not."""
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        return self.text.lower()


def tokenize(sql: str) -> list[Token]:
    """Return the tokens of `sql` without blanks, comments and a final semicolon."""
    out: list[Token] = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "op"
        if kind == "tag":
            kind = "dollar"
        if kind == "space":
            continue
        text = match.group()
        if kind == "dollar":
            body = text[len(match["tag"]) + 2 : -len(match["tag"]) - 2]
            kind, text = "string", "'" + body.replace("'", "''") + "'"
        out.append(Token(kind, text, match.start()))
    while out and out[-1].text == ";":
        out.pop()
    return out


def skeleton(sql: str) -> str:
    """Return `sql` with its literals blanked: two statements of one skeleton parse alike."""
    parts: list[str] = []
    for match in _TOKEN.finditer(sql):
        if match["string"] is not None:
            parts.append("''")
        elif match["number"] is not None:
            parts.append("1" if match["number"].isdigit() else "1.0")
        elif match["space"] is not None:
            parts.append(" ")
        else:
            parts.append(match.group())
    return "".join(parts)


def quote(name: str) -> str:
    """Return `name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'
