"""A share of the transactions decoded by mysql-replication, too: the first difference stops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from zlib import crc32

import bson
from bson import Decimal128

from caretaker.binlog.charsets import Charsets
from caretaker.binlog.columns import Column, ColumnType
from caretaker.binlog.filters import Filters, Treatment
from caretaker.binlog.model import Flavor, Rows
from caretaker.binlog.tablemap import TableMap
from caretaker.errors import CorruptEventError
from resources.mysql.reference import Reference, ReferenceRow

_T = ColumnType
_INTEGERS = frozenset({_T.TINY, _T.SHORT, _T.INT24, _T.LONG, _T.LONGLONG})
_FLOATS = frozenset({_T.FLOAT, _T.DOUBLE})
_TEXTS = frozenset({_T.VARCHAR, _T.VAR_STRING, _T.STRING, _T.TINY_BLOB, _T.BLOB, _T.MEDIUM_BLOB,
                    _T.LONG_BLOB})  # fmt: skip
#: Types that mysql-replication is known to read wrongly, or that it gives in another shape, are
#: not compared: zero dates, negative times, YEAR 0000, BIT, SET, ENUM and text outside of UTF-8,
#: BINARY, JSON, GEOMETRY, VECTOR, all of MariaDB's own (binlog.md, 2).
COMPARED = "integers, FLOAT, DOUBLE, DECIMAL, text in UTF-8"
_PER_MYRIAD = 10_000


class CrossCheck:
    """Compares documents with what another decoder reads of the same bytes.

    Attributes:
        compared: Values that were, and `left_out` those of types that cannot be.
    """

    def __init__(
        self, flavor: Flavor, filters: Filters, charsets: Charsets, *, percent: float
    ) -> None:
        self._reference = Reference(flavor)
        self._filters = filters
        self._charsets = charsets
        self._below = percent * _PER_MYRIAD / 100
        self._columns: dict[TableMap, dict[str, Column]] = {}
        self.compared = self.left_out = 0

    def payload(self, payload: bytes) -> None:
        """See what the stream is about to be fed."""
        self._reference.see(payload)

    def rows(self, item: Rows, documents: Iterable[bytes]) -> None:
        """Compare the documents of a rows event.

        Raises:
            CorruptEventError: A value differs: one of the two decoders is wrong.
        """
        documents = list(documents)
        if not documents or not self._chosen(item) or not isinstance(item.table, TableMap):
            return
        rows = self._reference.rows()
        if rows is None:
            self.left_out += len(documents)
            return
        # On resume the first rows of a transaction have no documents: they are in the trail.
        columns = self._compared_columns(item.table)
        for document, row in zip(documents, rows[len(rows) - len(documents) :], strict=True):
            self._compare(item, bson.decode(document), row, columns)

    def _chosen(self, item: Rows) -> bool:
        return crc32(item.transaction.encode()) % _PER_MYRIAD < self._below

    def _compared_columns(self, table: TableMap) -> dict[str, Column]:
        if table not in self._columns:
            treatments = self._filters.treatments(table)
            self._columns[table] = {
                column.name: column
                for column, treatment in zip(table.columns, treatments, strict=True)
                if treatment is Treatment.KEEP and self._is_sound(column)
            }
        return self._columns[table]

    def _is_sound(self, column: Column) -> bool:
        if column.type in _INTEGERS | _FLOATS or column.type is _T.NEWDECIMAL:
            return True
        if column.type not in _TEXTS or column.collation is None or column.known is not None:
            return False
        return self._charsets.charset(column.collation) in {"utf8mb4", "utf8mb3", "utf8"}

    def _compare(
        self, item: Rows, document: Mapping[str, Any], row: ReferenceRow, columns: dict[str, Column]
    ) -> None:
        told: Mapping[str, Mapping[str, Any]] = document["chg"]
        for name, side, theirs in _values(row):
            column = columns.get(name)
            if column is None:
                self.left_out += 1
                continue
            if name not in told:
                if row.before is None or row.after is None or row.before[name] != row.after[name]:
                    raise _differs(item, name, "nothing", theirs)
                continue
            self.compared += 1
            ours = told[name].get(side)
            if not _same(ours, theirs, column):
                raise _differs(item, name, ours, theirs)


def _values(row: ReferenceRow) -> Iterator[tuple[str, str, Any]]:
    for side, image in (("f", row.before), ("t", row.after)):
        for name, value in (image or {}).items():
            yield name, side, value


def _same(ours: Any, theirs: Any, column: Column) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, Decimal128):
        return bool(ours.to_decimal() == Decimal(theirs))
    if column.type is _T.NEWDECIMAL:
        # More digits than a Decimal128 holds: text.
        return Decimal(str(ours)) == Decimal(theirs)
    if column.type in _FLOATS:
        return math.isclose(ours, theirs, rel_tol=1e-6) or ours == theirs
    return bool(ours == theirs)


def _differs(item: Rows, column: str, ours: Any, theirs: Any) -> CorruptEventError:
    place = f"{item.context.file}:{item.context.pos}"
    return CorruptEventError(
        f"{place}: {item.table.schema}.{item.table.name}.{column}: we read {ours!r:.80},"
        f" mysql-replication {theirs!r:.80}",
        target=place,
        hint="nothing of this transaction's rest is written; report both values",
    )
