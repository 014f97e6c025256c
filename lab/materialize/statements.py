"""What a statement is to Materialize, and what it becomes for the PostgreSQL underneath."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from lab.materialize import grammar, settings
from lab.materialize.cursor import Cursor, described
from lab.materialize.errors import (
    INTERNAL,
    SYNTAX,
    UNDEFINED_OBJECT,
    UNSUPPORTED,
    MaterializeError,
    syntax,
)
from lab.materialize.tokens import Token, UnterminatedError, tokens


class Kind(StrEnum):
    """How a statement counts in a transaction and where it runs."""

    READ = "read"
    #: An INSERT of constants: needs no cluster, and several fit in one transaction.
    WRITE = "write"
    #: DELETE, UPDATE and INSERT ... SELECT: need a cluster, and stand alone.
    READ_WRITE = "read_write"
    #: The cluster statements, which are calls here.
    CALL = "call"
    #: Other DDL, which PostgreSQL understands.
    DDL = "ddl"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SET = "set"
    OTHER = "other"


@dataclass(slots=True)
class Statement:
    """A statement as it came (`sql`), and `local`, what is sent on."""

    sql: str
    kind: Kind
    local: str
    tag: str | None = None
    call: grammar.Call | None = None
    #: Names in it, quoted ones unquoted: to find out which relations it touches.
    names: frozenset[str] = frozenset()
    #: For SET and RESET: the parameter, its value (None: the default) and whether it is LOCAL.
    parameter: str = ""
    value: str | None = None
    is_local: bool = False
    columns: list[str] = field(default_factory=list)


_READS = {"SELECT", "WITH", "VALUES", "TABLE"}
_PLAIN = {"DISCARD", "DEALLOCATE", "PREPARE", "EXECUTE", "DECLARE", "FETCH", "CLOSE", "EXPLAIN"}
#: Functions of PostgreSQL's catalog that are answered by ours, even when called by full name.
_OURS = {"version", "now", "current_database"}
_ABSENT = {"pg_advisory_lock", "pg_advisory_unlock", "pg_try_advisory_lock", "nextval", "currval",
           "pg_advisory_xact_lock", "pg_try_advisory_xact_lock", "setval", "pg_notify", "pg_sleep",
           "set_config", "pg_advisory_unlock_all"}  # fmt: skip
_SHOWS = {
    ("CLUSTERS",): ("name", "SELECT name, replicas, comment FROM mz_internal.mz_show_clusters"),
    ("CLUSTER", "REPLICAS"): (
        "cluster",
        "SELECT cluster, replica, size, ready, comment FROM mz_internal.mz_show_cluster_replicas",
    ),
    ("TABLES",): ("name", "SELECT name, '' AS comment FROM mz_catalog.mz_tables"),
    ("SCHEMAS",): ("name", "SELECT name, '' AS comment FROM mz_catalog.mz_schemas"),
    ("DATABASES",): ("name", "SELECT name, '' AS comment FROM mz_catalog.mz_databases"),
    ("ROLES",): ("name", "SELECT name, '' AS comment FROM mz_catalog.mz_roles"),
}
_CREATES = {"TABLE", "VIEW", "SCHEMA", "TEMP", "TEMPORARY", "OR"}
_CREATE_EXPECTED = (
    "Expected DATABASE, SCHEMA, ROLE, TYPE, INDEX, SINK, SOURCE, [TEMPORARY] TABLE, SECRET, "
    "[OR REPLACE] [TEMPORARY] VIEW, or [OR REPLACE] MATERIALIZED VIEW after CREATE"
)


def understand(sql: str) -> Statement:
    """Return what the statement is, or raise the refusal that Materialize's parser has for it."""
    try:
        found = tokens(sql)
    except UnterminatedError as error:
        raise MaterializeError(SYNTAX, str(error)) from error
    if not found:
        return Statement(sql, Kind.OTHER, sql)
    first = found[0].word
    if found[0].text == "(":
        first = "SELECT"
    if (call := grammar.parse(sql)) is not None:
        return Statement(sql, Kind.CALL, "", tag=call.pop("tag"), call=call)
    if first in _READS:
        return _read(sql, found)
    if first in _PARSERS:
        return _PARSERS[first](sql, found)
    if first in _PLAIN:
        return Statement(sql, Kind.OTHER, _rewritten(sql, found))
    if first in {"COPY", "SUBSCRIBE", "TAIL"}:
        raise MaterializeError(UNSUPPORTED, f"{first} is not supported by this lab")
    raise syntax(
        f"Expected a keyword at the beginning of a statement, found {described(found[0])}",
        found[0].at,
    )


