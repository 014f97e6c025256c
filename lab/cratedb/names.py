"""The name CrateDB gives an output column that has no alias."""

from __future__ import annotations

from lab.cratedb.tokens import Token

_OPERATORS = {"+", "-", "*", "/", "%", "||", "=", "<>", "!=", "<", ">", "<=", ">=", "~", "~*",
              "!~", "!~*"}  # fmt: skip
_OPERATOR_WORDS = {"and", "or", "like", "ilike", "in", "is", "between"}
_ENDS_OPERAND = {"string", "number", "quoted", "param"}
_NOT_ALIASES = {"end", "null", "true", "false", "current_user", "session_user", "user",
                "current_timestamp", "current_schema", "current_date", "and", "or", "not",
                "is", "distinct"}  # fmt: skip


def has_alias(item: list[Token]) -> bool:
    """Return whether a select item names itself: `x AS y`, or `x y`."""
    if len(item) < 2 or item[-1].kind not in {"word", "quoted"}:  # noqa: PLR2004
        return False
    before, last = item[-2], item[-1]
    if before.low == "as":
        return True
    if last.kind == "word" and last.low in _NOT_ALIASES:
        return False
    if before.kind in _ENDS_OPERAND or before.text in {")", "]", "}"}:
        return True
    return before.kind == "word" and before.low not in {"is", "not", "and", "or", "distinct"}


def is_star(item: list[Token]) -> bool:
    """Return whether the item is `*` or `t.*`."""
    return item[-1].text == "*" and (len(item) == 1 or item[-2].text == ".")


def is_bare_column(item: list[Token]) -> bool:
    """Return whether the item is `a` or `t.a`, and no keyword or literal."""
    if item[0].kind == "word" and item[0].low in _NOT_ALIASES:
        return False
    return item[0].kind in {"word", "quoted"} and all(
        token.kind in {"word", "quoted"} if index % 2 == 0 else token.text == "."
        for index, token in enumerate(item)
    )


def output_name(item: list[Token]) -> str:
    """Return the column name, as recorded: `count`, `node['id']`, `'a'`, `now`, `(a + b)`."""
    item = _without_cast(item)
    if item[0].text == "(" and _closing(item, 0) == len(item) - 1:
        return output_name(item[1:-1]) if len(item) > 2 else "()"  # noqa: PLR2004
    if item[0].kind == "word" and len(item) > 1 and item[1].text == "(":
        end = _closing(item, 1)
        called = item[0].low
        if called in {"cast", "try_cast"} and end == len(item) - 1:
            return output_name(_before_as(item[2:end]))
        rest = item[end + 1 :]
        if not rest or rest[0].low in {"filter", "over"}:
            return called
    if _is_path(item):
        return _path_name(item)
    if _has_operator(item):
        return "(" + _spaced(item) + ")"
    return _spaced(item)


def _without_cast(item: list[Token]) -> list[Token]:
    depth = 0
    for index, token in enumerate(item):
        depth += (token.text in "([{") - (token.text in ")]}") if token.kind == "op" else 0
        if token.text == "::" and depth == 0 and not _has_operator(item[:index]):
            return item[:index] if all(t.text != "[" for t in item[index:]) else item
    return item


def _before_as(tokens: list[Token]) -> list[Token]:
    for index in range(len(tokens) - 1, -1, -1):
        if tokens[index].low == "as":
            return tokens[:index]
    return tokens


def _closing(tokens: list[Token], at: int) -> int:
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index].text in {"(", "["}:
            depth += 1
        elif tokens[index].text in {")", "]"}:
            depth -= 1
            if depth == 0:
                return index
    return len(tokens) - 1


def _is_path(item: list[Token]) -> bool:
    if item[0].kind not in {"word", "quoted"} or item[0].low in {"case", "not", "null"}:
        return False
    index = 1
    while index < len(item):
        if item[index].text == "." and index + 1 < len(item):
            index += 2
        elif item[index].text == "[":
            index = _closing(item, index) + 1
        else:
            return False
    return True


def _path_name(item: list[Token]) -> str:
    last = 0
    for index, token in enumerate(item):
        if token.text == "[":
            break
        if token.text != ".":
            last = index
    head = item[last]
    name = head.name if head.kind == "quoted" else head.low
    return name + "".join(token.text for token in item[last + 1 :])


def _has_operator(item: list[Token]) -> bool:
    depth = 0
    for index, token in enumerate(item):
        if token.kind == "op":
            depth += (token.text in "([{") - (token.text in ")]}")
            if depth == 0 and index > 0 and token.text in _OPERATORS:
                return True
        elif depth == 0 and token.low in _OPERATOR_WORDS:
            return True
    return False


def _spaced(item: list[Token]) -> str:
    out: list[str] = []
    in_object = 0
    for index, token in enumerate(item):
        in_object += (token.text == "{") - (token.text == "}")
        if token.kind == "word":
            text = token.text.upper() if token.low in {"null", "case", "when", "then", "else",
                                                       "end", "and", "or", "not", "is"} \
                else token.low  # fmt: skip
            if in_object and index + 1 < len(item) and item[index + 1].text == "=":
                text = f'"{text}"'
        else:
            text = token.text
        if in_object and text == "=":
            out.append("= ")
        elif text == ",":
            out.append(", ")
        elif (
            token.text in {"(", ")", "[", "]", "{", "}", ".", "::"}
            or not out
            or out[-1][-1] in "([{. :"
            or out[-1] == "= "
        ):
            out.append(text)
        else:
            out.append(" " + text)
    return "".join(out)
