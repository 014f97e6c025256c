"""SQL that takes changes back, newest first; printed for somebody to read, never run by us."""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Document = Mapping[str, Any]


#: Of each `db.table` what its columns are: `timestamp`, `json`; others are told by their values.
Types = Mapping[str, Mapping[str, str]]

#: TIMESTAMPs are UTC in the trail, and what the session says in SQL.
_UTC = "SET time_zone = '+00:00';"
_VECTOR = 9
_UUID = 4
#: Of a BSON vector: its kind and its padding, before the numbers.
_VECTOR_HEAD = 2


def undo_statements(
    changes: Iterable[Document],
    columns_of_key: Mapping[str, tuple[str, ...]],
    generated: Mapping[str, frozenset[str]],
    types: Types,
) -> Iterator[str]:
    """Yield a statement for each change, the last one first.

    `columns_of_key`: of each `db.table` the primary key's columns; a table that is not in it, or
    has none, is found by all the values that the change tells. `generated`: its columns that the
    server computes, and refuses to be told. What cannot be taken back is a comment that says why.
    """
    undone = [
        _Undo(change, columns_of_key, generated, types)
        for change in sorted(changes, key=lambda each: -each["seq"])
    ]
    statements = [each.statement() for each in undone]
    if any(each.in_utc for each in undone):
        yield _UTC
    yield from statements


class _Undo:
    """One change, and the SQL that takes it back."""

    def __init__(
        self,
        change: Document,
        columns_of_key: Mapping[str, tuple[str, ...]],
        generated: Mapping[str, frozenset[str]],
        types: Types,
    ) -> None:
        self._change = change
        meta = change["meta"]
        self._name = f"{meta['db']}.{meta['tbl']}"
        self._key = columns_of_key.get(self._name, ())
        self._generated = generated.get(self._name, frozenset())
        self._types = types.get(self._name, {})
        self.in_utc = False

    def statement(self) -> str:
        """Return it."""
        change = self._change
        op, seq = change["op"], change["seq"]
        if op == "ddl":
            sql = " ".join(change["ddl"]["sql"].split())
            return f"-- seq {seq}: {sql}: the rows that it took are in no binlog"
        if op not in {"i", "u", "d"}:
            return f"-- seq {seq}: {op}, which changed no row"
        meta = change["meta"]
        table = f"{_quoted(meta['db'])}.{_quoted(meta['tbl'])}"
        told: Mapping[str, Mapping[str, Any]] = change["chg"]
        written = {name: sides for name, sides in told.items() if name not in self._generated}
        if op == "d":
            names = ", ".join(_quoted(column) for column in written)
            values = ", ".join(self._side(column, sides, "f") for column, sides in written.items())
            return f"INSERT INTO {table} ({names}) VALUES ({values});"
        where = self._where()
        if where is None:
            return (
                f"-- seq {seq}: {self._name} has no primary key: the row cannot be told from others"
            )
        if op == "i":
            return f"DELETE FROM {table} WHERE {where} LIMIT 1;"
        if not written:
            return f"-- seq {seq}: only columns that the server computes by itself"
        sets = ", ".join(
            f"{_quoted(column)} = {self._side(column, side, 'f')}"
            for column, side in written.items()
        )
        return f"UPDATE {table} SET {sets} WHERE {where} LIMIT 1;"

    def _where(self) -> str | None:
        """Return what finds the row as it is after the change."""
        told: Mapping[str, Mapping[str, Any]] = self._change["chg"]
        pk = self._change["meta"]["pk"]
        if pk is None or not self._key:
            if self._change["op"] == "u":
                return None
            return " AND ".join(
                f"{_quoted(column)} <=> {self._side(column, sides, 't', compared=True)}"
                for column, sides in told.items()
            )
        before = pk if isinstance(pk, Mapping) else {self._key[0]: pk}
        # An update may have moved the key: it is where it was moved to.
        after = {
            column: told[column]["t"] if "t" in told.get(column, {}) else before[column]
            for column in before
        }
        return " AND ".join(
            f"{_quoted(column)} <=> {self._literal(column, value)}"
            for column, value in after.items()
        )

    def _side(
        self, column: str, sides: Mapping[str, Any], side: str, *, compared: bool = False
    ) -> str:
        value = sides.get(side)
        if self._types.get(column) != "json":
            return self._literal(column, value)
        if value is None and side not in sides.get("json_null", ()):
            return "NULL"
        written = _text(json_text(value))
        # Beside a document, text is text: it is no document until it is cast.
        return f"CAST({written} AS JSON)" if compared else written

    def _literal(self, column: str, value: Any) -> str:
        if isinstance(value, datetime) or self._types.get(column) == "timestamp":
            self.in_utc = self.in_utc or value is not None
            if isinstance(value, str):
                return _text(value.replace("T", " ").removesuffix("Z"))
        return _literal(value)


def json_text(value: Any) -> str:
    """Return a document's value as JSON.

    >>> json_text({"a": [1, 1.0, True, None]})
    '{"a": [1, 1.0, true, null]}'
    """
    if isinstance(value, Mapping):
        inner = (
            f"{json.dumps(name, ensure_ascii=False)}: {json_text(each)}"
            for name, each in value.items()
        )
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_text(each) for each in value) + "]"
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        # As MySQL itself shows bytes in a document.
        return json.dumps(f"base64:type15:{base64.b64encode(value).decode()}")
    # A Decimal128, which prints as a number.
    return str(value)


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
        subtype = getattr(value, "subtype", 0)
        if subtype == _UUID:
            return f"'{uuid.UUID(bytes=bytes(value))}'"
        data = value[_VECTOR_HEAD:] if subtype == _VECTOR else value
        return f"x'{data.hex()}'"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"'{moment:%Y-%m-%d %H:%M:%S.%f}'"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return _text(",".join(value))
    if isinstance(value, Mapping | list):
        return _text(json_text(value))
    return _text(str(value))


def _text(text: str) -> str:
    # A backslash means one thing or another by NO_BACKSLASH_ESCAPES; bytes mean the same always.
    if "\\" in text or not text.isprintable():
        return f"CONVERT(x'{text.encode('utf-8', 'surrogateescape').hex()}' USING utf8mb4)"
    return "'" + text.replace("'", "''") + "'"