def _names(found: list[Token]) -> frozenset[str]:
    return frozenset(name for token in found if (name := token.name) is not None)


def _read(sql: str, found: list[Token]) -> Statement:
    _refuse_locking(found)
    _refuse_functions(found)
    local = _rewritten(sql, found)
    if len(found) > 1 and found[0].word == "WITH" and _writes(found):
        raise MaterializeError(UNSUPPORTED, "data-modifying statements in WITH are not supported")
    return Statement(sql, Kind.READ, local, names=_names(found))


def _writes(found: list[Token]) -> bool:
    return any(
        token.word in {"INSERT", "UPDATE", "DELETE"} and found[n - 1].text == "("
        for n, token in enumerate(found)
    )


def _refuse_locking(found: list[Token]) -> None:
    for token, following in zip(found, [*found[1:], None], strict=True):
        if token.word == "FOR" and following and following.word in {"UPDATE", "SHARE", "NO", "KEY"}:
            raise syntax("Expected end of statement, found FOR", token.at)


def _refuse_functions(found: list[Token]) -> None:
    for token, following in zip(found, [*found[1:], None], strict=True):
        if token.name in _ABSENT and following is not None and following.text == "(":
            raise MaterializeError(
                "42883", f'function "{token.name}" does not exist',
                hint="No function matches the given name and argument types. "
                "You might need to add explicit type casts.",
            )  # fmt: skip


def _rewritten(sql: str, found: list[Token]) -> str:
    """Return the statement with what PostgreSQL has of its own turned to what is the lab's."""
    edits: list[tuple[int, int, str]] = []
    for n, token in enumerate(found):
        rest = found[n + 1 :]
        if token.word == "CURRENT_TIMESTAMP":
            end = token.at + len(token.text)
            edits.append((token.at, end, "mz_catalog.now()"))
        elif token.word == "PG_CATALOG" and len(rest) > 2 and rest[1].name in _OURS:  # noqa: PLR2004
            if rest[0].text == "." and rest[2].text == "(":
                edits.append((token.at, token.at + len(token.text), "mz_catalog"))
        elif token.word == "SHOW" and n and found[n - 1].text == "(":
            shown = _shown(rest)
            if shown is not None:
                edits.append(shown_edit(token, rest, shown))
        elif token.word == "LIST" and rest and rest[0].text == "[":
            edits.append((token.at, token.at + len(token.text), "ARRAY"))
    for begin, end, text in reversed(edits):
        sql = sql[:begin] + text + sql[end:]
    return sql


def _shown(rest: list[Token]) -> tuple[int, str, str] | None:
    for words, (column, select) in sorted(_SHOWS.items(), key=lambda item: -len(item[0])):
        if tuple(token.word for token in rest[: len(words)]) == words:
            return len(words), column, select
    return None


def shown_edit(
    token: Token, rest: list[Token], shown: tuple[int, str, str]
) -> tuple[int, int, str]:
    """Return the edit that makes a SELECT of a SHOW inside a query."""
    count, column, select = shown
    last = rest[count - 1]
    end = last.at + len(last.text)
    if count < len(rest) and rest[count].word == "LIKE":
        like = rest[count]
        return token.at, like.at + len(like.text), f"{select} WHERE {column} LIKE"
    return token.at, end, select


def _show(sql: str, found: list[Token]) -> Statement:
    rest = found[1:]
    if rest and (shown := _shown(rest)) is not None:
        begin, end, select = shown_edit(found[0], rest, shown)
        local = sql[:begin] + select + sql[end:]
        if len(rest) == shown[0]:
            local += " ORDER BY 1, 2"
        return Statement(sql, Kind.READ, local, names=frozenset({"mz_show"}))
    cursor = Cursor(sql)
    cursor.advance()
    if cursor.accept("ALL"):
        known = [*settings.DEFAULT_PARAMETERS, *settings.SHARED]
        rows = " UNION ALL ".join(
            f"SELECT '{name}' AS name, "
            f"pg_catalog.current_setting('{settings.local(name)}') AS setting, '' AS description"
            for name in sorted(known)
        )
        return Statement(sql, Kind.OTHER, rows)
    name = _parameter(cursor)
    cursor.end()
    if name in settings.FIXED:
        return Statement(sql, Kind.OTHER, f"SELECT '{settings.FIXED[name]}' AS {name}")
    if name == "mz_version":
        return Statement(sql, Kind.OTHER, "SELECT mz_catalog.mz_version() AS mz_version")
    if name == "search_path":
        cut = f", {settings.IMPLICIT_SCHEMAS}"
        local = (
            f"SELECT replace(pg_catalog.current_setting('search_path'), '{cut}', '') AS search_path"
        )
        return Statement(sql, Kind.OTHER, local)
    return Statement(
        sql, Kind.OTHER, f"SELECT pg_catalog.current_setting('{_known(name)}') AS \"{name}\""
    )


