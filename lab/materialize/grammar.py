"""The cluster DDL as Materialize's parser takes it, turned into one call each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.materialize.cursor import Cursor
from lab.materialize.errors import INTERNAL, MaterializeError, syntax

Call = dict[str, Any]

#: The options of a cluster, of a replica, and how each value is read.
_STRING, _NUMBER, _BOOL, _INTERVAL, _LIST = "string", "number", "bool", "interval", "list"
_CLUSTER: dict[tuple[str, ...], str] = {
    ("AVAILABILITY", "ZONES"): _LIST,
    ("DISK",): _BOOL,
    ("INTROSPECTION", "INTERVAL"): _INTERVAL,
    ("INTROSPECTION", "DEBUGGING"): _BOOL,
    ("MANAGED",): _BOOL,
    ("REPLICAS",): "replicas",
    ("REPLICATION", "FACTOR"): _NUMBER,
    ("SIZE",): _STRING,
    ("SCHEDULE",): "schedule",
}
_REPLICA: dict[tuple[str, ...], str] = {
    ("AVAILABILITY", "ZONE"): _STRING,
    ("BILLED", "AS"): _STRING,
    ("DISK",): _BOOL,
    ("INTERNAL",): _BOOL,
    ("INTROSPECTION", "INTERVAL"): _INTERVAL,
    ("INTROSPECTION", "DEBUGGING"): _BOOL,
    ("SIZE",): _STRING,
}
_EXPECTED_CLUSTER = (
    "AVAILABILITY or DISK or INTROSPECTION or MANAGED or REPLICAS or REPLICATION or SIZE "
    "or SCHEDULE"
)
_EXPECTED_REPLICA = "AVAILABILITY or BILLED or DISK or INTERNAL or INTROSPECTION or SIZE"
_FALSE = {"FALSE", "OFF", "NO"}
_TRUE = {"TRUE", "ON", "YES"}


def parse(sql: str) -> Call | None:
    """Return the call that a cluster statement asks for, None where it is none.

    Raises MaterializeError with the parser's own complaint. `tag` is what the server answers.
    """
    cursor = Cursor(sql)
    for words, read in _STATEMENTS.items():
        if cursor.accept(*words):
            call = read(cursor)
            cursor.end()
            call["tag"] = " ".join(words)
            return call
    return None


def _create_replica(cursor: Cursor) -> Call:
    cluster = cursor.identifier()
    cursor.symbol(".")
    definition = _replica_definition(cursor)
    return {"op": "create_replica", "cluster": cluster, **definition}


def _replica_definition(cursor: Cursor) -> Call:
    name = cursor.identifier()
    options = _enclosed(cursor, _REPLICA, _EXPECTED_REPLICA, may_be_empty=False)
    return {"name": name, "options": options}


def _create_cluster(cursor: Cursor) -> Call:
    name = cursor.identifier()
    options = _enclosed(cursor, _CLUSTER, _EXPECTED_CLUSTER, may_be_empty=False)
    return {"op": "create_cluster", "name": name, "options": options}


def _enclosed(
    cursor: Cursor, known: dict[tuple[str, ...], str], expected: str, *, may_be_empty: bool
) -> Call:
    """Read options with parentheses around them, or without."""
    if cursor.take("("):
        if may_be_empty and cursor.take(")"):
            return {}
        options = _options(cursor, known, expected)
        cursor.symbol(")")
        return options
    return _options(cursor, known, expected)


def _options(cursor: Cursor, known: dict[tuple[str, ...], str], expected: str) -> Call:
    found: Call = {}
    while True:
        words = _option_name(cursor, known, expected)
        name = " ".join(words)
        if name in found:
            raise MaterializeError(INTERNAL, f"{name} specified more than once")
        found[name] = _value(cursor, name, known[words])
        if not cursor.take(","):
            return found


def _option_name(
    cursor: Cursor, known: dict[tuple[str, ...], str], expected: str
) -> tuple[str, ...]:
    for words in known:
        if cursor.accept(*words):
            return words
    raise cursor.complaint(f"Expected one of {expected}")


def _value(cursor: Cursor, name: str, kind: str) -> Any:
    """Read what stands behind an option's name, with or without the equals sign."""
    cursor.take("=")
    if kind == _BOOL:
        return _bool(cursor, name)
    if kind == "replicas":
        return _replicas(cursor)
    if kind == "schedule":
        return _schedule(cursor)
    if kind == _LIST:
        return _list(cursor, name)
    token = cursor.peek()
    if token is None or token.text in {",", ")"}:
        raise MaterializeError(INTERNAL, f"invalid {name}: must provide {_WANTED[kind]}")
    cursor.advance()
    if kind == _NUMBER:
        return _number(name, token.text)
    if kind == _STRING and token.value is None and token.name is None:
        raise MaterializeError(INTERNAL, f"invalid {name}: cannot use value as string")
    if token.word == "NULL":
        raise MaterializeError(INTERNAL, f"invalid {name}: cannot use value as string")
    if token.value is not None:
        return token.value
    # `SIZE 25cc` is a number and a word for the parser; `SIZE small` is a value.
    return token.name if token.kind == "quoted" else token.text


