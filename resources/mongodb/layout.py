"""The collections of a trail and their indexes, made by an explicit verb and checked at start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from caretaker.errors import RefusedError

ROW_CHANGES = "row_changes"
PARTS = "row_changes_parts"
STAGING = "row_changes_staging"
OFFSETS = "binlog_offsets"
SCHEMAS = "schema_versions"
#: Where transactions are proved; empty but for that moment.
PROOF = "caretaker_proof"

COLLECTIONS = (ROW_CHANGES, PARTS, STAGING, OFFSETS, SCHEMAS, PROOF)

_WEEK_S = 604_800


@dataclass(frozen=True)
class Index:
    """An index that the trail is read or cleaned by."""

    collection: str
    name: str
    keys: Mapping[str, int]
    options: Mapping[str, Any]

    @property
    def statement(self) -> str:
        """What makes it, for the shell."""
        options = ", ".join(f"{key}: {_shown(value)}" for key, value in self.options.items())
        keys = ", ".join(f'"{key}": {order}' for key, order in self.keys.items())
        tail = f", {{{options}}}" if options else ""
        return f"db.{self.collection}.createIndex({{{keys}}}{tail})"


#: `_id` has its unique index by itself. Only archived batches go by time: a pending one that a
#: week's outage left behind is still wanted, and a committed one is deleted by the sync.
INDEXES = (
    Index(ROW_CHANGES, "ts_1", {"ts": 1}, {}),
    Index(ROW_CHANGES, "meta.pk_1", {"meta.pk": 1}, {}),
    Index(STAGING, "status_1", {"status": 1}, {}),
    Index(
        STAGING,
        "createdAt_1",
        {"createdAt": 1},
        {"expireAfterSeconds": _WEEK_S, "partialFilterExpression": {"status": "archived"}},
    ),
)


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be: what was found, what is needed, what fixes it."""

    found: str
    needed: str
    fix: str


def make(db: Database[dict[str, Any]]) -> list[str]:
    """Make what is missing, and return what was made; again it makes nothing.

    Raises:
        RefusedError: An index of that name is there and is another one: an operator's to remove.
    """
    there = set(db.list_collection_names())
    made = [f"collection {name}" for name in COLLECTIONS if name not in there and create(db, name)]
    for index in INDEXES:
        known = _known(db, index.collection)
        if index.name in known:
            _must_be(index, known[index.name])
            continue
        db[index.collection].create_index(
            list(index.keys.items()), name=index.name, **dict(index.options)
        )
        made.append(index.statement)
    return made


def create(db: Database[dict[str, Any]], name: str) -> bool:
    """Make a collection; False where it is there, or somebody else just made it."""
    if _is_there(db, name):
        return False
    try:
        db.create_collection(name, check_exists=False)
    except OperationFailure:
        # Not by its code: servers that speak MongoDB's protocol give others.
        if not _is_there(db, name):
            raise
        return False
    return True


def _is_there(db: Database[dict[str, Any]], name: str) -> bool:
    return name in db.list_collection_names(filter={"name": name})


def problems(db: Database[dict[str, Any]]) -> Iterator[Problem]:
    """Yield what `make` would have to make."""
    there = set(db.list_collection_names())
    for name in COLLECTIONS:
        if name not in there and name != PROOF:
            yield Problem(f"no collection {name}", "it", "caretaker binlog setup")
    for index in INDEXES:
        if index.collection not in there:
            continue
        known = _known(db, index.collection)
        if index.name not in known:
            yield Problem(
                f"{index.collection} has no index {index.name}", "it", "caretaker binlog setup"
            )
        elif not _same(index, known[index.name]):
            yield Problem(
                f"{index.collection} has another index of the name {index.name}",
                index.statement,
                f'db.{index.collection}.dropIndex("{index.name}"), then caretaker binlog setup',
            )


def _known(db: Database[dict[str, Any]], collection: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: dict(each) for each in db[collection].list_indexes()}


def _must_be(index: Index, found: dict[str, Any]) -> None:
    if not _same(index, found):
        raise RefusedError(
            f"{index.collection} has another index of the name {index.name}",
            target=index.collection,
            hint=f'db.{index.collection}.dropIndex("{index.name}"), then {index.statement}',
        )


def _same(index: Index, found: dict[str, Any]) -> bool:
    if dict(found["key"]) != dict(index.keys):
        return False
    return all(_plain(found.get(key)) == value for key, value in index.options.items())


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'{key}: "{inner}"' for key, inner in value.items()) + "}"
    return str(value)
