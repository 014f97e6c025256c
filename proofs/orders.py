"""What a child is told to do, and where it is to be hit: plain data, sent over a socket."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Where(StrEnum):
    """The kinds of moment at which a run can be hit."""

    #: A statement has arrived at CrateDB; it is not applied, and the connection is cut.
    ARRIVES = "statement arrives"
    #: A statement has been applied, and not answered.
    APPLIED = "statement applied"
    #: A write to the state store is complete but for its COMMIT.
    BEFORE_COMMIT = "before a commit"
    #: A write to the state store is durable, and the run does not know it yet.
    AFTER_COMMIT = "after a commit"
    #: So many milliseconds after the start.
    AT_MOMENT = "at a moment"


AT_SOCKET = frozenset({Where.ARRIVES, Where.APPLIED})
AT_STORE = frozenset({Where.BEFORE_COMMIT, Where.AFTER_COMMIT})


@dataclass(frozen=True)
class Blow:
    """Where one run is hit.

    Attributes:
        number: Of the statement or commit, from 1; for a moment, milliseconds since the start.
        stop: SIGSTOP instead of SIGKILL.
        alone: Only the run's own process, and not those that it has started.
    """

    where: Where
    number: int
    stop: bool = False
    alone: bool = False

    def __str__(self) -> str:
        what = "SIGSTOP" if self.stop else "SIGKILL"
        whom = " of the worker alone" if self.alone else ""
        return f"{what}{whom} {self.where} {self.number}"


@dataclass(frozen=True)
class Order:
    """What one child does.

    Attributes:
        call: The function of `proofs.child` to be called with `arguments`.
        environ: Its whole environment.
        folder: Its working directory; what it prints goes to `said.log` there.
        answer: Where it writes its answer as JSON.
        blow: A blow at a commit, which the child deals itself; others come from outside.
    """

    call: str
    arguments: dict[str, Any]
    environ: dict[str, str]
    folder: str
    answer: str
    blow: Blow | None = field(default=None)

    def to_bytes(self) -> bytes:
        """Return it as one message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> Order:
        """Return the order in a message."""
        fields = json.loads(message)
        blow = fields.pop("blow")
        if blow is not None:
            blow = Blow(**{**blow, "where": Where(blow["where"])})
        return cls(**fields, blow=blow)