_WANTED = {
    _STRING: "a string value",
    _NUMBER: "an unsigned integer value",
    _INTERVAL: "an interval value",
}


def _number(name: str, text: str) -> int:
    if not text.strip("'").isdigit():
        raise MaterializeError(INTERNAL, f"invalid {name}: invalid unsigned numeric value: {text}")
    return int(text.strip("'"))


def _bool(cursor: Cursor, name: str) -> bool:
    token = cursor.peek()
    if token is None or token.text in {",", ")"}:
        return True
    cursor.advance()
    word = (token.value or token.text).upper()
    if word not in _TRUE | _FALSE:
        raise MaterializeError(INTERNAL, f"invalid {name}: cannot use value as boolean")
    return word in _TRUE


def _list(cursor: Cursor, name: str) -> list[str]:
    closing = {"(": ")", "[": "]"}
    opened = cursor.peek()
    if opened is None or opened.text not in closing:
        raise MaterializeError(INTERNAL, f"invalid {name}: cannot use value as array")
    cursor.advance()
    out: list[str] = []
    while not cursor.take(closing[opened.text]):
        token = cursor.peek()
        if token is None:
            raise cursor.complaint(f"Expected {closing[opened.text]}")
        cursor.advance()
        if token.text != ",":
            out.append(token.value if token.value is not None else token.text)
    return out


def _replicas(cursor: Cursor) -> list[Call]:
    cursor.symbol("(")
    out: list[Call] = []
    if cursor.take(")"):
        return out
    while True:
        name = cursor.identifier()
        cursor.symbol("(")
        options = _options(cursor, _REPLICA, _EXPECTED_REPLICA)
        cursor.symbol(")")
        out.append({"name": name, "options": options})
        if not cursor.take(","):
            cursor.symbol(")")
            return out


def _schedule(cursor: Cursor) -> Call:
    if cursor.accept("MANUAL"):
        return {"type": "manual"}
    if not cursor.accept("ON", "REFRESH"):
        raise cursor.complaint("Expected one of MANUAL or ON")
    estimate = None
    if cursor.take("("):
        cursor.expect("HYDRATION", "TIME", "ESTIMATE")
        cursor.take("=")
        cursor.accept("INTERVAL")
        estimate = cursor.string()
        cursor.symbol(")")
    return {"type": "on-refresh", "estimate": estimate}


def _drop_replica(cursor: Cursor) -> Call:
    if_exists = cursor.accept("IF", "EXISTS")
    names: list[list[str]] = []
    while True:
        cluster = cursor.identifier()
        cursor.symbol(".")
        names.append([cluster, cursor.identifier()])
        if not cursor.take(","):
            return {"op": "drop_replicas", "names": names, "if_exists": if_exists}


