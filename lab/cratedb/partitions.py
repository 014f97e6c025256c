"""From the values of a PARTITION clause, or of an inserted row, to the partition they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lab.cratedb.answers import CrateError, invalid, unknown_column
from lab.cratedb.commands import Target
from lab.cratedb.idents import as_ident_text, partition_ident
from lab.cratedb.model import Relation, Table

_WHOLE = {"integer", "bigint", "smallint", "byte", "char"}


def cast(value: Any, type_name: str) -> Any:
    """Return a partition value as CrateDB keeps it: ISO text becomes milliseconds, and so on."""
    if value is None:
        return None
    try:
        if type_name.startswith("timestamp"):
            return _milliseconds(value)
        if type_name in _WHOLE:
            return int(value)
        if type_name in {"double precision", "real"}:
            return float(value)
    except ValueError:
        raise invalid(f"Cannot cast `'{value}'` of type `text` to type `{type_name}`") from None
    if type_name == "boolean":
        return value if isinstance(value, bool) else str(value).lower() in {"t", "true"}
    if type_name == "text":
        return as_ident_text(value)
    return value


def _milliseconds(value: Any) -> int:
    if isinstance(value, int | float):
        return int(value)
    text = str(value)
    if text.lstrip("-").isdigit():
        return int(text)
    when = datetime.fromisoformat(text)
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def ident_of(table: Table, values: Mapping[str, Any]) -> str:
    """Return the ident of the partition with these values, one per partition column."""
    return partition_ident([as_ident_text(values.get(name)) for name in table.partitioned_by])


def of_clause(table: Table, target: Target, args: Sequence[Any]) -> Relation:
    """Return the partition a PARTITION clause names, or raise 4000 or 404/4046 as recorded."""
    clause = target.partition or ()
    if not table.partitioned_by:
        raise invalid(f"table '{table.full_name}' is not partitioned")
    if len(clause) != len(table.partitioned_by):
        raise invalid(
            f'The table "{table.full_name}" is partitioned by {len(table.partitioned_by)} columns '
            f"but the PARTITION clause contains {len(clause)} columns"
        )
    values: dict[str, Any] = {}
    for name, value in clause:
        if name not in table.partitioned_by:
            raise unknown_column(name)
        values[name] = cast(value(args), table.column_type(name))
    ident = ident_of(table, values)
    found = table.relations.get(ident)
    if found is None:
        raise CrateError(
            4046,
            "PartitionUnknownException",
            f"No partition for table '{table.full_name}' with ident '{ident}' exists",
        )
    return found


def values_of_row(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the partition values in an inserted row; `o['a']` is looked up inside `o`."""
    out: dict[str, Any] = {}
    for name in table.partitioned_by:
        base, *path = [part.rstrip("]").strip("'") for part in name.split("[")]
        here: Any = row.get(base)
        for key in path:
            here = here.get(key) if isinstance(here, Mapping) else None
        out[name] = cast(here, table.column_type(name))
    return out
