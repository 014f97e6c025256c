"""SQL that takes changes back, newest first; printed for somebody to read, never run by us."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Document = Mapping[str, Any]


def undo_statements(
    changes: Iterable[Document],
    columns_of_key: Mapping[str, tuple[str, ...]],
    generated: Mapping[str, frozenset[str]],
) -> Iterator[str]:
    """Yield a statement for each change, the last one first.

    `columns_of_key`: of each `db.table` the primary key's columns; a table that is not in it, or
    has none, is found by all the values that the change tells. `generated`: its columns that the
    server computes, and refuses to be told. What cannot be taken back is a comment that says why.
    """
    for change in sorted(changes, key=lambda each: -each["seq"]):
        yield _undo(change, columns_of_key, generated)


def _undo(
    change: Document,
    columns_of_key: Mapping[str, tuple[str, ...]],
    generated: Mapping[str, frozenset[str]],
) -> str:
    op, seq = change["op"], change["seq"]
    if op not in {"i", "u", "d"}:
        return f"-- seq {seq}: {op}, which changed no row"
    meta = change["meta"]
    name = f"{meta['db']}.{meta['tbl']}"
    table = f"{_quoted(meta['db'])}.{_quoted(meta['tbl'])}"
    told: Mapping[str, Mapping[str, Any]] = change["chg"]
    computed = generated.get(name, frozenset())
    written = {column: sides for column, sides in told.items() if column not in computed}
    if op == "d":
        names = ", ".join(_quoted(column) for column in written)
        values = ", ".join(_literal(sides.get("f")) for sides in written.values())
        return f"INSERT INTO {table} ({names}) VALUES ({values});"
    where = _where(change, columns_of_key.get(name, ()))
    if where is None:
        return f"-- seq {seq}: {name} has no primary key: the row cannot be told from others"
    if op == "i":
        return f"DELETE FROM {table} WHERE {where} LIMIT 1;"
    if not written:
        return f"-- seq {seq}: only columns that the server computes by itself"
    sets = ", ".join(
        f"{_quoted(column)} = {_literal(side.get('f'))}" for column, side in written.items()
    )
    return f"UPDATE {table} SET {sets} WHERE {where} LIMIT 1;"


def _where(change: Document, key: tuple[str, ...]) -> str | None:
    """Return what finds the row as it is after the change."""
    told: Mapping[str, Mapping[str, Any]] = change["chg"]
    pk = change["meta"]["pk"]
    if pk is None or not key:
        if change["op"] == "u":
            return None
        return " AND ".join(_equals(column, sides.get("t")) for column, sides in told.items())
    before = pk if isinstance(pk, Mapping) else {key[0]: pk}
    # An update may have moved the key: it is where it was moved to.
    after = {
        column: told[column]["t"] if "t" in told.get(column, {}) else before[column]
        for column in before
    }
    return " AND ".join(_equals(column, value) for column, value in after.items())


def _equals(column: str, value: Any) -> str:
    return f"{_quoted(column)} <=> {_literal(value)}"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _literal(value: Any) -> str:
    """Return a value of the trail as MySQL reads it, whatever the session's SQL mode."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"'{moment:%Y-%m-%d %H:%M:%S.%f}'"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return _text(",".join(value))
    if isinstance(value, Mapping | list):
        return _text(json.dumps(value, ensure_ascii=False, default=str))
    return _text(str(value))


def _text(text: str) -> str:
    # A backslash means one thing or another by NO_BACKSLASH_ESCAPES; bytes mean the same always.
    if "\\" in text or not text.isprintable():
        return f"CONVERT(x'{text.encode('utf-8', 'surrogateescape').hex()}' USING utf8mb4)"
    return "'" + text.replace("'", "''") + "'"
