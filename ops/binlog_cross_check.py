"""A share of the transactions decoded by mysql-replication, too: the first difference stops."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from zlib import crc32

from caretaker.binlog.charsets import Charsets
from caretaker.binlog.filters import Filters, Treatment
from caretaker.binlog.model import Rows
from caretaker.binlog.tablemap import TableMap
from caretaker.errors import CorruptEventError
from resources.mysql.reference import ReferenceDecoder

_PER_MYRIAD = 10_000


class CrossCheck:
    """Compares documents with what another decoder reads of the same bytes.

    What that one is known to read wrongly is `resources.mysql.reference.LEFT_OUT`.
    """

    def __init__(self, filters: Filters, charsets: Charsets, *, percent: float) -> None:
        self._reference = ReferenceDecoder(charsets)
        self._filters = filters
        self._below = percent * _PER_MYRIAD / 100
        self._left_out: dict[TableMap, Collection[str]] = {}

    def rows(self, item: Rows, documents: Sequence[bytes]) -> None:
        """Compare the documents of a rows event.

        Raises:
            CorruptEventError: A value differs: one of the two decoders is wrong.
        """
        table = item.table
        if not documents or not self._chosen(item) or not isinstance(table, TableMap):
            return
        differences = self._reference.differences(
            item.event_type, item.body, table, documents, left_out=self._treated(table)
        )
        for difference in differences:
            place = f"{item.context.file}:{item.context.pos}"
            raise CorruptEventError(
                f"{place}: {difference}",
                target=place,
                hint="nothing of this transaction's rest is written; report both values",
            )

    def _chosen(self, item: Rows) -> bool:
        return crc32(item.transaction.encode()) % _PER_MYRIAD < self._below

    def _treated(self, table: TableMap) -> Collection[str]:
        if table not in self._left_out:
            treatments = self._filters.treatments(table)
            self._left_out[table] = {
                column.name
                for column, treatment in zip(table.columns, treatments, strict=True)
                if treatment is not Treatment.KEEP
            }
        return self._left_out[table]
