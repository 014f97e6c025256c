"""Whether transactions work: tried, not believed.

Some servers announce a replica set and sessions, take `startTransaction` and write at once; the
driver then swallows the error of the abort. On such a server every guarantee of ours is void.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from resources.mongodb import layout
from resources.mongodb.failures import STANDALONE, NoTransactionsError


def prove_transactions(
    client: pymongo.MongoClient[dict[str, Any]], db: Database[dict[str, Any]], place: str
) -> None:
    """Insert in a transaction, abort it, and see that nothing is there.

    Raises:
        NoTransactionsError: What an abort should have undone is there, or a standalone said so.
        PyMongoError: As the driver tells it.
    """
    # A collection cannot be made in a transaction everywhere.
    layout.create(db, layout.PROOF)
    scratch = db.get_collection(layout.PROOF, read_concern=ReadConcern("local"))
    token = uuid.uuid4().hex
    with client.start_session() as session:
        session.start_transaction()
        scratch.insert_one({"_id": token}, session=session)
        seen_inside = scratch.count_documents({"_id": token}, session=session)
        session.abort_transaction()
    left_behind = scratch.find_one({"_id": token})
    if left_behind is not None or not seen_inside:
        with contextlib.suppress(PyMongoError):
            scratch.delete_many({"_id": token})
        raise NoTransactionsError(
            f"{place} announces transactions and ignores them: what was inserted in one and then "
            "aborted is there",
            target="MONGODB_URI",
            hint=f"use a MongoDB replica set: {STANDALONE}",
        )
