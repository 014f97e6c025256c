"""What a dead run staged and did not commit: promoted where it fits, else put aside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo.database import Database

from caretaker.binlog.batcher import Batch
from caretaker.errors import CorruptEventError
from resources.mongodb import layout, staging
from resources.mongodb.commits import Commits
from resources.mongodb.offsets import Held, Marks
from resources.mongodb.retries import Retries
from resources.mongodb.staging import BatchStatus


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
    staged is archived: the binlog gives its rows again.
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
        found = retries.run(partial(pending.find_one, {"_id": each["_id"]}), "reading it")
        if found is None:
            continue
        batch, reason = _fitting(found, held)
        if batch is None:
            commits.archive(found["_id"], reason)
            retries.on_event("archived", {"batch": found["_id"], "reason": reason})
            archived += 1
            continue
        marks = Marks(found["server_uuid"], found["config_hash"])
        commits.commit(held, batch, found["_id"], marks)
        retries.on_event("promoted", {"batch": found["_id"], "rows": batch.rows})
        promoted += 1
    commits.clean_up(held)
    return Recovered(promoted, archived)


def _fitting(found: dict[str, Any], held: Held) -> tuple[Batch | None, str]:
    """Return the batch if it is the next one, else why not."""
    if found["n"] != held.n + 1 or found["seq_from"] != held.seq + 1:
        return None, f"it does not follow batch {held.n}, seq {held.seq}"
    if found["follows"] != held.crc:
        return None, "it follows other documents than those in the trail"
    if found["config_hash"] != held.config_hash:
        return None, "it was made by another configuration"
    try:
        return staging.batch_of(found), ""
    except CorruptEventError as error:
        return None, str(error)
