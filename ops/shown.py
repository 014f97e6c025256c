"""What a page of Dagster's UI shows without a click, and keeps for ever: short, bounded, in words.

As looked at in 1.13: an asset's Overview shows text, tables, and Markdown of less than 1,000
characters in place; longer Markdown is a link to a dialog. A check's description is Markdown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

#: UTF-16 units from which Dagster hides Markdown behind "[Show Markdown]".
INLINE_BELOW = 1000

#: An event is stored whole, once an hour: no table has more rows, no cell more letters.
MOST_ROWS = 50
MOST_LETTERS = 160

#: Names in a sentence; the table below it has the others.
MOST_NAMES = 3


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    words: Mapping[str, str],
    most: int = MOST_ROWS,
) -> dg.TableMetadataValue:
    """Return the first rows, and one that says how many more there are.

    `columns` are Dagster's types by name, `words` explain them under "Show schema".
    """
    shown = [{name: _cell(row[name]) for name in columns} for row in rows[:most]]
    if len(rows) > most:
        first, *others = columns
        shown.append({first: f"... and {len(rows) - most:,} more", **dict.fromkeys(others)})
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in shown],
        dg.TableSchema(
            [dg.TableColumn(name, kind, words.get(name)) for name, kind in columns.items()]
        ),
    )


def named(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return the first few and how many more.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    >>> named(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def clipped(text: str, most: int = MOST_LETTERS) -> str:
    """Shorten in the middle: schemas differ at the front, partitions at the end."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def code(text: str) -> str:
    """Return a name as Markdown shows it letter by letter, whatever they are.

    >>> print(code("doc.a*b*"), code("doc.`x`"))
    `doc.a*b*` `` doc.`x` ``
    """
    text = " ".join(clipped(text).split())
    tick = "`"
    while tick in text:
        tick += "`"
    return f"{tick}{text}{tick}" if len(tick) == 1 else f"{tick} {text} {tick}"


def fenced(lines: Iterable[str], language: str = "sql") -> str:
    """Return lines as a block of code in Markdown, whatever they contain.

    >>> print(fenced(["SELECT 1"]))
    ```sql
    SELECT 1
    ```
    """
    text = "\n".join(lines)
    fence = "```"
    # A partition's value may hold the fence itself, on a line of its own.
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def to_paste(statements: Sequence[str], room: int, *, narrow: bool = False) -> tuple[str, int]:
    """Return as many whole statements as fit into so many letters, and how many are left.

    Never a part of one: half a statement is not to be pasted. `narrow` lets each wrap where the
    page is narrow, as Dagster's table of metadata is; a block of code would widen all of it.
    """
    taken: list[str] = []
    block = ""
    for statement in statements:
        more = [*taken, f"{statement};"]
        longer = "\n\n".join(map(_wrapping, more)) if narrow else fenced(more)
        if units(longer) > room:
            break
        taken, block = more, longer
    return block, len(statements) - len(taken)


def _wrapping(statement: str) -> str:
    # A browser shows one space for two: a name that holds them keeps its block of code.
    exact = "`" not in statement and " ".join(statement.split()) == statement
    return f"`{statement}`" if exact else fenced([statement])


def units(text: str) -> int:
    """Return the length as a browser counts it."""
    return len(text.encode("utf-16-le")) // 2


def duration(seconds: float) -> str:
    """Say how long something took or has lasted.

    >>> [duration(seconds) for seconds in (0.42, 31.2, 721, 7800, 50000, 400000)]
    ['0.4 s', '31 s', '12 min', '2.2 h', '14 h', '5 days']
    """
    if seconds < 10:  # noqa: PLR2004 - where a tenth stops to matter
        return f"{seconds:.1f} s"
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if hours < 2:  # noqa: PLR2004
        return f"{minutes:.0f} min"
    if hours < 48:  # noqa: PLR2004
        return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"  # noqa: PLR2004
    return f"{hours / 24:.0f} days"


def _cell(value: Any) -> Any:
    return clipped(value) if isinstance(value, str) else value