def _drop_cluster(cursor: Cursor) -> Call:
    if_exists = cursor.accept("IF", "EXISTS")
    names = [cursor.identifier()]
    while cursor.take(","):
        names.append(cursor.identifier())
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return {"op": "drop_clusters", "names": names, "if_exists": if_exists, "cascade": cascade}


def _alter_replica(cursor: Cursor) -> Call:
    if_exists = cursor.accept("IF", "EXISTS")
    cluster = cursor.identifier()
    cursor.symbol(".")
    name = cursor.identifier()
    cursor.expect("RENAME", "TO")
    to = cursor.identifier()
    return {
        "op": "rename_replica", "cluster": cluster, "name": name, "to": to, "if_exists": if_exists,
    }  # fmt: skip


def _alter_cluster(cursor: Cursor) -> Call:
    if_exists = cursor.accept("IF", "EXISTS")
    call: Call = {"cluster": cursor.identifier(), "if_exists": if_exists}
    if cursor.accept("SET"):
        cursor.symbol("(")
        options = _options(cursor, _CLUSTER, _EXPECTED_CLUSTER)
        cursor.symbol(")")
        return {**call, "op": "alter_set", "options": options, "wait": _wait(cursor)}
    if cursor.accept("RESET"):
        cursor.symbol("(")
        names = [" ".join(_option_name(cursor, _CLUSTER, _EXPECTED_CLUSTER))]
        while cursor.take(","):
            names.append(" ".join(_option_name(cursor, _CLUSTER, _EXPECTED_CLUSTER)))
        cursor.symbol(")")
        return {**call, "op": "alter_reset", "options": names}
    if cursor.accept("RENAME", "TO"):
        return {**call, "op": "rename_cluster", "to": cursor.identifier()}
    if cursor.accept("SWAP", "WITH"):
        return {**call, "op": "swap_clusters", "with": cursor.identifier()}
    if cursor.accept("OWNER", "TO"):
        return {**call, "op": "owner_cluster", "to": cursor.identifier()}
    raise cursor.complaint("Expected one of OWNER or RENAME or RESET or SET or SWAP")


def _wait(cursor: Cursor) -> Call | None:
    """Read WITH (WAIT FOR '...') or WITH (WAIT UNTIL READY (TIMEOUT ..., ON TIMEOUT ...))."""
    if not cursor.accept("WITH"):
        return None
    cursor.symbol("(")
    cursor.expect("WAIT")
    cursor.take("=")
    if cursor.accept("FOR"):
        wait: Call = {"for": cursor.string()}
    elif cursor.accept("UNTIL", "READY"):
        wait = {"timeout": None, "on_timeout": "commit"}
        cursor.symbol("(")
        while True:
            if cursor.accept("TIMEOUT"):
                cursor.take("=")
                wait["timeout"] = cursor.string()
            elif cursor.accept("ON", "TIMEOUT"):
                cursor.take("=")
                wait["on_timeout"] = cursor.one_of("COMMIT", "ROLLBACK").lower()
            else:
                raise cursor.complaint("Expected one of TIMEOUT or ON")
            if not cursor.take(","):
                break
        cursor.symbol(")")
    else:
        raise cursor.complaint("Expected one of FOR or UNTIL")
    cursor.symbol(")")
    return wait


#: By their first words; the longer ones first.
_STATEMENTS: dict[tuple[str, ...], Callable[[Cursor], Call]] = {
    ("CREATE", "CLUSTER", "REPLICA"): _create_replica,
    ("CREATE", "CLUSTER"): _create_cluster,
    ("DROP", "CLUSTER", "REPLICA"): _drop_replica,
    ("DROP", "CLUSTER"): _drop_cluster,
    ("ALTER", "CLUSTER", "REPLICA"): _alter_replica,
    ("ALTER", "CLUSTER"): _alter_cluster,
}

__all__ = ["Call", "parse", "syntax"]
