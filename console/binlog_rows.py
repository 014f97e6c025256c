"""`caretaker binlog history` and `undo`: what became of a row, and the SQL that takes it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from bson import json_util

from caretaker.binlog.gtid import GtidSet, MariadbPosition, mysql_text
from caretaker.binlog.history import of_definition, of_key, row_after
from caretaker.binlog.model import SOURCE_ID_BYTES, source_id
from caretaker.binlog.undo import undo_statements
from caretaker.errors import CaretakerError, CaseError, RefusedError
from console.binlog_ends import open_mysql, plain, reading, told
from console.options import output_option
from console.output import echo, iso, print_json, print_table
from resources.mongodb.reads import Reads
from resources.mysql.tables import Table

_MOST_TRANSACTIONS = 10_000

_source_option = click.option(
    "--source", metavar="NAME", help="Of which source, where several have such a table."
)

_HISTORY = """\b
Examples:
  caretaker binlog history shop.orders 4711
  caretaker binlog history shop.items '{"order_id": 4711, "line": 2}' --at 2026-01-15T12:00:00Z
"""


@click.command(
    "history",
    epilog=_HISTORY,
    help="Every change of one row, and the row as it was after them. KEY is a JSON value, or an "
    "object in the key's order.",
)
@click.argument("table", metavar="DB.TABLE")
@click.argument("key")
@click.option(
    "--at", metavar="TIME", help="The row at this moment, ISO 8601; UTC where it says none."
)
@_source_option
@output_option
def history(*, table: str, key: str, at: str | None, source: str | None, output: str) -> None:
    """Ask the trail; the source is not needed."""
    schema, name = table_name(table)
    until = None if at is None else _moment(at)
    wanted = _key(key)
    with reading() as trail:
        found = _of_one_source(trail.reads, schema, name, wanted, source=source, until=until)
        if not found.changes:
            _known(trail.reads, schema, name)
        columns = [column for column, _ in trail.reads.key_columns(schema, name, wanted)]
    changes = found.changes
    told_of = sorted([*changes, *found.definitions], key=lambda each: each["seq"])
    row = row_after(of_key(told_of, (schema, name), wanted, columns))
    if output == "json":
        print_json(
            {
                "table": table,
                "key": plain(wanted),
                "at": iso(until),
                "changes": [_change(change) for change in told_of],
                "exists": row.exists,
                "row": plain(row.columns) if row.exists else None,
                "whole": row.whole,
                "breaks": [{"seq": seq, "column": column} for seq, column in row.breaks],
            }
        )
        return
    if not changes:
        echo(f"{table} {key}: the trail has no change of it")
        return
    print_table(
        ["seq", "time", "op", "transaction", "changes"],
        [
            [change["seq"], iso(change["ts"]), change["op"], change["src"]["gtid"], _short(change)]
            for change in told_of
        ],
    )
    end = {True: told(row.columns), False: "gone", None: "nobody can say"}[row.exists]
    known = "" if row.whole or not row.exists else " (only columns that were changed are known)"
    echo(f"\nthen: {end}{known}")
    for seq, column in row.breaks:
        echo(f"seq {seq}: {column} was not what the change before it left")


_UNDO = """\b
Examples:
  caretaker binlog undo shop.orders 4711                 the last change of a row
  caretaker binlog undo --gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:23-25
