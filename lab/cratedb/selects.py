"""SELECTs: who may see what, where the rows come from, and the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lab.cratedb.answers import Answer, CrateError, invalid, unknown_relation, unknown_schema
from lab.cratedb.catalog import Catalog
from lab.cratedb.model import Table
from lab.cratedb.shapes import RELATIONS
from lab.cratedb.tokens import quote
from lab.cratedb.translate import Hole, RelationRef, translate
from lab.cratedb.world import SYSTEM_SCHEMAS, World

#: The relations that show only what a user has some privilege on.
_FILTERED = {
    ("sys", "shards"): ("schema_name", "table_name"),
    ("sys", "health"): ("table_schema", "table_name"),
    ("sys", "allocations"): ("table_schema", "table_name"),
    ("information_schema", "tables"): ("table_schema", "table_name"),
    ("information_schema", "table_partitions"): ("table_schema", "table_name"),
    ("information_schema", "columns"): ("table_schema", "table_name"),
}
_DUCK_TYPES = {
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "smallint": "SMALLINT",
    "boolean": "BOOLEAN",
    "double precision": "DOUBLE",
    "real": "FLOAT",
    "timestamp with time zone": "BIGINT",
    "object": "JSON",
}


def select(world: World, catalog: Catalog, user: str, stmt: str, args: Sequence[Any]) -> Answer:
    """Answer a SELECT; rows of user tables are not kept, so they are NULLs in the right number."""
    translation = translate(stmt)
    if translation.parameters > len(args):
        raise invalid(
            "Tried to resolve a parameter but the arguments provided with the SQLRequest only "
            f"contained {len(args)} parameters."
        )
    with world.lock:
        sources = {ref: _source(world, catalog, user, ref) for ref in translation.relations}
        catalog.refresh({(r.schema, r.table) for r in sources if (r.schema, r.table) in RELATIONS})
        holes = {
            "now": str(world.time_ms) + "::BIGINT",
            "user": "'" + user.replace("'", "''") + "'",
            "version": f"'CrateDB {world.version}'",
        }
    sql = "".join(
        part
        if isinstance(part, str)
        else f" {holes[part.what]} "
        if isinstance(part, Hole)
        else sources[part]
        for part in translation.parts
    )
    return catalog.ask(sql, [_argument(a) for a in args[: translation.parameters]])


def _argument(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def _source(world: World, catalog: Catalog, user: str, ref: RelationRef) -> str:
    key = (ref.schema, ref.table)
    alias = " " if ref.aliased else f" AS {quote(ref.table)} "
    if ref.schema == "sys":
        _require_sys(world, user, ref)
    elif ref.schema not in SYSTEM_SCHEMAS:
        return f" {_empty_rows(world, user, ref)}{alias}"
    if key not in RELATIONS:
        raise unknown_relation(f"{ref.schema}.{ref.table}")
    name = catalog.duck_name(key)
    if key not in _FILTERED or world.rights.any_right(user, "*"):
        return f" {name}{alias}"
    schema, table = _FILTERED[key]
    seen = [t for t in world.tables if world.rights.any_right(user, *t)]
    system = " OR ".join(f"{schema} = '{s}'" for s in ("information_schema", "pg_catalog"))
    own = " OR ".join(
        f"({schema} = {_text(s)} AND {table} = {_text(t)})" for s, t in seen
    ) or "false"  # fmt: skip
    return f" (SELECT * FROM {name} WHERE {own} OR {system}){alias}"  # noqa: S608 - quoted above


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _require_sys(world: World, user: str, ref: RelationRef) -> None:
    if (ref.schema, ref.table) not in RELATIONS:
        raise unknown_relation(f"{ref.schema}.{ref.table}")
    world.rights.require(user, "DQL", ref.schema, ref.table)
    if ref.table == "shards" and world.someone_died_unnoticed:
        # For a moment the dead node is still asked for its shards.
        raise CrateError(
            5005, "JobKilledException", "Job killed. Participating node(s) disconnected"
        )


def _empty_rows(world: World, user: str, ref: RelationRef) -> str:
    if not world.rights.knows_schema(user, ref.schema):
        raise unknown_schema(ref.schema)
    table = world.table(ref.schema, ref.table)
    world.rights.require(user, "DQL", ref.schema, ref.table)
    columns = ", ".join(
        f"NULL::{_DUCK_TYPES.get(c.type, 'VARCHAR')} AS {quote(c.name)}"
        for c in table.columns
        if "[" not in c.name
    )
    return f"(SELECT {columns or 'NULL AS _id'} FROM range({_count(table)}))"  # noqa: S608


def _count(table: Table) -> int:
    total = 0
    for relation in table.relations.values():
        for shard in reversed(relation.shards):
            if shard.primary is None:
                raise CrateError(
                    5002,
                    "UnavailableShardsException",
                    f"[{table.full_name}] shard {shard.number} is not available",
                )
            total += shard.docs
    return total
