"""The catalog in DuckDB: kept in step with the world table by table, asked in DuckDB's SQL."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import duckdb

from lab.cratedb import cluster_rows, rows
from lab.cratedb.answers import Answer
from lab.cratedb.duck_errors import as_crate_error
from lab.cratedb.shapes import RELATIONS, duck_type, json_structure
from lab.cratedb.tokens import quote
from lab.cratedb.types import col_type, converter
from lab.cratedb.world import World

Key = tuple[str, str]
_SCHEMA = {"sys": "sys", "information_schema": "information"}
_NAMES_TABLE = {
    ("sys", "shards"): ("schema_name", "table_name"),
    ("sys", "health"): ("table_schema", "table_name"),
    ("sys", "allocations"): ("table_schema", "table_name"),
    ("information_schema", "tables"): ("table_schema", "table_name"),
    ("information_schema", "table_partitions"): ("table_schema", "table_name"),
    ("information_schema", "columns"): ("table_schema", "table_name"),
}
#: Beyond this many tables a refresh writes the relation anew: DuckDB keeps what it deletes.
_REWRITE_FROM = 200
_BATCH = 20_000


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector away: 50,000 nested rows cost it as much as fetching them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Catalog:
    """One DuckDB connection behind a lock; `refresh` brings the relations asked for up to date."""

    def __init__(self, world: World) -> None:
        """Create the empty relations and start to listen for changes."""
        self._world = world
        self._lock = threading.Lock()
        self._duck = duckdb.connect(":memory:", config={"threads": 2})
        self._dirty: dict[Key, set[Key]] = {key: set() for key in rows.PER_TABLE}
        self._deleted: dict[Key, int] = dict.fromkeys(rows.PER_TABLE, 0)
        self._structure = {key: json_structure(shape) for key, shape in RELATIONS.items()}
        self._prepare()
        world.on_touch.append(self._touched)

    def close(self) -> None:
        """Let DuckDB's memory go."""
        with self._lock:
            self._duck.close()

    def _prepare(self) -> None:
        for setting in ("integer_division = true", "error_on_division_by_zero = true"):
            try:
                self._duck.execute(f"SET {setting}")
            except duckdb.Error:  # DuckDB 1.x has no such setting and divides by zero to NULL
                continue
        for schema in _SCHEMA.values():
            self._duck.execute(f"CREATE SCHEMA {schema}")
        self._duck.execute(
            "CREATE MACRO crate_array_length(a, d) AS nullif(len(a), 0)",
        )
        self._duck.execute("CREATE MACRO crate_collect_set(a) AS list(DISTINCT a)")
        for key, shape in RELATIONS.items():
            inner = ", ".join(f"{quote(name)} {duck_type(kind)}" for name, kind in shape.items())
            self._duck.execute(f"CREATE TABLE {self.duck_name(key)} ({inner})")
        for key, make in rows.STATIC.items():
            self._insert(key, make(self._world))

    @staticmethod
    def duck_name(key: Key) -> str:
        """Return what a catalog relation is called in DuckDB."""
        return f"{_SCHEMA[key[0]]}.{quote(key[1])}"

    def _touched(self, schema: str, table: str) -> None:
        for dirty in self._dirty.values():
            dirty.add((schema, table))

    def refresh(self, keys: Iterable[Key]) -> None:
        """Write what has changed in these relations since they were last asked for.

        The caller holds the world's lock.
        """
        with self._lock:
            for key in keys:
                if key in rows.PER_TABLE:
                    self._refresh_tables(key)
                else:
                    self._duck.execute(f"TRUNCATE {self.duck_name(key)}")
                    self._insert(key, cluster_rows.SMALL[key](self._world))

    def _refresh_tables(self, key: Key) -> None:
        dirty, self._dirty[key] = self._dirty[key], set()
        if not dirty:
            return
        make = rows.PER_TABLE[key]
        self._deleted[key] += len(dirty)
        if len(dirty) > _REWRITE_FROM or self._deleted[key] > 10 * _REWRITE_FROM:
            self._deleted[key] = 0
            self._duck.execute(f"TRUNCATE {self.duck_name(key)}")
            if key in rows.STATIC:
                self._insert(key, rows.STATIC[key](self._world))
            dirty = set(self._world.tables)
        else:
            schema, name = _NAMES_TABLE[key]
            where = " OR ".join([f"({schema} = ? AND {name} = ?)"] * len(dirty))
            self._duck.execute(
                f"DELETE FROM {self.duck_name(key)} WHERE {where}",  # noqa: S608 - our own names
                [part for pair in dirty for part in pair],
            )
        tables = [self._world.tables[k] for k in sorted(dirty) if k in self._world.tables]
        self._insert(key, (row for table in tables for row in make(self._world, table)))

    def _insert(self, key: Key, new: Iterable[rows.Row]) -> None:
        # One statement for many rows, each a JSON text of its own: row by row DuckDB takes a
        # millisecond each, and one text for all takes it ten times as long to read.
        texts = [json.dumps(row, separators=(",", ":")) for row in new]
        for start in range(0, len(texts), _BATCH):
            self._duck.execute(
                f"INSERT INTO {self.duck_name(key)} BY NAME "  # noqa: S608 - our own names
                f"SELECT unnest(from_json(row_text, '{self._structure[key]}')) "
                "FROM (SELECT unnest(?::VARCHAR[]) AS row_text)",
                [texts[start : start + _BATCH]],
            )

    def ask(self, sql: str, args: Sequence[Any]) -> Answer:
        """Return the answer to a SELECT in DuckDB's dialect, or raise CrateDB's error for it."""
        with self._lock:
            try:
                cursor = self._duck.execute(sql, list(args))
                described = cursor.description or []
                with _no_collection():
                    found = cursor.fetchall()
            except duckdb.Error as error:
                raise as_crate_error(error) from error
        cols = [column[0] for column in described]
        convert = [converter(column[1]) for column in described]
        if any(convert):
            made = [
                [value if c is None else c(value) for c, value in zip(convert, row, strict=True)]
                for row in found
            ]
        else:
            made = [list(row) for row in found]
        types = [col_type(name, column[1]) for name, column in zip(cols, described, strict=True)]
        return Answer(rowcount=len(made), cols=cols, col_types=types, rows=made)