def _parameter(cursor: Cursor) -> str:
    if cursor.accept("TIME", "ZONE"):
        return "timezone"
    if cursor.accept("TRANSACTION", "ISOLATION", "LEVEL"):
        return "transaction_isolation"
    return cursor.identifier().lower()


def _known(name: str) -> str:
    found = settings.local(name)
    if found is None:
        raise MaterializeError(UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name}"')
    return found


def _set(sql: str, found: list[Token]) -> Statement:
    cursor = Cursor(sql)
    cursor.advance()
    is_local = cursor.accept("LOCAL")
    if not is_local:
        cursor.accept("SESSION")
    if cursor.accept("TRANSACTION") or cursor.accept("CHARACTERISTICS", "AS", "TRANSACTION"):
        return Statement(sql, Kind.SET, _transaction_modes(found), parameter="transaction")
    if cursor.accept("NAMES"):
        name = "client_encoding"
    elif cursor.at_word("SCHEMA"):
        cursor.advance()
        name = "search_path"
    else:
        name = _parameter(cursor)
        if name != "timezone" and not cursor.take("=") and not cursor.accept("TO"):
            raise cursor.complaint("Expected equals sign or TO")
        if name == "timezone":
            cursor.take("=")
            cursor.accept("TO")
    known = _known(name)
    rest = found[_position(found, cursor) :]
    if not rest:
        raise cursor.complaint("Expected literal value")
    word = "LOCAL " if is_local else ""
    if [token.word for token in rest] == ["DEFAULT"]:
        return Statement(
            sql, Kind.SET, f"SET {word}{known} TO DEFAULT", parameter=name, is_local=is_local
        )
    values = [t.value if t.value is not None else t.name or t.text for t in rest if t.text != ","]
    local = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    if name == "search_path":
        local += f", {settings.IMPLICIT_SCHEMAS}"
    return Statement(
        sql, Kind.SET, f"SET {word}{known} TO {local}", tag="SET", parameter=name,
        value=", ".join(values), is_local=is_local,
    )  # fmt: skip


def _position(found: list[Token], cursor: Cursor) -> int:
    here = cursor.peek()
    return len(found) if here is None else next(n for n, t in enumerate(found) if t.at == here.at)


def _transaction_modes(found: list[Token]) -> str:
    """Return a SET TRANSACTION that PostgreSQL takes: isolation is not its business here."""
    words = [token.word for token in found]
    read_only = "ONLY" in words
    return "SET TRANSACTION READ ONLY" if read_only else "SET TRANSACTION READ WRITE"


def _reset(sql: str, found: list[Token]) -> Statement:  # noqa: ARG001 - one shape for all
    cursor = Cursor(sql)
    cursor.advance()
    if cursor.accept("ALL"):
        return Statement(sql, Kind.SET, "RESET ALL", parameter="all")
    name = _parameter(cursor)
    cursor.end()
    return Statement(sql, Kind.SET, f"RESET {_known(name)}", parameter=name)


def _begin(sql: str, found: list[Token]) -> Statement:
    words = [token.word for token in found]
    read_only = "READ" in words and "ONLY" in words
    return Statement(sql, Kind.BEGIN, "BEGIN READ ONLY" if read_only else "BEGIN", tag="BEGIN")


def _commit(sql: str, found: list[Token]) -> Statement:
    if found[0].word == "END":
        raise syntax("Expected a keyword at the beginning of a statement, found END", found[0].at)
    return Statement(sql, Kind.COMMIT, "COMMIT")


def _rollback(sql: str, found: list[Token]) -> Statement:
    if any(token.word in {"TO", "PREPARED"} for token in found):
        raise syntax(f"Expected end of statement, found {described(found[1])}", found[1].at)
    return Statement(sql, Kind.ROLLBACK, "ROLLBACK", tag="ROLLBACK")


