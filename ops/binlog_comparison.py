"""A table held against its trail: what the changes add up to, and what the source has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from bson import Int64, json_util

from caretaker.binlog.frames import file_order
from caretaker.binlog.gtid import GtidSet, MariadbPosition
from caretaker.binlog.history import Fate, Row, fates, of_definition, row_after
from caretaker.binlog.model import Checkpoint, Position
from caretaker.binlog.transaction_names import mysql_gtid
from ops.binlog_seen import Seen
from resources.mysql.tables import Snapshot, Table

Document = Mapping[str, Any]

#: Differences that are told one by one.
_TOLD = 50


@dataclass
class Compared:
    """What a comparison found.

    Attributes:
        equal: Rows of the source that are what the trail says, as far as it says anything.
        partial: Those of them of which the trail has some columns only, or some only as a mask.
        not_covered: Rows that are older than the trail: it has no change of them.
        different: Rows of which a column is another.
        missing: Rows that the trail has and the source has not, and `extra` the reverse for rows
            that the trail saw being deleted.
    """

    table: str
    rows: int = 0
    equal: int = 0
    partial: int = 0
    not_covered: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing contradicts the trail."""
        return not (self.different or self.missing or self.extra)

    def document(self) -> dict[str, Any]:
        """Return it for a table or for JSON."""
        return {
            "table": self.table,
            "rows": self.rows,
            "equal": self.equal,
            "partial": self.partial,
            "not_covered": self.not_covered,
            "different": self.different,
            "missing": self.missing,
            "extra": self.extra,
            "differences": self.differences,
        }


@dataclass
class _Known:
    """What the trail says of a key: certainly, and what else it may have been at the snapshot."""

    changes: list[Document] = field(default_factory=list)
    later: list[Document] = field(default_factory=list)

    def add(self, change: Document, *, surely: bool) -> None:
        if not surely or self.later:
            self.later.append(change)
            return
        if change["op"] in {"i", Fate.GOES, Fate.COMES, Fate.UNCLEAR}:
            # Whatever was before it says nothing of the row any more.
            self.changes.clear()
        self.changes.append(change)

    def possible(self) -> Iterator[Row]:
        for count in range(len(self.later) + 1):
            yield row_after([*self.changes, *self.later[:count]])


def compare(
    table: Table, snapshot: Snapshot, changes: Iterable[Document], seen: Seen, chunk_rows: int
) -> Compared:
    """Compare the snapshot of a table with its changes up to then, a key range at a time.

    `seen` is what the trail's filters leave of a value.
    """
    known = _by_key(changes, table, before(snapshot.low), before(snapshot.high))
    found = Compared(str(table))
    met: set[str] = set()
    after = None
    while True:
        rows, after = snapshot.chunk(table, after, chunk_rows)
        have = pd.DataFrame({"key": [_text(seen.key(row)) for row in rows], "row": rows})
        told = _frame(known, [key for key in have["key"] if key in known])
        met.update(have["key"])
        _judge(found, seen, have.merge(told, how="outer", on="key", indicator=True))
        if len(rows) < chunk_rows:
            break
    left = _frame(known, [key for key in known if key not in met])
    _judge(found, seen, have.iloc[0:0].merge(left, how="outer", on="key", indicator=True))
    return found


def _frame(known: Mapping[str, _Known], keys: list[str]) -> pd.DataFrame:
    told = {"key": keys, "known": [known[key] for key in keys]}
    return pd.DataFrame(told, dtype=object)


def _judge(found: Compared, seen: Seen, merged: pd.DataFrame) -> None:
    for line in merged.to_dict("records"):
        key, side = line["key"], line["_merge"]
        if side == "right_only":
            if all(row.exists for row in line["known"].possible()):
                found.missing += 1
                _tell(found, key, "missing", [])
            continue
        found.rows += 1
        if side == "left_only":
            found.not_covered += 1
            continue
        _judge_row(found, seen, key, line["row"], line["known"])


def _judge_row(
    found: Compared, seen: Seen, key: str, row: Mapping[str, Any], known: _Known
) -> None:
    possible = list(known.possible())
    told = [each for each in possible if each.exists]
    if not told:
        if any(each.exists is None for each in possible):
            found.not_covered += 1
        else:
            found.extra += 1
            _tell(found, key, "extra", [])
        return
    unequal = [_different(seen, row, each) for each in told]
    if [] in unequal:
        like = told[unequal.index([])]
        found.equal += 1
        found.partial += not like.whole or any(seen.hides(name) for name in like.columns)
        return
    found.different += 1
    _tell(found, key, "different", unequal[-1], row, told[-1])


def _different(seen: Seen, row: Mapping[str, Any], known: Row) -> list[str]:
    # Columns that the table did not have yet when the trail saw the row have their default.
    return [
        name
        for name, value in known.columns.items()
        if name in row
        and not _same(row[name], value)
        and not any(_same(each, value) for each in seen.through(name, row[name], value))
    ]


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    # As text: NaN, and numbers of other types that say the same.
    return _text(one) == _text(other)


def _tell(
    found: Compared,
    key: str,
    what: str,
    columns: list[str],
    row: Mapping[str, Any] | None = None,
    known: Row | None = None,
) -> None:
    if len(found.differences) >= _TOLD:
        return
    sides = [
        {
            "column": name,
            "source": _text(row[name]) if row else None,
            "trail": _text(known.columns[name]) if known else None,
        }
        for name in columns
    ]
    found.differences.append({"key": key, "what": what, "columns": sides})


def _by_key(
    changes: Iterable[Document],
    table: Table,
    certainly: Callable[[Document], bool],
    possibly: Callable[[Document], bool],
) -> dict[str, _Known]:
    """Return the changes up to the snapshot by key; a change of a key ends one row, begins one."""
    known: dict[str, _Known] = {}
    for change in changes:
        if change["op"] not in {"i", "u", "d", "ddl"} or not possibly(change):
            continue
        surely = certainly(change)
        if change["op"] == "ddl":
            fate = of_definition(change, table.schema, table.name)
            for entry in known.values() if fate is not None else ():
                entry.add(fate or change, surely=surely)
            continue
        for key, part in fates(change, table.key):
            known.setdefault(_text(key), _Known()).add(part, surely=surely)
    return known


def before(checkpoint: Checkpoint) -> Callable[[Document], bool]:
    """Return whether a change was committed by then.

    By the names of transactions where they have some: a place means nothing on another server.
    """
    end = file_order(checkpoint.position)

    def by_place(change: Document) -> bool:
        place = change["src"]["binlog"]
        return file_order(Position(place["file"], place["pos"])) <= end

    if not checkpoint.gtid:
        return by_place
    if ":" in checkpoint.gtid:
        done = GtidSet.parse(checkpoint.gtid)

        def by_set(change: Document) -> bool:
            name = change["src"]["gtid"]
            return name is not None and mysql_gtid(name) in done

        return by_set
    reached = MariadbPosition.parse(checkpoint.gtid)

    def by_domain(change: Document) -> bool:
        name = change["src"]["gtid"]
        if name is None:
            return by_place(change)
        domain, _, number = name.split("-")
        last = reached.last(int(domain))
        return last is not None and int(number) <= last.seq

    return by_domain


def _text(value: Any) -> str:
    return str(json_util.dumps(_unsized(value), json_options=json_util.CANONICAL_JSON_OPTIONS))


def _unsized(value: Any) -> Any:
    """Return it with equal integers written alike: the trail's BIGINTs are Int64, SQL's are not."""
    if isinstance(value, Mapping):
        return {name: _unsized(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_unsized(each) for each in value]
    return int(value) if isinstance(value, Int64) else value
