"""What the server says when it will not."""

from __future__ import annotations

SYNTAX = "42601"
INTERNAL = "XX000"
UNSUPPORTED = "0A000"
ACTIVE_TRANSACTION = "25001"
TRANSACTION_STATE = "25000"
READ_ONLY_TRANSACTION = "25006"
UNDEFINED_OBJECT = "42704"


class MaterializeError(Exception):
    """A refusal with its SQLSTATE, as a client gets to see it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        detail: str = "",
        position: int | None = None,
        fatal: bool = False,
    ) -> None:
        """Take the fields of the answer; `position` counts characters from 1."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.detail = detail
        self.position = position
        self.fatal = fatal


def syntax(message: str, at: int) -> MaterializeError:
    """Return a complaint of the parser about what stands `at` characters into the statement."""
    return MaterializeError(SYNTAX, message, position=at + 1)
