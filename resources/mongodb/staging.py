"""Batches on their way: written down before their transaction, so that a dead run leaves them.

A batch is a head with its status and, beside it, its documents: a head that became committed would
otherwise be half a megabyte written twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bson import Binary

from caretaker.binlog.batcher import Batch
from caretaker.errors import CorruptEventError
from resources.mongodb.offsets import Held, Marks, checkpoint_fields, checkpoint_of

_LENGTH_BYTES = 4
#: The lowest: less to send and to journal, for little time beside the transaction before it.
_LEVEL = 1


class BatchStatus(StrEnum):
    """Where a staged batch stands."""

    PENDING = "pending"
    COMMITTED = "committed"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a batch that is staged before its predecessor is committed will be.

    Attributes:
        n: Its number.
        follows: The crc of the batch before it that has documents.
    """

    n: int
    follows: int


def staged_id(source: str, epoch: int, n: int) -> str:
    """Return the key of a batch: an epoch belongs to one holder, and it stages each n once."""
    return f"{source}:{epoch}:{n}"


def documents_id(key: str) -> str:
    """Return where the documents of a batch are."""
    return f"{key}:documents"


def staged(
    held: Held, batch: Batch, ahead: Ahead, marks: Marks, at: datetime
) -> list[dict[str, Any]]:
    """Return a batch as the staging collection has it: its documents, and its head."""
    # As it was acquired: the key of a batch stays while our epoch moves.
    epoch = held.saved.epoch
    key = staged_id(held.source, epoch, ahead.n)
    data = b"".join(batch.documents)
    fields = checkpoint_fields(batch.checkpoint)
    head = {
        "_id": key,
        "source": held.source,
        "epoch": epoch,
        "n": ahead.n,
        "follows": ahead.follows,
        "gtid_after": fields["gtid"],
        **fields,
        "seq_from": batch.seq_from,
        "seq_to": batch.seq_to,
        "rows": batch.rows,
        "crc": batch.crc,
        "documents_crc": zlib.crc32(data),
        "server_uuid": marks.server_uuid,
        "config_hash": marks.config_hash,
        "status": BatchStatus.PENDING,
        "createdAt": at,
    }
    documents = {
        "_id": documents_id(key),
        "source": held.source,
        "batch": key,
        "documents": Binary(zlib.compress(data, _LEVEL)),
    }
    return [documents, head]


def batch_of(head: Mapping[str, Any], documents: Mapping[str, Any] | None) -> Batch:
    """Return a staged batch.

    Raises:
        CorruptEventError: It is not what was staged.
    """
    if documents is None:
        raise CorruptEventError(f"staged batch {head['_id']}: its documents are missing")
    try:
        data = zlib.decompress(documents["documents"])
    except zlib.error as error:
        raise CorruptEventError(f"staged batch {head['_id']}: {error}") from error
    checkpoint = checkpoint_of(head)
    if zlib.crc32(data) != head["documents_crc"] or checkpoint is None:
        raise CorruptEventError(f"staged batch {head['_id']}: its crc is wrong")
    rows = cut(data)
    if len(rows) != head["rows"]:
        raise CorruptEventError(f"staged batch {head['_id']}: {len(rows)} documents")
    return Batch(
        rows,
        checkpoint,
        int(head["seq_from"]),
        int(head["seq_to"]),
        len(rows),
        len(data),
        int(head["crc"]),
    )


def cut(data: bytes) -> tuple[bytes, ...]:
    """Return the BSON documents that stand in a row.

    Raises:
        CorruptEventError: They do not end where the data end.
    """
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        if size <= _LENGTH_BYTES or at + size > len(data):
            raise CorruptEventError(f"a document of {size} bytes at {at} of {len(data)}")
        found.append(data[at : at + size])
        at += size
    return tuple(found)
