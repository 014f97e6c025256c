"""A row out of its changes: what it was at the end of them, as far as the trail can say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from caretaker.binlog.concerns import Effect, concern_of

Document = Mapping[str, Any]


class Fate(StrEnum):
    """What happens to a key, beside an insert, an update and a delete of its row."""

    #: The row of another key was given this one: what was not changed on the way is not known.
    COMES = "comes"
    #: The row was given another key, or the whole table was emptied.
    GOES = "goes"
    #: Nobody can say whether the row is there any more.
    UNCLEAR = "unclear"


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
    """Return the row after its changes, in order of seq, each as `fates` tells it for this key."""
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
        elif op == Fate.COMES:
            exists, whole = True, False
            columns = {name: sides.get("t") for name, sides in told.items()}
        elif op in {"d", Fate.GOES}:
            for name, sides in told.items():
                if name in columns and columns[name] != sides.get("f"):
                    breaks.append((seq, name))
            exists, columns, whole = False, {}, True
        elif op == Fate.UNCLEAR:
            exists, columns, whole = None, {}, False
    return Row(exists, columns, whole, tuple(breaks))


def fates(change: Document, columns: Sequence[str]) -> Iterator[tuple[Any, Document]]:
    """Yield what a change of a row is to each key it touches: two where it moves the key.

    `columns`: of the table's key, in its order; empty where they are not known, and then no move
    is seen.
    """
    told = change["chg"]
    pk = change["meta"]["pk"]
    if change["op"] != "u" or not any(name in told for name in columns):
        yield pk, change
        return
    before = pk if isinstance(pk, Mapping) else {columns[0]: pk}
    after = {name: told[name].get("t") if name in told else before.get(name) for name in columns}
    yield pk, {**change, "op": Fate.GOES, "chg": {}}
    moved = after if isinstance(pk, Mapping) else after[columns[0]]
    yield moved, {**change, "op": Fate.COMES}


def of_definition(change: Document, schema: str, table: str) -> Document | None:
    """Return what a definition is to each row of a table; None where it is nothing to them."""
    concern = concern_of(change["ddl"]["sql"], change["meta"]["db"] or "")
    effect = concern.effect(schema, table)
    if effect is Effect.NONE:
        return None
    fate = Fate.GOES if effect is Effect.EMPTIES else Fate.UNCLEAR
    return {**change, "op": fate, "chg": {}}


def of_key(
    changes: Iterable[Document], table: tuple[str, str], key: Any, columns: Sequence[str]
) -> Iterator[Document]:
    """Yield what documents, in order of seq, are to one key: what `row_after` takes."""
    for change in changes:
        if change["op"] == "ddl":
            if (fate := of_definition(change, *table)) is not None:
                yield fate
        elif change["op"] in {"i", "u", "d"}:
            yield from (part for pk, part in fates(change, columns) if pk == key)