"""


@click.command(
    "undo",
    epilog=_UNDO,
    help="Print the SQL that would take changes back, newest first: the last change of a row (or "
    "--last N of them), or whole transactions. Nothing is run.",
)
@click.argument("table", metavar="[DB.TABLE]", required=False)
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--gtid", metavar="SET", help="All row changes of these transactions.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="So many changes of the row, the latest first.",
)
@_source_option
@output_option
def undo(
    *,
    table: str | None,
    key: str | None,
    gtid: str | None,
    last: int,
    source: str | None,
    output: str,
) -> None:
    """Ask the trail what happened, and the source which columns are keys."""
    if (gtid is None) == (table is None or key is None):
        raise click.UsageError("say which row (DB.TABLE KEY), or which transactions (--gtid SET)")
    with reading() as trail:
        if gtid is not None:
            changes = _of_transactions(trail.reads, gtid, source)
            ends: list[dict[str, Any]] = []
        else:
            schema, name = table_name(table or "")
            found = _of_one_source(trail.reads, schema, name, _key(key or ""), source=source)
            if not found.changes:
                _known(trail.reads, schema, name)
                raise RefusedError(f"the trail has no change of {table} {key}", target=table)
            changes = found.changes[-last:]
            ends = [each for each in found.definitions if each["seq"] > changes[0]["seq"]]
        saved = {name: trail.reads.types(*table_name(name)) for name in _names(changes)}
    tables, complaint = _tables(changes)
    types = saved | {
        name: {column.name: column.type for column in each.columns} for name, each in tables.items()
    }
    statements = list(
        undo_statements([*changes, *ends], _keys(changes, tables), _generated(tables), types)
    )
    if output == "json":
        said = {"changes": len(changes), "statements": statements}
        print_json(said if complaint is None else {**said, "source": complaint})
        return
    if complaint is not None:
        echo(f"-- keys are guessed and generated columns unknown: {complaint}")
    for statement in statements:
        echo(statement)


@dataclass(frozen=True)
class _Found:
    """What a source's trail has of a key, and the definitions since that touched its table."""

    changes: list[dict[str, Any]]
    definitions: list[dict[str, Any]]


def _of_one_source(
    reads: Reads,
    schema: str,
    name: str,
    key: Any,
    *,
    source: str | None,
    until: datetime | None = None,
) -> _Found:
    """Return what became of a key; refused where several sources have it and none is named."""
    changes = list(reads.history(schema, name, key, until=until, source=source))
    _refuse_several(reads, changes, f"{schema}.{name}")
    if not changes:
        return _Found([], [])
    first = changes[0]
    definitions = [
        each
        for each in reads.definitions(until=until, source=source)
        if _source_of(each) == _source_of(first)
        and each["seq"] > first["seq"]
        and of_definition(each, schema, name) is not None
    ]
    return _Found(changes, definitions)


def _of_transactions(reads: Reads, gtid: str, source: str | None) -> list[dict[str, Any]]:
    names = _transactions(gtid)
    changes = [each for name in names for each in reads.of_gtid(name, source=source)]
    if not changes:
        raise RefusedError(f"the trail has no change of {gtid}", target=gtid)
    _refuse_several(reads, changes, gtid)
    return changes


def _refuse_several(reads: Reads, changes: Sequence[dict[str, Any]], target: str) -> None:
    heads = {_source_of(each) for each in changes}
    if len(heads) > 1:
        names = [each.source for each in reads.sources() if source_id(each.source) in heads]
        raise RefusedError(
            f"{target} is in the trails of several sources: {', '.join(names)}",
            target=target,
            hint="--source NAME says which is meant",
        )


def _source_of(change: dict[str, Any]) -> bytes:
    return bytes(change["_id"][:SOURCE_ID_BYTES])


def _known(reads: Reads, schema: str, name: str) -> None:
    """Refuse a table that the trail never saw: of a misspelt one "no change" would be believed."""
    tables = reads.tables(schema)
    if name in tables:
        return
    known = f"of {schema} it has {', '.join(tables)}" if tables else f"nor any other of {schema}"
    raise RefusedError(
        f"the trail has no change of any row of {schema}.{name}, {known}",
        target=f"{schema}.{name}",
        hint="names are the source's, in its case; include and exclude of a sync choose tables",
    )


def table_name(text: str) -> tuple[str, str]:
    """Take `db.table` apart at the first dot."""
    schema, dot, name = text.partition(".")
    if not dot or not schema or not name:
        raise click.UsageError(f"{text!r} is no DB.TABLE")
    return schema, name


