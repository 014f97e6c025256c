"""One document a source: how far its trail is, who writes it, and whether it is paused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from caretaker.binlog.batcher import Batch
from caretaker.binlog.model import Checkpoint, Inflight, Position


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes a trail, as people are told.

    Attributes:
        run_id: Of the run; also of `caretaker binlog accept-gap` and its like, by their own name.
        host: Where it runs, and `pid` as what.
    """

    run_id: str
    host: str = ""
    pid: int = 0

    def document(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "host": self.host, "pid": self.pid}

    def __str__(self) -> str:
        return f"{self.run_id} on {self.host or 'an unnamed host'}"


@dataclass(frozen=True, slots=True)
class Pause:
    """An operator's word: nobody is to start, whoever runs is to stop at a commit."""

    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Offset:
    """What the offset document says.

    Attributes:
        checkpoint: None before the first commit.
        epoch: How often the source was acquired.
        n: How many batches were committed.
        crc: Of the last batch that had documents: what the next one follows. 0 before the first.
        server_uuid: The server that the checkpoint was read from.
        config_hash: What the last batch was filtered and masked by.
        at: When it was written last.
        spool: The file where batches of the last run wait while MongoDB is away; "" for none.
    """

    source: str
    checkpoint: Checkpoint | None = None
    epoch: int = 0
    n: int = 0
    crc: int = 0
    server_uuid: str = ""
    config_hash: str = ""
    holder: Holder | None = None
    paused: Pause | None = None
    at: datetime | None = None
    spool: str = ""

    @property
    def seq(self) -> int:
        """Of the last document in the trail."""
        return 0 if self.checkpoint is None else self.checkpoint.seq


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a batch was read, and what it was filtered and masked by."""

    server_uuid: str
    config_hash: str


@dataclass(slots=True)
class Held:
    """A source that is ours until somebody else acquires it.

    Attributes:
        saved: The offset as it was found; `None` as checkpoint means that the trail is empty.
        token: What tells our acquisition from all others.
        epoch: With `n` what the next commit must find; both move with each commit.
        server_uuid: What the next commits write down; the saved one until it is set.
        config_hash: The same.
        session: Of the driver; its transactions are those of this holder, one after the other.
    """

    saved: Offset
    token: str
    epoch: int
    n: int
    crc: int
    checkpoint: Checkpoint | None
    server_uuid: str
    config_hash: str
    session: Any = field(default=None, repr=False)

    @classmethod
    def by(cls, document: Mapping[str, Any], token: str, session: Any = None) -> Held:
        """Return what an acquisition found, before it wrote anything but itself."""
        saved = offset_of(document)
        return cls(
            saved,
            token,
            saved.epoch,
            saved.n,
            saved.crc,
            saved.checkpoint,
            saved.server_uuid,
            saved.config_hash,
            session,
        )

    @property
    def source(self) -> str:
        return self.saved.source

    @property
    def marks(self) -> Marks:
        """What a batch that is written now is marked with."""
        return Marks(self.server_uuid, self.config_hash)

    def moved(self, batch: Batch) -> None:
        """A batch is in the trail."""
        self.n += 1
        self.crc = follows(self.crc, batch)
        self.checkpoint = batch.checkpoint

    @property
    def seq(self) -> int:
        """Of the last document in the trail."""
        return 0 if self.checkpoint is None else self.checkpoint.seq


def follows(crc: int, batch: Batch) -> int:
    """Return what the batch after this one follows: one without documents changes nothing."""
    return batch.crc if batch.documents else crc


def advance(held: Held, batch: Batch, marks: Marks, at: datetime) -> dict[str, Any]:
    """Return the update that makes a batch the last one."""
    return {
        "$set": {
            **checkpoint_fields(batch.checkpoint),
            "crc": follows(held.crc, batch),
            "server_uuid": marks.server_uuid,
            "config_hash": marks.config_hash,
            "at": at,
        },
        "$inc": {"n": 1},
    }


def checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as fields of a document."""
    inflight = checkpoint.inflight
    return {
        "gtid": checkpoint.gtid,
        "file": checkpoint.position.file,
        "pos": checkpoint.position.pos,
        "seq": checkpoint.seq,
        "inflight": None
        if inflight is None
        else {"gtid": inflight.transaction, "rows": inflight.rows, "crc": inflight.crc},
        "ahead": checkpoint.ahead,
        "begun_s": checkpoint.begun_s,
    }


def checkpoint_of(document: Mapping[str, Any]) -> Checkpoint | None:
    """Return the checkpoint in a document; None where none was written yet."""
    if document.get("file") is None:
        return None
    inflight = document.get("inflight")
    return Checkpoint(
        document.get("gtid"),
        Position(document["file"], int(document["pos"])),
        int(document["seq"]),
        None
        if inflight is None
        else Inflight(inflight["gtid"], int(inflight["rows"]), int(inflight["crc"])),
        document.get("ahead"),
        document.get("begun_s"),
    )


def offset_of(document: Mapping[str, Any]) -> Offset:
    """Return what an offset document says."""
    owner, paused = document.get("owner"), document.get("paused")
    return Offset(
        source=document["_id"],
        checkpoint=checkpoint_of(document),
        epoch=int(document.get("epoch", 0)),
        n=int(document.get("n", 0)),
        crc=int(document.get("crc", 0)),
        server_uuid=document.get("server_uuid") or "",
        config_hash=document.get("config_hash") or "",
        holder=None if owner is None else Holder(**owner),
        paused=None if paused is None else Pause(paused["by"], paused["reason"], paused["at"]),
        at=document.get("at"),
        spool=document.get("spool") or "",
    )
