"""Documents that no event of the binlog stands for: the trail speaks of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from caretaker.binlog.document import gap_document, topology_document
from caretaker.binlog.model import Checkpoint, RowContext, SourceIdentity

#: No server has this uuid, so no row has an id that begins like these documents'.
_NO_SERVER = bytes(17)


def topology(
    identity: SourceIdentity, checkpoint: Checkpoint, now_s: int, told: Mapping[str, str]
) -> tuple[bytes, Checkpoint]:
    """Return the document of a trail that goes on otherwise, and the checkpoint behind it."""
    document = topology_document(_context(identity, checkpoint, now_s), topology=told)
    return document, replace(checkpoint, seq=checkpoint.seq + 1)


def gap(
    identity: SourceIdentity,
    checkpoint: Checkpoint,
    now_s: int,
    *,
    lost: str,
    by: str,
    reason: str,
) -> tuple[bytes, Checkpoint]:
    """Return the document of accepted loss; both checkpoints lie behind the gap."""
    context = _context(identity, checkpoint, now_s)
    document = gap_document(context, lost=lost, by=by, reason=reason)
    return document, replace(checkpoint, seq=checkpoint.seq + 1)


def _context(identity: SourceIdentity, checkpoint: Checkpoint, now_s: int) -> RowContext:
    seq = checkpoint.seq + 1
    return RowContext(
        timestamp_s=now_s,
        server_id=0,
        file=checkpoint.position.file,
        pos=checkpoint.position.pos,
        gtid=None,
        commit_us=None,
        # Its own seq tells it from every other, and is the same when it is written again.
        id_prefix=identity.prefix + _NO_SERVER + seq.to_bytes(8, "big"),
        next_row={},
        seq=seq,
    )
