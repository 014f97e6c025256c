"""Values in statements that change something: literals, parameters, and a little arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lab.cratedb.answers import CrateError, invalid
from lab.cratedb.grammar import Tree, kind
from lab.cratedb.tokens import tokenize

#: A value that may need the arguments of the request.
Value = Callable[[Sequence[Any]], Any]

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


class Placeholders:
    """Numbers the `?` of one statement in the order they are met."""

    def __init__(self) -> None:
        """Start before the first one."""
        self._next = 0

    def take(self) -> int:
        """Return the index of the next `?`."""
        self._next += 1
        return self._next - 1


def identifier(tree: Tree) -> str:
    """Return the name an identifier node spells: lower-cased unless it was quoted."""
    return tokenize(tree.getText())[0].name


def qualified(tree: Tree) -> list[str]:
    """Return the parts of `schema.table`."""
    return [t.name for t in tokenize(tree.getText()) if t.text != "."]


def value(tree: Tree, holes: Placeholders) -> Value:
    """Return a function that gives the value of an expression, once the arguments are known."""
    while tree.getChildCount() == 1 and kind(tree) not in _MAKERS:
        tree = tree.getChild(0)
    maker = _MAKERS.get(kind(tree))
    if maker is not None:
        return maker(tree, holes)
    text = tree.getText()
    tokens = tokenize(text)
    if len(tokens) == 1:
        return _constant(tokens[0].name if tokens[0].kind == "quoted" else text)
    raise CrateError(4004, "UnsupportedFeatureException", f"The lab does not evaluate: {text}")


def _constant(what: Any) -> Value:
    def give(args: Sequence[Any]) -> Any:
        del args
        return what

    return give


def _parameter(index: int) -> Value:
    def take(args: Sequence[Any]) -> Any:
        if index >= len(args):
            raise invalid(
                "Tried to resolve a parameter but the arguments provided with the "
                f"SQLRequest only contained {len(args)} parameters."
            )
        return args[index]

    return take


def _placeholder(tree: Tree, holes: Placeholders) -> Value:
    text = tree.getText()
    return _parameter(int(text[1:]) - 1 if text.startswith("$") else holes.take())


def _string(tree: Tree, holes: Placeholders) -> Value:
    del holes
    text = tokenize(tree.getText())[0].text
    return _constant(text[text.index("'") + 1 : -1].replace("''", "'"))


def _number(tree: Tree, holes: Placeholders) -> Value:
    del holes
    text = tree.getText().replace("_", "")
    return _constant(float(text) if any(c in text for c in ".eE") else int(text))


def _boolean(tree: Tree, holes: Placeholders) -> Value:
    del holes
    return _constant(tree.getText().lower() == "true")


def _null(tree: Tree, holes: Placeholders) -> Value:
    del tree, holes
    return _constant(None)


def _unary(tree: Tree, holes: Placeholders) -> Value:
    inner = value(tree.getChild(1), holes)
    if tree.getChild(0).getText() == "-":
        return lambda args: -inner(args)
    return inner


def _binary(tree: Tree, holes: Placeholders) -> Value:
    left, right = value(tree.getChild(0), holes), value(tree.getChild(2), holes)
    sign = _SIGNS.get(tree.getChild(1).getText())
    if sign is None:
        raise CrateError(4004, "UnsupportedFeatureException", "The lab does not divide here")
    return lambda args: sign(left(args), right(args))


def _array(tree: Tree, holes: Placeholders) -> Value:
    items = [
        value(child, holes) for child in tree.getChildren() if kind(child) != "TerminalNodeImpl"
    ]
    return lambda args: [item(args) for item in items]


def _object(tree: Tree, holes: Placeholders) -> Value:
    pairs = [
        (identifier(child.getChild(0)), value(child.getChild(2), holes))
        for child in tree.getChildren()
        if kind(child) == "ObjectKeyValue"
    ]
    return lambda args: {key: item(args) for key, item in pairs}


def _parenthesised(tree: Tree, holes: Placeholders) -> Value:
    return value(tree.getChild(1), holes)


_MAKERS: dict[str, Callable[[Tree, Placeholders], Value]] = {
    "ParameterPlaceholder": _placeholder,
    "PositionalParameter": _placeholder,
    "StringLiteral": _string,
    "DollarQuotedStringLiteral": _string,
    "IntegerLiteral": _number,
    "DecimalLiteral": _number,
    "BooleanLiteral": _boolean,
    "NullLiteral": _null,
    "ArithmeticUnary": _unary,
    "ArithmeticBinary": _binary,
    "ArrayLiteral": _array,
    "ObjectLiteral": _object,
    "NestedExpression": _parenthesised,
}
