"""A version of a table as it is remembered: what the columns of its documents were then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caretaker.binlog.columns import Column, KnownType
from caretaker.binlog.tablemap import TableMap


def schema_of(table: TableMap, position: str) -> dict[str, Any]:
    """Return a table version for `schema_versions`; `position` is where it was seen first."""
    names = [column.name for column in table.columns]
    return {
        "db": table.schema,
        "tbl": table.name,
        "pk": None if table.key is None else [names[index] for index in table.key],
        "columns": [_column(column) for column in table.columns],
        "flavor": table.flavor.value,
        "first_seen": position,
    }


def known_types_of(version: Mapping[str, Any]) -> dict[str, KnownType]:
    """Return what a remembered table version knew beyond its table map."""
    return {
        each["name"]: KnownType(each["known"]) for each in version["columns"] if "known" in each
    }


def _column(column: Column) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": column.name,
        "type": column.type.name.lower(),
        "size": column.size,
        "scale": column.scale,
        "unsigned": column.unsigned,
        "nullable": column.nullable,
        "visible": column.visible,
        "collation": column.collation,
    }
    if column.labels is not None:
        told["labels"] = [label.decode("utf-8", "backslashreplace") for label in column.labels]
    if column.dimensions is not None:
        told["dimensions"] = column.dimensions
    if column.known is not None:
        told["known"] = column.known.value
    return told
