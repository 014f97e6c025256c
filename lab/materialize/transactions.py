"""What may follow what in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.materialize.errors import (
    ACTIVE_TRANSACTION,
    READ_ONLY_TRANSACTION,
    TRANSACTION_STATE,
    MaterializeError,
)
from lab.materialize.statements import Kind, Statement

_DOMAIN = (
    "Transactions can only reference objects in the same timedomain. "
    "See https://materialize.com/docs/sql/begin/#same-timedomain-error"
)
_CHANGES = {Kind.CALL, Kind.DDL}


@dataclass(slots=True)
class Transaction:
    """What a transaction has done so far, which decides what it may still do."""

    #: "read", "write", "single", or nothing yet.
    does: str = ""
    #: Whether its reads may touch users' relations; None before the first read.
    users: bool | None = None
    #: Parameters as they were when it began, and the names that SET LOCAL changed.
    before: dict[str, str] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)

    def check(self, statement: Statement, *, explicit: bool, touches: str) -> None:
        """Refuse what Materialize refuses; `touches` is user, system or nothing.

        `explicit`: between BEGIN and COMMIT, not merely among other statements of one message.
        """
        kind = statement.kind
        if kind == Kind.SET and statement.parameter == "cluster" and self.does:
            raise MaterializeError(
                ACTIVE_TRANSACTION, "SET cluster cannot be called in an active transaction"
            )
        if (kind in _CHANGES and not explicit) or kind == Kind.READ_WRITE:
            text = statement.sql.rstrip().rstrip(";")
            raise MaterializeError(
                ACTIVE_TRANSACTION, f"{text} cannot be run inside a transaction block"
            )
        if kind not in {Kind.READ, Kind.WRITE, Kind.CALL, Kind.DDL}:
            return
        if self.does == "single":
            raise MaterializeError(
                TRANSACTION_STATE, "this transaction can only execute a single statement"
            )
        if kind == Kind.READ and not touches:
            return
        if self.does == "read" and kind != Kind.READ:
            raise MaterializeError(
                READ_ONLY_TRANSACTION,
                "transaction in read-only mode",
                detail="SELECT queries cannot be combined with other query types, "
                "including SUBSCRIBE.",
            )
        if self.does == "write" and kind != Kind.WRITE:
            raise MaterializeError(TRANSACTION_STATE, "transaction in write-only mode")
        if kind == Kind.READ and self.users is False and touches == "user":
            raise MaterializeError(TRANSACTION_STATE, _DOMAIN)

    def note(self, statement: Statement, *, touches: str) -> None:
        """Take in a statement that was let through."""
        if statement.kind == Kind.READ and touches:
            self.does = "read"
            if self.users is None:
                self.users = touches == "user"
        elif statement.kind == Kind.WRITE:
            self.does = "write"
        elif statement.kind in _CHANGES:
            self.does = "single"
