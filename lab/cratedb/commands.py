"""Statements that change something, read off the grammar's tree into plain records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from lab.cratedb.expressions import Placeholders, Value, identifier, qualified, value
from lab.cratedb.grammar import Tree, kind, parse
from lab.cratedb.tokens import tokenize


@dataclass(slots=True, frozen=True)
class Target:
    """A table, with the values of a PARTITION clause where there is one."""

    schema: str
    table: str
    partition: tuple[tuple[str, Value], ...] | None = None


@dataclass(slots=True, frozen=True)
class Command:
    """One statement: `kind` is the grammar's rule, the other fields are what that rule has."""

    kind: str
    targets: tuple[Target, ...] = ()
    properties: tuple[tuple[str, Value], ...] = ()
    names: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    values: tuple[Value, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def read(sql: str) -> Command:
    """Return the command in `sql`, or raise its ParsingException."""
    tree = parse(_without_timeout(sql))
    while kind(tree) not in _READERS and tree.getChildCount() == 1:
        tree = tree.getChild(0)
    reader = _READERS.get(kind(tree))
    if reader is None:
        return Command(kind(tree), words=_words(tree))
    return reader(tree)


def _without_timeout(sql: str) -> str:
    """Cut `WITH (timeout = ...)` off ALTER TABLE: 6.2 takes it, the packaged grammar does not."""
    tokens = tokenize(sql)
    if [t.low for t in tokens[:2]] != ["alter", "table"]:
        return sql
    for before, here, _, name in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
        if before.text == ")" and here.low == "with" and name.name == "timeout":
            return sql[: here.at]
    return sql


# --- walking --------------------------------------------------------------------------------


def _children(tree: Tree, *kinds: str) -> Iterator[Tree]:
    for child in tree.getChildren() if tree.getChildCount() else ():
        if kind(child) in kinds:
            yield child


def _find(tree: Tree, *kinds: str) -> Iterator[Tree]:
    """Yield the nodes of these kinds, in order, not looking inside one that was found."""
    for child in tree.getChildren() if tree.getChildCount() else ():
        if kind(child) in kinds:
            yield child
        else:
            yield from _find(child, *kinds)


def _words(tree: Tree) -> frozenset[str]:
    return frozenset(c.getText().lower() for c in _children(tree, "TerminalNodeImpl"))


def _name(tree: Tree) -> tuple[str, str]:
    parts = qualified(tree)
    return (parts[-2], parts[-1]) if len(parts) > 1 else ("doc", parts[0])


def _column(tree: Tree) -> str:
    """Return a column or sub-column as partitioned_by shows it: unquoted base, rest verbatim."""
    tokens = tokenize(tree.getText())
    return tokens[0].name + "".join(token.text for token in tokens[1:])


def _targets(tree: Tree, holes: Placeholders) -> tuple[Target, ...]:
    out = []
    for found in _find(tree, "TableWithPartition", "TableName", "TableOnly"):
        schema, table = _name(next(_find(found, "Qname"), found))
        assignments = tuple(
            (_column(a.getChild(0)), value(a.getChild(2), holes))
            for a in _children(found, "Assignment")
        )
        out.append(Target(schema, table, assignments or None))
    return tuple(out)


def _properties(tree: Tree, holes: Placeholders) -> tuple[tuple[str, Value], ...]:
    return tuple(
        (identifier(p.getChild(0)), value(p.getChild(2), holes))
        for p in _find(tree, "GenericProperty")
    )


# --- one reader per rule --------------------------------------------------------------------


def _general(tree: Tree) -> Command:
    """Read what most rules have: tables, properties and keywords."""
    holes = Placeholders()
    return Command(
        kind(tree),
        targets=_targets(tree, holes),
        properties=_properties(tree, holes),
        names=tuple(identifier(c) for c in _children(tree, "Ident")),
        words=_words(tree) | ({"only"} if next(_find(tree, "TableOnly"), None) else set()),
    )


def _reroute(tree: Tree) -> Command:
    holes = Placeholders()
    targets = _targets(tree, holes)
    option = next(_find(tree, "RerouteCancelShard"), None)
    if option is None:
        return Command("AlterTableReroute", targets)
    return Command(
        "RerouteCancelShard",
        targets,
        values=(value(option.getChild(2), holes), value(option.getChild(4), holes)),
        properties=_properties(option, holes),
    )


def _one_value(tree: Tree) -> Command:
    last = tree.getChild(tree.getChildCount() - 1)
    return Command(kind(tree), values=(value(last, Placeholders()),))


def _set_global(tree: Tree) -> Command:
    holes = Placeholders()
    pairs = tuple(
        (_column(a.getChild(0)), value(a.getChild(2), holes))
        for a in _children(tree, "SetGlobalAssignment")
    )
    return Command("SetGlobal", properties=pairs, words=_words(tree))


def _reset_global(tree: Tree) -> Command:
    columns = list(_find(tree, "ColumnReference", "Subscript", "Dereference"))
    names = [".".join(t.name for t in tokenize(c.getText()) if t.text != ".") for c in columns]
    return Command("ResetGlobal", names=tuple(names))


def _create_table(tree: Tree) -> Command:
    holes = Placeholders()
    columns: list[tuple[str, str]] = []
    for definition in _find(tree, "ColumnDefinition"):
        columns.extend(_define("", definition))
    partitioned = [
        _column(child)
        for by in _find(tree, "PartitionedBy")
        for columns_ in _children(by, "Columns")
        for child in columns_.getChildren()
        if kind(child) != "TerminalNodeImpl" and child.getText() not in "(),"
    ]
    shards = [
        text
        for by in _find(tree, "ClusteredBy")
        for text in (t.text for t in tokenize(" ".join(_terminals(by))))
        if text.isdigit()
    ]
    # Only the table's own WITH: a column may have one, too (columnstore = false).
    options = next(_children(tree, "WithGenericProperties"), None)
    return Command(
        "CreateTable",
        _targets(tree, holes),
        _properties(options, holes) if options is not None else (),
        words=_words(tree),
        columns=tuple(columns),
        extra={"partitioned_by": tuple(partitioned), "shards": tuple(shards)},
    )


def _terminals(tree: Tree) -> Iterator[str]:
    if tree.getChildCount() == 0:
        yield tree.getText()
    for child in tree.getChildren() if tree.getChildCount() else ():
        yield from _terminals(child)


def _define(prefix: str, definition: Tree) -> Iterator[tuple[str, str]]:
    name = identifier(definition.getChild(0))
    path = f"{prefix}['{name}']" if prefix else name
    inner = next(_find(definition, "ObjectTypeDefinition"), None)
    types = list(
        _children(definition, "MaybeParametrizedDataType", "ObjectDataType", "ArrayDataType",
                  "DataType", "DefinedDataTypeDefault", "BaseDataType")
    )  # fmt: skip
    text = " ".join(_terminals(types[0])).lower() if types else "text"
    yield path, "object" if text.startswith("object") else TYPE_NAMES.get(text, text)
    if inner is not None:
        for child in _children(inner, "ColumnDefinition"):
            yield from _define(path, child)


TYPE_NAMES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "long": "bigint",
    "short": "smallint",
    "string": "text",
    "timestamp": "timestamp with time zone",
    "double": "double precision",
    "float": "real",
    "bool": "boolean",
}


