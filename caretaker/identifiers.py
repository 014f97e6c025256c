"""SQL text for names and values that came from somebody's catalog.

Names are quoted by doubling `"`. Values travel as parameters; literals exist only for statements
that a person pastes, and are parsed back by CrateDB's grammar in the tests.
"""

from __future__ import annotations

import unicodedata
from typing import TypeAlias

from caretaker.errors import RefusedError

#: A scalar as CrateDB's HTTP endpoint takes and gives it.
SqlValue: TypeAlias = str | int | float | bool | None


def quote_identifier(name: str) -> str:
    """Return `name` quoted for SQL, whatever it contains.

    Refuses the empty name, NUL and control characters: no catalog holds them, so they are an
    accident or an attack.

    >>> print(quote_identifier('a "b" c'))
    "a ""b"" c"
    """
    _refuse_control_characters(name, "name")
    if not name:
        raise RefusedError("an empty name cannot be quoted", target=name)
    return '"' + name.replace('"', '""') + '"'


def quote_column_path(path: str) -> str:
    """Quote a partition column as `table_partitions.values` spells it: only its base is a name.

    CrateDB shows these keys unquoted, with subscripts verbatim (seen live on 6.4.3).

    >>> print(quote_column_path("o['a']"))
    "o"['a']
    """
    base, bracket, subscripts = path.partition("[")
    _refuse_control_characters(subscripts, "column")
    return quote_identifier(base) + bracket + subscripts


def quote_literal(value: SqlValue) -> str:
    """Return `value` as an SQL literal, for a person to paste.

    >>> quote_literal("it's")
    "'it''s'"
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return repr(value)
    if "\x00" in value:
        raise RefusedError("a text value with NUL cannot be written as SQL", target=value)
    return "'" + value.replace("'", "''") + "'"


def _refuse_control_characters(text: str, what: str) -> None:
    # What is printable contains none, and nearly every name is.
    if text.isprintable():
        return
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise RefusedError(f"the {what} {text!r} contains a control character", target=text)
