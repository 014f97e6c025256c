"""CrateDB's own grammar as the judge of syntax, and its tree for statements that change things."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

from antlr4 import CommonTokenStream
from antlr4.error.ErrorListener import ErrorListener
from cratedb_sqlparse.generated_parser.SqlBaseLexer import SqlBaseLexer
from cratedb_sqlparse.generated_parser.SqlBaseParser import SqlBaseParser
from cratedb_sqlparse.parser import CaseInsensitiveStream

from lab.cratedb.answers import CrateError
from lab.cratedb.tokens import skeleton

#: A node of ANTLR's tree; the package ships no types.
Tree = Any


# The lexer keeps its dollar tags, and ANTLR its automata, in places all threads share.
_ONE_AT_A_TIME = threading.Lock()


class _FirstError(ErrorListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.message: str | None = None

    def syntaxError(  # noqa: N802 - ANTLR's signature
        self, recognizer: Any, symbol: Any, line: int, column: int, msg: str, e: Any
    ) -> None:
        del recognizer, symbol, e
        if self.message is None:
            self.message = f"line {line}:{column + 1}: {msg}"


def parse(sql: str) -> Tree:
    """Return the tree of the one statement in `sql`, or raise CrateDB's ParsingException."""
    errors = _FirstError()
    lexer = SqlBaseLexer(CaseInsensitiveStream(sql))
    lexer.removeErrorListeners()
    parser = SqlBaseParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(errors)
    with _ONE_AT_A_TIME:
        tree = parser.statements()
    if errors.message is not None:
        raise CrateError(4000, "ParsingException", errors.message)
    if tree.getChildCount() == 0 or kind(tree.getChild(0)) == "TerminalNodeImpl":
        raise CrateError(4000, "ParsingException", "line 1:1: mismatched input '<EOF>'")
    return tree.getChild(0)


def kind(tree: Tree) -> str:
    """Return the name of the grammar rule `tree` was made by."""
    return type(tree).__name__.removesuffix("Context")


@lru_cache(maxsize=4096)
def _judge(shape: str) -> bool:
    try:
        parse(shape)
    except CrateError:
        return False
    return True


def require_valid(sql: str) -> None:
    """Raise the ParsingException for `sql` if it has one.

    ANTLR in Python takes 20 to 100 ms for a long SELECT, so statements that differ only in
    their literals are judged once.
    """
    if not _judge(skeleton(sql)):
        parse(sql)
