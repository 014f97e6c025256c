"""`chg` and `pk` of a row from its cells, one column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caretaker.binlog.bson_writer import (
    DOCUMENT,
    NULL,
    NULL_VALUE,
    Value,
    array,
    document,
    element,
    text,
)
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.columns import ColumnType
from caretaker.binlog.filters import Filters, Treat, Treatment
from caretaker.binlog.images import Absent, Cell, JsonDifference
from caretaker.binlog.json_diff import apply_differences
from caretaker.binlog.tablemap import TableMap
from caretaker.binlog.values import Codec, ToBson, codec
from caretaker.errors import CorruptEventError

JSON_NULL = b"json_null"


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """A column, how to read it, and what of it is in the trail.

    Attributes:
        head: `chg`'s element up to the length of its document.
        treat: What is done to its values, None for nothing.
        to_bson: With that treatment; `codec.to_bson` is without.
    """

    index: int
    name: str
    head: bytes
    type: ColumnType
    codec: Codec
    treatment: Treatment
    treat: Treat | None
    to_bson: ToBson

    @property
    def kept(self) -> bool:
        """Whether the trail has the column at all."""
        return self.treatment is not Treatment.DROP

    @property
    def may_be_json_null(self) -> bool:
        """Whether a value can be BSON null though it is not NULL."""
        return self.type is ColumnType.JSON and self.treatment is not Treatment.MASK


@dataclass(frozen=True, slots=True, eq=False)
class TablePlan:
    """A table version under the filters in force."""

    table: TableMap
    columns: tuple[ColumnPlan, ...]

    @classmethod
    def of(cls, table: TableMap, charsets: Charsets, filters: Filters) -> TablePlan:
        """Return the plan; RefusedError for what cannot be in the trail as it should."""
        table.require_full_metadata()
        columns = []
        for column, treatment in zip(table.columns, filters.treatments(table), strict=True):
            plain = codec(column, charsets)
            treat = filters.treat(treatment)
            columns.append(
                ColumnPlan(
                    index=column.index,
                    name=column.name,
                    head=DOCUMENT + column.name.encode() + b"\0",
                    type=column.type,
                    codec=plain,
                    treatment=treatment,
                    treat=treat,
                    to_bson=plain.to_bson if treat is None else _treated(plain.to_bson, treat),
                )
            )
        return cls(table, tuple(columns))

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """How to read each column."""
        return tuple(column.codec for column in self.columns)


def _treated(to_bson: ToBson, treat: Treat) -> ToBson:
    return lambda raw: treat(to_bson(raw))


def written(plan: TablePlan, cells: Sequence[Cell], side: bytes) -> bytes:
    """Return the elements of `chg` for an insert (`side` t) or a delete (f)."""
    return b"".join(
        _column(column, [(side, cell, _value(column, cell))])
        for column, cell in zip(plan.columns, cells, strict=True)
        if column.kept and not isinstance(cell, Absent)
    )


def updated(plan: TablePlan, before: Sequence[Cell], after: Sequence[Cell]) -> bytes:
    """Return the elements of `chg` for an update: the columns whose images differ as bytes.

    Of a column that only one image has, only that side is known.
    """
    out = []
    for column, old, new in zip(plan.columns, before, after, strict=True):
        if not column.kept or isinstance(new, Absent) or _same(old, new):
            continue
        sides = []
        if not isinstance(old, Absent):
            sides.append((b"f", old, _value(column, old)))
        sides.append((b"t", new, _value(column, new, old)))
        out.append(_column(column, sides))
    return b"".join(out)


def changed_column(column: ColumnPlan, old: Cell, new: Cell) -> bytes:
    """Return the element of one column of `chg` whose two images differ."""
    return _column(
        column, [(b"f", old, _value(column, old)), (b"t", new, _value(column, new, old))]
    )


def key_value(plan: TablePlan, cells: Sequence[Cell]) -> Value:
    """Return `pk`: a value, a document in key order for a composite key, null without one."""
    key = plan.table.key
    if not key:
        return NULL_VALUE
    if len(key) == 1:
        return _key_part(plan.columns[key[0]], cells[key[0]])
    return DOCUMENT, document(
        element(plan.columns[index].name.encode(), _key_part(plan.columns[index], cells[index]))
        for index in key
    )


def _key_part(column: ColumnPlan, cell: Cell) -> Value:
    return NULL_VALUE if isinstance(cell, Absent) else _value(column, cell)


def _same(old: Cell, new: Cell) -> bool:
    if isinstance(new, JsonDifference):
        return not new.raw
    return not isinstance(old, Absent) and old == new


def _value(column: ColumnPlan, cell: Cell, before: Cell = None) -> Value:
    try:
        if cell is None:
            return NULL_VALUE
        if isinstance(cell, JsonDifference):
            return _after_differences(column, cell, before)
        # No caller asks for a column that is absent; bytes of any kind are not.
        return column.to_bson(cell if isinstance(cell, bytes) else b"")
    except (ValueError, IndexError, OverflowError) as error:
        raise CorruptEventError(f"column {column.name!r}: {error}") from None
    except CorruptEventError as error:
        raise CorruptEventError(f"column {column.name!r}: {error}") from None


def _after_differences(column: ColumnPlan, cell: JsonDifference, before: Cell) -> Value:
    if not isinstance(before, bytes):
        raise CorruptEventError("JSON differences to a value that the row has not")
    value = apply_differences(column.codec.to_bson(before), cell.raw)
    return value if column.treat is None else column.treat(value)


def _column(column: ColumnPlan, sides: Sequence[tuple[bytes, Cell, Value]]) -> bytes:
    elements = [element(side, value) for side, _, value in sides]
    # BSON has one null for SQL's NULL and for JSON's literal; this says which sides are the latter.
    literal = [text(side) for side, cell, value in sides if cell is not None and value[0] == NULL]
    if literal:
        elements.append(element(JSON_NULL, array(literal)))
    return column.head + document(elements)
