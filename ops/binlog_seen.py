"""A value of the source as a trail's filters show it: masked, hashed, or as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import bson
from bson import Int64

from caretaker.binlog.filters import Filters, Treatment
from caretaker.errors import RefusedError
from ops.binlog_filters import SavedFilters
from resources.mysql.tables import Table
from resources.mysql.values import Column

_HASH = re.compile(r"[0-9a-f]{64}")
_MASKED = "***"
_LONG = ("bigint", "int unsigned", "integer unsigned", "bit")


class Seen:
    """One table through the filters that its trail was written with, those of now first.

    What was written under older ones stays as they left it, so each column may be any of them. A
    mask says nothing of what is behind it, and a hash whose secret is not known neither.
    """

    def __init__(self, table: Table, filters: Sequence[SavedFilters]) -> None:
        self._table = table
        self._columns = {column.name: column for column in table.columns}
        self._filters = {
            column.name: [
                (each, each.filters.treatment(table.schema, table.name, column.name))
                for each in filters
            ]
            for column in table.columns
        }

    def key(self, row: Mapping[str, Any]) -> Any:
        """Return a row's key as `meta.pk` has it now.

        Raises:
            RefusedError: It is hashed, and the secret is not known.
        """
        told = {name: self._now(name, row[name]) for name in self._table.key}
        return self._table.pk(told)

    def hides(self, name: str) -> bool:
        """Say whether a column's values cannot be told from what the trail has of them."""
        return any(
            treatment is Treatment.MASK or (treatment is Treatment.HASH and not saved.hashes)
            for saved, treatment in self._filters.get(name, ())
        )

    def through(self, name: str, value: Any, known: Any) -> Iterator[Any]:
        """Yield what the trail may have of a value, beside the value itself."""
        for saved, treatment in self._filters.get(name, ()):
            if value is None or treatment in {Treatment.KEEP, Treatment.DROP}:
                continue
            if treatment is Treatment.MASK:
                yield _MASKED
            elif saved.hashes and self._columns[name].type != "json":
                yield _hashed(saved.filters, self._columns[name], value)
            elif isinstance(known, str) and _HASH.fullmatch(known):
                yield known

    def _now(self, name: str, value: Any) -> Any:
        for saved, treatment in self._filters[name][:1]:
            if treatment is not Treatment.HASH:
                continue
            if not saved.hashes:
                raise RefusedError(
                    f"{self._table}.{name} is part of the key, and is hashed",
                    target=str(self._table),
                    hint="set CARETAKER_HASH_SECRET to the secret of the sync",
                )
            return _hashed(saved.filters, self._columns[name], value)
        return value


def _hashed(filters: Filters, column: Column, value: Any) -> Any:
    treat = filters.treat(Treatment.HASH)
    if treat is None or value is None:
        return value
    if isinstance(value, int) and column.full_type.startswith(_LONG):
        value = Int64(value)
    # One element: the length (4), a type, the end of an empty name, the value, and the end.
    raw = bson.encode({"": value})
    _, payload = treat((raw[4:5], raw[6:-1]))
    return payload[4:-1].decode()
