"""A row out of its changes: what it was at the end of them, as far as the trail can say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """What a row was.

    Attributes:
        exists: None where the trail has nothing of it.
        columns: Those that the changes told of.
        whole: The trail has the row from its insert on, so `columns` are all.
        breaks: Places where a change does not follow the one before it: seq and column.
    """

    exists: bool | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    breaks: tuple[tuple[int, str], ...] = ()


def row_after(changes: Iterable[Document]) -> Row:
    """Return the row after its changes, in order of seq; documents that are no rows are passed.

    A key that moves (UPDATE of a primary key) leaves this key: the change says so by its own `t`.
    """
    exists: bool | None = None
    columns: dict[str, Any] = {}
    whole = False
    breaks: list[tuple[int, str]] = []
    for change in changes:
        told: Mapping[str, Mapping[str, Any]] = change.get("chg", {})
        op, seq = change["op"], change["seq"]
        if op == "i":
            exists, whole = True, True
            columns = {name: sides["t"] for name, sides in told.items()}
        elif op == "u":
            exists = True
            for name, sides in told.items():
                if name in columns and columns[name] != sides.get("f"):
                    breaks.append((seq, name))
                columns[name] = sides.get("t")
        elif op == "d":
            for name, sides in told.items():
                if name in columns and columns[name] != sides.get("f"):
                    breaks.append((seq, name))
            exists, columns, whole = False, {}, True
    return Row(exists, columns, whole, tuple(breaks))