def _insert(sql: str, found: list[Token]) -> Statement:
    for token, following in zip(found, [*found[1:], None], strict=True):
        if token.word == "ON" and following is not None and following.word == "CONFLICT":
            raise syntax("Expected end of statement, found ON", token.at)
    _refuse_functions(found)
    reads = any(token.word in {"SELECT", "TABLE"} for token in found[1:])
    kind = Kind.READ_WRITE if reads else Kind.WRITE
    return Statement(sql, kind, _rewritten(sql, found), names=_names(found))


def _change(sql: str, found: list[Token]) -> Statement:
    _refuse_functions(found)
    for token in found:
        if token.word == "RETURNING":
            raise syntax("Expected end of statement, found RETURNING", token.at)
    return Statement(sql, Kind.READ_WRITE, _rewritten(sql, found), names=_names(found))


def _create(sql: str, found: list[Token]) -> Statement:
    second = found[1] if len(found) > 1 else None
    words = [token.word for token in found]
    if second is None or second.word in {"UNIQUE", "SEQUENCE", "EXTENSION", "TRIGGER", "PROCEDURE",
                                         "RULE", "POLICY", "FUNCTION", "UNLOGGED"}:  # fmt: skip
        raise syntax(f"{_CREATE_EXPECTED}, found {described(second)}", second.at if second else 0)
    if second.word not in _CREATES or "MATERIALIZED" in words[:4]:
        raise MaterializeError(
            UNSUPPORTED,
            f"CREATE {second.word} is not supported by this lab",
            hint="Objects that hydrate are made with the lab's own levers.",
        )
    local = _rewritten(sql, found)
    if "TABLE" in words[:4]:
        local = _unkeyed(local)
    return Statement(sql, Kind.DDL, local)


def _unkeyed(sql: str) -> str:
    """Return a CREATE TABLE without its keys: Materialize reads them and does not keep them."""
    found = tokens(sql)
    for n in range(len(found) - 1, 0, -1):
        token, before = found[n], found[n - 1]
        if token.word == "KEY" and before.word == "PRIMARY":
            sql = sql[: before.at] + sql[token.at + len(token.text) :]
        elif token.word == "UNIQUE":
            sql = sql[: token.at] + sql[token.at + len(token.text) :]
    return sql


def _ddl(sql: str, found: list[Token]) -> Statement:
    return Statement(sql, Kind.DDL, _rewritten(sql, found))


def _comment(sql: str, found: list[Token]) -> Statement:  # noqa: ARG001 - one shape for all
    cursor = Cursor(sql)
    cursor.advance()
    cursor.expect("ON")
    if not cursor.accept("CLUSTER"):
        return Statement(sql, Kind.DDL, sql)
    call: grammar.Call = {"op": "comment", "replica": None}
    is_replica = cursor.accept("REPLICA")
    call["cluster"] = cursor.identifier()
    if is_replica:
        cursor.symbol(".")
        call["replica"] = cursor.identifier()
    cursor.expect("IS")
    call["comment"] = None if cursor.accept("NULL") else cursor.string()
    cursor.end()
    return Statement(sql, Kind.CALL, "", tag="COMMENT", call=call)


def _explain_alter(sql: str, found: list[Token]) -> Statement:
    if len(found) > 1 and found[1].word == "SYSTEM":
        raise MaterializeError(
            "42501", "permission denied to alter system",
            detail="You must be the 'mz_system' role",
        )  # fmt: skip
    if len(found) > 1 and found[1].word not in {"TABLE", "VIEW", "SCHEMA"}:
        raise MaterializeError(UNSUPPORTED, f"ALTER {found[1].text} is not supported by this lab")
    return _ddl(sql, found)


_PARSERS = {
    "SHOW": _show,
    "SET": _set,
    "RESET": _reset,
    "BEGIN": _begin,
    "START": _begin,
    "COMMIT": _commit,
    "ROLLBACK": _rollback,
    "ABORT": _rollback,
    "INSERT": _insert,
    "UPDATE": _change,
    "DELETE": _change,
    "CREATE": _create,
    "DROP": _ddl,
    "ALTER": _explain_alter,
    "GRANT": _ddl,
    "REVOKE": _ddl,
    "COMMENT": _comment,
}


def call_text(call: grammar.Call, user: str, in_block: str) -> str:
    """Return the CALL that carries out a cluster statement; `in_block` may be a parameter."""
    text = json.dumps(call).replace("'", "''")
    quoted = user.replace("'", "''")
    # E-strings and backslashes: a plain literal takes a backslash as it is.
    return f"CALL lab.perform('{text}', '{quoted}', {in_block})"


__all__ = ["INTERNAL", "Kind", "Statement", "call_text", "understand"]
