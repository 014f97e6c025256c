"""CrateDB's SELECT rewritten, token by token, into one that DuckDB answers the same way.

The grammar has accepted the statement already. What differs between the two is rewritten here,
everything else passes through: any SELECT on the catalog is answered, none is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from lab.cratedb import names
from lab.cratedb.shapes import COLUMNS, OPEN, array_depth, is_object
from lab.cratedb.tokens import Token, quote, tokenize


@dataclass(slots=True, frozen=True)
class RelationRef:
    """A relation named in FROM; `aliased` says whether the statement gives it a name itself."""

    schema: str
    table: str
    aliased: bool


@dataclass(slots=True, frozen=True)
class Hole:
    """A place that is filled per execution: `now`, `user` or `version`."""

    what: str


Part = str | RelationRef | Hole


@dataclass(slots=True)
class Translation:
    """A statement ready for DuckDB but for its relations and holes."""

    parts: list[Part] = field(default_factory=list)
    relations: list[RelationRef] = field(default_factory=list)
    parameters: int = 0


_FUNCTIONS = {
    "array_length": "crate_array_length",
    "arbitrary": "any_value",
    "object_keys": "json_keys",
    "collect_set": "crate_collect_set",
    "array_unique": "list_distinct",
    "array_upper": "crate_array_length",
    "format": "printf",
    "pg_typeof": "typeof",
    "char_length": "length",
}
_HOLES = {
    "current_timestamp": "now",
    "current_user": "user",
    "session_user": "user",
    "user": "user",
    "current_role": "user",
}
_TYPES = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "short": "SMALLINT",
    "byte": "TINYINT",
    "int": "INTEGER",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "object": "JSON",
    "regclass": "VARCHAR",
}
_CLAUSES = {"where", "group", "order", "having", "limit", "offset", "window", "fetch"}
_AFTER_RELATION = {"on", "using", "join", "inner", "left", "right", "full", "cross", "where",
                   "group", "order", "having", "limit", "offset", "union", "intersect", "except",
                   "window", "natural", "fetch"}  # fmt: skip


@lru_cache(maxsize=4096)
def translate(sql: str) -> Translation:
    """Return the translation of a SELECT (or VALUES, WITH) that the grammar accepts."""
    rewriter = _Rewriter(tokenize(sql))
    rewriter.scope()
    return rewriter.result


class _Rewriter:
    """One pass over the tokens; a scope is a query or whatever else stands in parentheses."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.result = Translation()
        self.ctes = {
            name.name
            for name, as_, paren in zip(tokens, tokens[1:], tokens[2:], strict=False)
            if as_.low == "as" and paren.text == "(" and name.kind in {"word", "quoted"}
        }

    def emit(self, part: Part) -> None:
        self.result.parts.append(part)

    def peek(self, ahead: int = 0) -> Token | None:
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def scope(self, *, clause: str = "", expecting: bool = False) -> None:
        """Rewrite up to the parenthesis that closes this scope, or to the end."""
        item: int | None = None
        while (token := self.peek()) is not None and token.text != ")":
            low = token.low
            if low == "select" and token.kind == "word":
                self._keyword(token)
                clause, expecting = "select", False
                while (word := self.peek()) is not None and word.low in {"distinct", "all"}:
                    self._keyword(word)
                item = self.at
                continue
            if clause == "select" and item is not None and self._ends_item(token):
                self._name_item(item)
                item = self.at + 1 if token.text == "," else None
            if token.kind == "word" and low in {"union", "intersect", "except"}:
                clause, expecting = "", False
            elif token.kind == "word" and low in _CLAUSES and not (clause == "" and item is None):
                clause, expecting = low, False
            elif clause == "select" and low == "from" and token.kind == "word":
                clause, expecting = "from", True
                self._keyword(token)
                continue
            elif clause == "from" and (low == "join" or token.text == ","):
                self._keyword(token)
                expecting = True
                continue
            elif clause == "from" and low in {"on", "using"}:
                expecting = False
            if expecting and low != "lateral":
                self._relation(token)
                expecting = False
                continue
            self._expression(token, clause)
        if item is not None:
            self._name_item(item)

    def _ends_item(self, token: Token) -> bool:
        return token.text == "," or (
            token.kind == "word"
            and token.low in _CLAUSES | {"from", "union", "intersect", "except"}
        )

    def _name_item(self, start: int) -> None:
        item = self.tokens[start : self.at]
        # A bare column keeps its name; as an alias of itself it would hide that it is unknown.
        if item and not (
            names.is_star(item) or names.has_alias(item) or names.is_bare_column(item)
        ):
            self.emit(f" AS {quote(names.output_name(item))}")

    def _keyword(self, token: Token) -> None:
        self.emit(f" {token.low} " if token.kind == "word" else token.text)
        self.at += 1

    def _parenthesis(self, *, clause: str = "", expecting: bool = False) -> None:
        self.emit("(")
        self.at += 1
        self.scope(clause=clause, expecting=expecting)
        self.emit(")")
        self.at += 1

    # --- FROM -----------------------------------------------------------------------------

    def _relation(self, token: Token) -> None:
        if token.text == "(":
            following = self.peek(1)
            if following is not None and following.low in {"select", "with", "values"}:
                self._parenthesis()
            else:
                self._parenthesis(clause="from", expecting=True)
            return
        following = self.peek(1)
        if following is not None and following.text == "(":
            self._expression(token, "from")
            return
        parts = [token.name]
        self.at += 1
        while (dot := self.peek()) is not None and dot.text == ".":
            last = self.peek(1)
            parts.append(last.name if last else "")
            self.at += 2
        if len(parts) == 1 and parts[0] in self.ctes:
            self.emit(f" {quote(parts[0])} ")
            return
        after = self.peek()
        aliased = after is not None and (
            after.kind == "quoted" or (after.kind == "word" and after.low not in _AFTER_RELATION)
        )
        schema = parts[-2] if len(parts) > 1 else "doc"
        ref = RelationRef(schema, parts[-1], aliased)
        self.result.relations.append(ref)
        self.emit(ref)

    # --- expressions ----------------------------------------------------------------------

    def _expression(self, token: Token, clause: str) -> None:
        if token.text == "(":
            self._parenthesis()
        elif token.text == "{":
            self._object(clause)
        elif token.kind == "param":
            self.at += 1
            self._parameter(token)
        elif token.kind == "number":
            self.at += 1
            decimal = "." in token.text and "e" not in token.text.lower()
            # DuckDB reads 1.1 as a decimal, CrateDB as a double.
            self.emit(f" {token.text.replace('_', '')}{'e0' if decimal else ''} ")
        elif token.text == "::":
            self.at += 1
            self.emit("::")
            self._type()
        elif token.kind == "word" and token.low in {"like", "ilike"}:
            self._like(token)
        elif token.kind in {"word", "quoted"}:
            self._word(token, clause)
        else:
            self.at += 1
            self.emit(f" {token.text} " if token.kind == "op" and token.text not in ".[]"
                      else token.text)  # fmt: skip

    def _parameter(self, token: Token) -> None:
        if token.text == "?":
            self.result.parameters += 1
            self.emit(f" ${self.result.parameters} ")
        else:
            self.result.parameters = max(self.result.parameters, int(token.text[1:]))
            self.emit(f" {token.text} ")

    def _type(self) -> None:
        token = self.peek()
        if token is not None and token.kind == "word":
            self.at += 1
            self.emit(_TYPES.get(token.low, token.low) + " ")

    def _like(self, token: Token) -> None:
        self._keyword(token)
        pattern, after = self.peek(), self.peek(1)
        if pattern is None or pattern.kind not in {"string", "param"}:
            return
        self._expression(pattern, "")
        if after is None or after.low != "escape":
            # Backslash escapes in CrateDB's LIKE; in DuckDB's only when it is told so.
            self.emit(" ESCAPE '\\' ")

    def _object(self, clause: str) -> None:
        """Rewrite `{a = 1}` as `{'a': 1}`."""
        self.at += 1
        following = self.peek()
        if following is not None and following.text == "}":
            self.at += 1
            self.emit(" '{}'::JSON ")
            return
        self.emit("{")
        expects_key = True
        while (token := self.peek()) is not None and token.text != "}":
            if expects_key and token.kind in {"word", "quoted"}:
                self.emit("'" + token.name.replace("'", "''") + "': ")
                self.at += 2
                expects_key = False
                continue
            expects_key = token.text == ","
            self._expression(token, clause)
        self.emit("}")
        self.at += 1

    def _word(self, token: Token, clause: str) -> None:
        following = self.peek(1)
        if token.kind == "word":
            if following is not None and following.text == "(":
                self._call(token)
                return
            if token.low in _HOLES:
                self.at += 1
                self.emit(Hole(_HOLES[token.low]))
                return
            if token.low in {"current_schema", "current_catalog"}:
                self.at += 1
                self.emit(" 'doc' " if token.low == "current_schema" else " 'crate' ")
                return
        is_path = following is not None and following.text in {".", "["}
        is_column = token.kind == "quoted" or (token.low in COLUMNS and token.low != "values")
        if is_path or is_column:
            self._path(clause)
        else:
            self._keyword(token)

    def _call(self, token: Token) -> None:
        low = token.low
        closes = self.peek(2)
        if low in {"now", "current_schema", "version"} and closes is not None \
                and closes.text == ")":  # fmt: skip
            self.at += 3
            self.emit(" 'doc' " if low == "current_schema" else Hole(low))
            return
        if low in {"in", "and", "or", "not", "filter", "over", "exists", "any", "all", "as",
                   "values", "on", "when", "then", "else", "where", "by"}:  # fmt: skip
            self._keyword(token)
            return
        self.at += 1
        self.emit(f" {_FUNCTIONS.get(low, low)}")
        self._parenthesis()

    def _path(self, clause: str) -> None:
        """Rewrite `t.col['a']['b']`: through an array of objects it becomes an array."""
        parts: list[str] = []
        while True:
            token = self.peek()
            if token is None:
                break
            self.at += 1
            if token.text == "*":
                self.emit(" " + ".".join([*map(quote, parts), "*"]))
                return
            parts.append(token.name)
            dot = self.peek()
            if dot is None or dot.text != ".":
                break
            self.at += 1
        keys: list[str] = []
        while self._key_follows():
            key = self.tokens[self.at + 1].text
            keys.append(key[1:-1].replace("''", "'"))
            self.at += 3
        self.emit(f" {self._accessor(parts, keys, clause)} ")

    def _key_follows(self) -> bool:
        bracket, key, closing = self.peek(), self.peek(1), self.peek(2)
        return (
            bracket is not None and key is not None and closing is not None
            and bracket.text == "[" and key.kind == "string" and closing.text == "]"
        )  # fmt: skip

    def _accessor(self, parts: list[str], keys: list[str], clause: str) -> str:
        # Of `sys.shards.id` DuckDB knows `shards.id`: the relation was given that name.
        base = ".".join(quote(part) for part in parts[-2:])
        column = parts[-1]
        depth = array_depth(column, keys)
        if depth is not None:
            inner = _subscripts("lab_row", keys[depth:])
            return f"list_transform({_subscripts(base, keys[:depth])}, lambda lab_row: {inner})"
        if keys and OPEN in COLUMNS.get(column, []) and clause != "select":
            return "(" + base + "".join(f"->>{_literal(key)}" for key in keys) + ")"
        text = _subscripts(base, keys)
        cast, to = self.peek(), self.peek(1)
        if (
            cast is not None and to is not None and cast.text == "::"
            and to.low in {"text", "varchar", "string"} and is_object(column, keys)
        ):  # fmt: skip
            return f"to_json({text})"
        return text


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _subscripts(base: str, keys: list[str]) -> str:
    return base + "".join(f"[{_literal(key)}]" for key in keys)
