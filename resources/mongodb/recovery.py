"""What a dead run staged and did not commit: promoted where it fits, else put aside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from caretaker.binlog.batcher import Batch
from caretaker.errors import CorruptEventError, RefusedError
from resources.mongodb import layout
from resources.mongodb.commits import Commits
from resources.mongodb.failures import OF_THE_SERVER
from resources.mongodb.offsets import Held, Marks
from resources.mongodb.retries import Retries
from resources.mongodb.staging import BatchStatus, batch_of, documents_id


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of pending batches."""

    promoted: int = 0
    archived: int = 0

    @property
    def pending(self) -> int:
        """How many there were."""
        return self.promoted + self.archived


def recover(
    db: Database[dict[str, Any]], commits: Commits, retries: Retries, held: Held
) -> Recovered:
    """Promote pending batches in order of n, through the same commit as any other.

    One that does not follow the offset, was made by another configuration, or is not what was
    staged is archived, and so is one that MongoDB refuses: the binlog gives its rows again.
    """
    pending = db[layout.STAGING]
    keys = retries.run(
        lambda: list(
            pending.find(
                {"status": BatchStatus.PENDING, "source": held.source}, {"n": 1, "epoch": 1}
            )
        ),
        "looking for pending batches",
    )
    if keys:
        retries.on_event("recovering", {"source": held.source, "count": len(keys)})
    promoted = archived = 0
    for each in sorted(keys, key=lambda key: (key["n"], -key["epoch"])):
        found, documents = retries.run(
            partial(_read, pending, each["_id"]), "reading a pending batch"
        )
        if found is None:
            continue
        batch, reason = _fitting(found, documents, held)
        if batch is not None:
            marks = Marks(found["server_uuid"], found["config_hash"])
            try:
                commits.commit(held, batch, found["_id"], marks)
            except RefusedError as error:
                if error.code in OF_THE_SERVER:
                    raise
                batch, reason = None, str(error)
        if batch is None:
            commits.archive(found["_id"], reason)
            retries.on_event("archived", {"batch": found["_id"], "reason": reason})
            archived += 1
            continue
        # A topology document among them is in the trail now, and the server it tells of with it.
        held.server_uuid = found["server_uuid"]
        retries.on_event("promoted", {"batch": found["_id"], "rows": batch.rows})
        promoted += 1
    if forgotten := commits.forget_uncommitted(held):
        retries.on_event("forgotten", {"source": held.source, "rows": forgotten})
    commits.clean_up(held)
    retries.run(lambda: _forget_halves(pending, held.source), "cleaning up staged batches")
    return Recovered(promoted, archived)


def _read(
    pending: Collection[dict[str, Any]], key: str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the head of a staged batch, and its documents."""
    wanted = [key, documents_id(key)]
    there = {each["_id"]: each for each in pending.find({"_id": {"$in": wanted}})}
    return there.get(wanted[0]), there.get(wanted[1])


def _forget_halves(pending: Collection[dict[str, Any]], source: str) -> None:
    """Delete documents whose head a dead run did not get to write: the binlog has them."""
    halves = {
        each["batch"]: each["_id"]
        for each in pending.find(
            {"source": source, "batch": {"$exists": True}, "status": {"$exists": False}},
            {"batch": 1},
        )
    }
    for head in pending.find({"_id": {"$in": list(halves)}}, {"_id": 1}):
        del halves[head["_id"]]
    if halves:
        pending.delete_many({"_id": {"$in": list(halves.values())}})


def _fitting(
    found: dict[str, Any], documents: dict[str, Any] | None, held: Held
) -> tuple[Batch | None, str]:
    """Return the batch if it is the next one, else why not."""
    if found["n"] != held.n + 1 or found["seq_from"] != held.seq + 1:
        return None, f"it does not follow batch {held.n}, seq {held.seq}"
    if found["follows"] != held.crc:
        return None, "it follows other documents than those in the trail"
    if found["config_hash"] != held.config_hash:
        return None, "it was made by another configuration"
    try:
        return batch_of(found, documents), ""
    except CorruptEventError as error:
        return None, str(error)
