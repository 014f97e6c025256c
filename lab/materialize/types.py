"""Materialize's own types, made in PostgreSQL under the very OIDs that Materialize sends.

A client that knows only PostgreSQL's types sees them as a client of Materialize does: as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnType:
    """A type: `like` stores it, PostgreSQL's own functions of that type work on it."""

    name: str
    oid: int
    like: str
    #: What the functions of `like` are called, as in int8in, int8eq, btint8cmp, hashint8.
    stem: str
    category: str = "N"
    array_oid: int | None = None
    #: Names of the internal comparison functions: those of some types are spelled otherwise.
    compare: str | None = None
    hash: str | None = None


TYPES = (
    OwnType("list", 16384, "text", "text", "U"),
    OwnType("uint2", 16460, "int2", "int2", array_oid=16461),
    # oid is PostgreSQL's one unsigned integer of four bytes.
    OwnType("uint4", 16462, "oid", "oid", array_oid=16463),
    OwnType("uint8", 16464, "int8", "int8", array_oid=16465),
    OwnType("mz_timestamp", 16552, "int8", "int8", "U", array_oid=16553),
    OwnType("mz_aclitem", 16566, "text", "text", "U", array_oid=16567),
)
_COMPARE = {"=": "eq", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_COMMUTES = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NEGATES = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_SELECTS = {"=": "eq", "<>": "neq", "<": "scalarlt", "<=": "scalarle", ">": "scalargt",
            ">=": "scalarge"}  # fmt: skip
_TEXT_COMPARE = {"=": "texteq", "<>": "textne", "<": "text_lt", "<=": "text_le", ">": "text_gt",
                 ">=": "text_ge"}  # fmt: skip


def statements() -> Iterator[str]:
    """Yield what makes the types, their operators, casts and aggregates."""
    for own in TYPES:
        yield from _type(own)
    for own in TYPES:
        yield from _operators(own)
    for own in TYPES:
        if own.category == "N":
            yield from _arithmetic(own)
    yield from _casts()


def _type(own: OwnType) -> Iterator[str]:
    name = f"mz_catalog.{own.name}"
    yield f"CREATE TYPE {name};"
    # A shell type depends on nothing yet: now it can be given the OID that it must have.
    yield _renumber(f"typname = '{own.name}'", own.oid)
    for function, takes, gives in (
        ("in", "cstring", name),
        ("out", name, "cstring"),
        ("recv", "internal", name),
        ("send", name, "bytea"),
    ):
        yield (
            f"CREATE FUNCTION {name}_{function}({takes}) RETURNS {gives} "
            f"LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS '{own.stem}{function}';"
        )
    yield (
        f"CREATE TYPE {name} (INPUT = {name}_in, OUTPUT = {name}_out, RECEIVE = {name}_recv, "
        f"SEND = {name}_send, LIKE = pg_catalog.{own.like}, CATEGORY = '{own.category}');"
    )
    if own.array_oid is not None:
        yield _renumber(f"typname = '_{own.name}'", own.array_oid)
        typarray = f"typarray = {own.array_oid}"
        yield f"UPDATE pg_type SET {typarray} WHERE oid = {own.oid};"  # noqa: S608 - ours


def _renumber(where: str, oid: int) -> str:
    where = f"{where} AND typnamespace = 'mz_catalog'::regnamespace"
    old = f"(SELECT oid FROM pg_type WHERE {where})"  # noqa: S608 - all names are ours
    updates = [
        f"UPDATE pg_depend SET {column} = {oid} "  # noqa: S608
        f"WHERE {kind} = 'pg_type'::regclass AND {column} = {old};"
        for kind, column in (("classid", "objid"), ("refclassid", "refobjid"))
    ]
    return "\n".join([*updates, f"UPDATE pg_type SET oid = {oid} WHERE {where};"])  # noqa: S608


def _operators(own: OwnType) -> Iterator[str]:
    name = f"mz_catalog.{own.name}"
    textual = own.stem == "text"
    for sign, word in _COMPARE.items():
        internal = _TEXT_COMPARE[sign] if textual else f"{own.stem}{word}"
        yield (
            f"CREATE FUNCTION mz_catalog.{own.name}_{word}({name}, {name}) RETURNS boolean "
            f"LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS '{internal}';"
            if not textual
            else f"CREATE FUNCTION mz_catalog.{own.name}_{word}({name}, {name}) RETURNS boolean "
            f"LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE "
            f'RETURN ($1::text COLLATE "C") {sign} ($2::text COLLATE "C");'
        )
        estimate = _SELECTS[sign]
        extras = ", HASHES, MERGES" if sign == "=" and not textual else ""
        yield (
            f"CREATE OPERATOR mz_catalog.{sign} (FUNCTION = mz_catalog.{own.name}_{word}, "
            f"LEFTARG = {name}, RIGHTARG = {name}, "
            f"COMMUTATOR = OPERATOR(mz_catalog.{_COMMUTES[sign]}), "
            f"NEGATOR = OPERATOR(mz_catalog.{_NEGATES[sign]}), RESTRICT = {estimate}sel, "
            f"JOIN = {estimate}joinsel{extras});"
        )
    if textual:
        return
    yield (
        f"CREATE FUNCTION {name}_cmp({name}, {name}) RETURNS integer "
        f"LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'bt{own.stem}cmp';"
    )
    signs = ", ".join(
        f"OPERATOR {n} mz_catalog.{sign}" for n, sign in enumerate(("<", "<=", "=", ">=", ">"), 1)
    )
    yield (
        f"CREATE OPERATOR CLASS mz_catalog.{own.name}_ops DEFAULT FOR TYPE {name} USING btree AS "
        f"{signs}, FUNCTION 1 {name}_cmp({name}, {name});"
    )
    yield (
        f"CREATE FUNCTION {name}_hash({name}) RETURNS integer "
        f"LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'hash{own.stem}';"
    )
    yield (
        f"CREATE OPERATOR CLASS mz_catalog.{own.name}_hash_ops DEFAULT FOR TYPE {name} USING hash "
        f"AS OPERATOR 1 mz_catalog.=, FUNCTION 1 {name}_hash({name});"
    )
    for aggregate, sign in (("max", ">"), ("min", "<")):
        yield (
            f"CREATE FUNCTION mz_catalog.{own.name}_{aggregate}({name}, {name}) RETURNS {name} "
            f"LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE "
            f"RETURN CASE WHEN $1 OPERATOR(mz_catalog.{sign}) $2 THEN $1 ELSE $2 END;"
        )
        yield (
            f"CREATE AGGREGATE mz_catalog.{aggregate}({name}) "
            f"(SFUNC = mz_catalog.{own.name}_{aggregate}, STYPE = {name}, "
            f"SORTOP = OPERATOR(mz_catalog.{sign}));"
        )


def _arithmetic(own: OwnType) -> Iterator[str]:
    name = f"mz_catalog.{own.name}"
    for sign, word in (("+", "plus"), ("-", "minus"), ("*", "times"), ("/", "over"), ("%", "mod")):
        yield (
            f"CREATE FUNCTION mz_catalog.{own.name}_{word}({name}, {name}) RETURNS {name} "
            f"LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE "
            f"RETURN (($1::text::numeric) {sign} ($2::text::numeric))::bigint::text::{name};"
            if sign != "/"
            else f"CREATE FUNCTION mz_catalog.{own.name}_{word}({name}, {name}) RETURNS {name} "
            f"LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE "
            f"RETURN div($1::text::numeric, $2::text::numeric)::bigint::text::{name};"
        )
        yield (
            f"CREATE OPERATOR mz_catalog.{sign} (FUNCTION = mz_catalog.{own.name}_{word}, "
            f"LEFTARG = {name}, RIGHTARG = {name});"
        )
    yield (
        f"CREATE FUNCTION mz_catalog.{own.name}_add(numeric, {name}) RETURNS numeric "
        f"LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN $1 + $2::text::numeric;"
    )
    yield (
        f"CREATE FUNCTION mz_catalog.{own.name}_sum(numeric, {name}) RETURNS numeric "
        f"LANGUAGE sql IMMUTABLE PARALLEL SAFE "
        f"RETURN CASE WHEN $2 IS NULL THEN $1 ELSE coalesce($1, 0) + $2::text::numeric END;"
    )
    yield (
        f"CREATE AGGREGATE mz_catalog.sum({name}) "
        f"(SFUNC = mz_catalog.{own.name}_sum, STYPE = numeric);"
    )


#: (from, to, how): `implicit`, `assignment`, or `explicit`, as in Materialize.
_CASTS = (
    ("uint2", "uint4", "implicit"), ("uint2", "uint8", "implicit"),
    ("uint2", "integer", "implicit"), ("uint2", "bigint", "implicit"),
    ("uint2", "numeric", "implicit"), ("uint2", "double precision", "implicit"),
    ("uint2", "smallint", "assignment"),
    ("uint4", "uint8", "implicit"), ("uint4", "bigint", "implicit"),
    ("uint4", "numeric", "implicit"), ("uint4", "double precision", "implicit"),
    ("uint4", "integer", "assignment"), ("uint4", "smallint", "assignment"),
    ("uint4", "uint2", "assignment"),
    ("uint8", "numeric", "implicit"), ("uint8", "double precision", "implicit"),
    ("uint8", "bigint", "assignment"), ("uint8", "integer", "assignment"),
    ("uint8", "smallint", "assignment"), ("uint8", "uint4", "assignment"),
    ("uint8", "uint2", "assignment"),
    *((source, target, "assignment")
      for source in ("smallint", "integer", "bigint", "numeric", "double precision")
      for target in ("uint2", "uint4", "uint8")),
    ("mz_timestamp", "numeric", "assignment"), ("mz_timestamp", "bigint", "assignment"),
    ("bigint", "mz_timestamp", "assignment"), ("numeric", "mz_timestamp", "assignment"),
)  # fmt: skip


def _casts() -> Iterator[str]:
    ours = {own.name for own in TYPES}
    for source, target, how in _CASTS:
        takes = f"mz_catalog.{source}" if source in ours else source
        gives = f"mz_catalog.{target}" if target in ours else target
        function = f"mz_catalog.{source}_to_{target}".replace(" ", "_")
        middle = "round($1::numeric)::text" if source in {"numeric", "double precision"} else (
            "$1::text"
        )  # fmt: skip
        yield (
            f"CREATE FUNCTION {function}({takes}) RETURNS {gives} "
            f"LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN {middle}::{gives};"
        )
        context = {"implicit": " AS IMPLICIT", "assignment": " AS ASSIGNMENT"}[how]
        yield f"CREATE CAST ({takes} AS {gives}) WITH FUNCTION {function}({takes}){context};"
    yield (
        "CREATE FUNCTION mz_catalog.mz_timestamp_to_timestamptz(mz_catalog.mz_timestamp) "
        "RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE "
        "RETURN to_timestamp($1::text::numeric / 1000.0);"
    )
    yield (
        "CREATE CAST (mz_catalog.mz_timestamp AS timestamptz) "
        "WITH FUNCTION mz_catalog.mz_timestamp_to_timestamptz(mz_catalog.mz_timestamp) "
        "AS ASSIGNMENT;"
    )
    yield (
        "CREATE FUNCTION mz_catalog.list_length(mz_catalog.list) RETURNS bigint "
        "LANGUAGE sql IMMUTABLE STRICT RETURN cardinality($1::text::text[]);"
    )
    yield (
        "CREATE FUNCTION mz_catalog.unnest(mz_catalog.list) RETURNS SETOF text LANGUAGE sql "
        "IMMUTABLE STRICT AS 'SELECT pg_catalog.unnest($1::text::text[])';"
    )
    yield "CREATE CAST (text[] AS mz_catalog.list) WITH INOUT AS ASSIGNMENT;"