def _insert(tree: Tree) -> Command:
    holes = Placeholders()
    rows = tuple(
        tuple(value(e, holes) for e in values.getChildren() if kind(e) != "TerminalNodeImpl")
        for values in _find(tree, "Values")
    )
    return Command(
        "Insert",
        _targets(tree, holes)[:1],
        names=tuple(identifier(c) for c in _children(tree, "Ident")),
        rows=rows,
        words=_words(tree),
    )


def _privilege(tree: Tree) -> Command:
    lists = [
        tuple(identifier(i) for i in _children(group, "Ident"))
        for group in _children(tree, "Idents")
    ]
    securable = next(_children(tree, "Securable"), None)
    objects = tuple(
        ".".join(qualified(q)) for group in _children(tree, "Qnames")
        for q in _children(group, "Qname")
    )  # fmt: skip
    return Command(
        kind(tree),
        names=lists[-1],
        words=_words(tree),
        extra={
            "classes": lists[0] if len(lists) > 1 else (),
            "on": (securable.getText().upper(),) if securable is not None else (),
            "objects": objects,
        },
    )


_READERS: dict[str, Callable[[Tree], Command]] = {
    "CreateTable": _create_table,
    "DropTable": _general,
    "AlterTableProperties": _general,
    "AlterBlobTableProperties": _general,
    "AlterTableOpenClose": _general,
    "AlterTableReroute": _reroute,
    "AlterClusterDecommissionNode": _one_value,
    "Optimize": _general,
    "RefreshTable": _general,
    "Insert": _insert,
    "SetGlobal": _set_global,
    "ResetGlobal": _reset_global,
    "CreateRole": _general,
    "AlterRoleSet": _general,
    "DropRole": _general,
    "GrantPrivilege": _privilege,
    "DenyPrivilege": _privilege,
    "RevokePrivilege": _privilege,
    "CreateSnapshot": _general,
}