def _key(text: str) -> Any:
    """Return a key as the trail has it: JSON, Extended JSON included; other text is itself."""
    try:
        return json_util.loads(text, json_options=json_util.RELAXED_JSON_OPTIONS)
    except (ValueError, TypeError):
        return text


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--at: {text!r} is no time such as 2026-01-15T12:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _transactions(text: str) -> list[str]:
    """Return the names of a set's transactions, as documents have them."""
    try:
        found = GtidSet.parse(text)
    except CaseError:
        return _mariadb(text)
    if found.count() > _MOST_TRANSACTIONS:
        raise click.UsageError(f"--gtid: {found.count():,} transactions are too many to undo")
    return [mysql_text(gtid) for gtid in found]


def _mariadb(text: str) -> list[str]:
    """MariaDB has no sets: each transaction is named by itself, separated by commas."""
    names = [part.strip() for part in text.split(",")]
    try:
        for name in names:
            MariadbPosition.parse(name)
    except CaseError as error:
        raise click.UsageError(f"--gtid: {error}") from None
    return names


def _tables(changes: Sequence[dict[str, Any]]) -> tuple[dict[str, Table], str | None]:
    """Return the tables as the source has them now, and why some are not among them."""
    tables: dict[str, Table] = {}
    complaint = None
    try:
        with open_mysql("undo") as source:
            for name in sorted(_names(changes)):
                try:
                    tables[name] = source.table(name)
                except RefusedError as error:
                    complaint = str(error)
    except CaretakerError as error:
        complaint = str(error)
    return tables, complaint


def _names(changes: Sequence[dict[str, Any]]) -> set[str]:
    return {
        f"{change['meta']['db']}.{change['meta']['tbl']}"
        for change in changes
        if change["op"] in {"i", "u", "d"}
    }


def _keys(
    changes: Sequence[dict[str, Any]], tables: Mapping[str, Table]
) -> dict[str, tuple[str, ...]]:
    """Return the columns of each table's key; those of a composite one are in its changes."""
    composite = {
        f"{change['meta']['db']}.{change['meta']['tbl']}": tuple(change["meta"]["pk"])
        for change in changes
        if isinstance(change["meta"]["pk"], dict)
    }
    return {
        name: composite.get(name)
        or (tables[name].key if name in tables else _guessed(name, changes))
        for name in _names(changes)
    }


def _generated(tables: Mapping[str, Table]) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(column.name for column in table.columns if column.generated)
        for name, table in tables.items()
    }


def _guessed(name: str, changes: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the one column that has the key's value in every insert and delete, if it is one."""
    possible: set[str] | None = None
    for change in changes:
        meta = change["meta"]
        if f"{meta['db']}.{meta['tbl']}" != name or change["op"] not in {"i", "d"}:
            continue
        side = "t" if change["op"] == "i" else "f"
        equal = {column for column, sides in change["chg"].items() if sides.get(side) == meta["pk"]}
        possible = equal if possible is None else possible & equal
    return tuple(possible) if possible is not None and len(possible) == 1 else ()


def _change(change: dict[str, Any]) -> dict[str, Any]:
    return {
        "seq": change["seq"],
        "ts": iso(change["ts"]),
        "op": change["op"],
        "gtid": change["src"]["gtid"],
        "chg": plain(change.get("chg", {})),
        **({"sql": change["ddl"]["sql"]} if "ddl" in change else {}),
    }


def _short(change: dict[str, Any], longest: int = 100) -> str:
    if "ddl" in change:
        return _cut(" ".join(change["ddl"]["sql"].split()), longest)
    parts = []
    for column, sides in change["chg"].items():
        before, after = told(sides.get("f")), told(sides.get("t"))
        if change["op"] == "u":
            parts.append(f"{column}: {before} -> {after}")
        else:
            parts.append(f"{column}: {after if change['op'] == 'i' else before}")
    return _cut(", ".join(parts), longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
