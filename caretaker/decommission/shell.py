"""The simple commands of a shell script: enough to see which programs a hook runs, and how.

No shell: nothing is expanded. What cannot be known without running it (variables, the output of
commands) stays in the words as it was written, and any text at all gives some result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: What separates simple commands. Longest first.
_OPERATORS = ("&&", "||", ";;", "|&", ";", "|", "&", "(", ")", "\n")

_RESERVED = frozenset(
    ("if", "then", "else", "elif", "fi", "do", "done", "while", "until", "{", "}", "!", "time")
)


#: Words that open what may not run, and that close it.
_DEPTH = {"then": 1, "do": 1, "case": 1, "fi": -1, "done": -1, "elif": -1, "esac": -1}


@dataclass(frozen=True, slots=True)
class SimpleCommand:
    """A program and its arguments.

    Attributes:
        words: Quotes removed; assignments, redirections and reserved words left out.
        ended_by: The operator behind it: '&&', '||', ';', '|', '&', newline; '' at the end.
        then: The words of the next simple command, for what stands behind `||`.
        guarded: It stands in an `if`, a loop or a `case`: whether it runs is known only then.
    """

    words: tuple[str, ...]
    ended_by: str = ""
    then: tuple[str, ...] = ()
    guarded: bool = False


def simple_commands(script: str) -> list[SimpleCommand]:
    """Return the simple commands of a script, in order.

    >>> [(c.words, c.ended_by) for c in simple_commands("cd /x && ./dc_util -timeout=12m || true")]
    [(('cd', '/x'), '&&'), (('./dc_util', '-timeout=12m'), '||'), (('true',), '')]
    """
    kept: list[tuple[tuple[str, ...], str, bool]] = []
    words: list[str] = []
    depth = 0
    for kind, text in (*_tokens(script), ("operator", "")):
        if kind == "word":
            words.append(text)
            continue
        command = tuple(_without_decoration(words))
        depth += _deeper(words)
        closes = not command and (bool(words) or (bool(kept) and kept[-1][1] == ")"))
        if command:
            kept.append((command, text, depth > 0))
        elif closes and kept:
            # "(a) || b", "{ a; } || b": what stands behind the group stands behind its last.
            kept[-1] = (kept[-1][0], text, kept[-1][2])
        words = []
    return [
        SimpleCommand(each, ended_by, kept[index + 1][0] if index + 1 < len(kept) else (), guarded)
        for index, (each, ended_by, guarded) in enumerate(kept)
    ]


def _deeper(words: list[str]) -> int:
    """Return by how much the words in front of a command lead into a block, or out of it."""
    change = 0
    for word in words:
        change += _DEPTH.get(word, 0)
        if word not in _RESERVED and word not in _DEPTH:
            break
    return change


def _without_decoration(words: list[str]) -> Iterator[str]:
    """Yield a command's words without leading assignments, reserved words, and redirections."""
    begun = False
    skip = False
    for word in words:
        if skip:
            skip = False
            continue
        if _is_redirection(word):
            # "> file" has its file in the next word; ">file" and "2>&1" have it with them.
            skip = word.lstrip("0123456789&")[-1:] in {">", "<"}
            continue
        if not begun and (word in _RESERVED or _is_assignment(word)):
            continue
        begun = True
        yield word


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _is_redirection(word: str) -> bool:
    return word.lstrip("0123456789&")[:1] in {">", "<"} and not word.startswith("<(")


def _tokens(script: str) -> Iterator[tuple[str, str]]:
    """Yield ('word', text) and ('operator', text)."""
    at, length = 0, len(script)
    while at < length:
        character = script[at]
        if script.startswith("\\\n", at):
            at += 2
        elif character in " \t\r":
            at += 1
        elif character == "#":
            end = script.find("\n", at)
            at = length if end < 0 else end
        elif operator := _operator(script, at):
            yield "operator", operator
            at += len(operator)
        else:
            text, at = _word(script, at)
            yield "word", text


def _operator(script: str, at: int) -> str:
    return next((each for each in _OPERATORS if script.startswith(each, at)), "")


def _word(script: str, at: int) -> tuple[str, int]:
    """Return the word that begins here, unquoted, and where it ends."""
    parts: list[str] = []
    length = len(script)
    begin = at
    while at < length:
        character = script[at]
        if character in " \t\r":
            break
        if character == "&" and at > begin and script[at - 1] in "<>":
            parts.append(character)
            at += 1
            continue
        if _operator(script, at) and not (character == "&" and script[at + 1 : at + 2] == ">"):
            break
        if character == "\\":
            parts.append("" if script[at + 1 : at + 2] == "\n" else script[at + 1 : at + 2])
            at += 2
        elif character == "'":
            end = script.find("'", at + 1)
            end = length if end < 0 else end
            parts.append(script[at + 1 : end])
            at = end + 1
        elif character == '"':
            text, at = _double_quoted(script, at + 1)
            parts.append(text)
        elif script.startswith(("$(", "`"), at):
            end = _substitution_end(script, at)
            parts.append(script[at:end])
            at = end
        else:
            parts.append(character)
            at += 1
    return "".join(parts), at


def _double_quoted(script: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    while at < len(script) and script[at] != '"':
        if script[at] == "\\" and script[at + 1 : at + 2] in {'"', "\\", "$", "`", "\n"}:
            parts.append("" if script[at + 1] == "\n" else script[at + 1])
            at += 2
        elif script.startswith(("$(", "`"), at):
            end = _substitution_end(script, at)
            parts.append(script[at:end])
            at = end
        else:
            parts.append(script[at])
            at += 1
    return "".join(parts), at + 1


def _substitution_end(script: str, at: int) -> int:
    """Return where a `$(...)` or a pair of back-quotes ends; parentheses nest."""
    if script[at] == "`":
        end = script.find("`", at + 1)
        return len(script) if end < 0 else end + 1
    depth = 0
    for index in range(at + 1, len(script)):
        depth += (script[index] == "(") - (script[index] == ")")
        if depth == 0:
            return index + 1
    return len(script)
