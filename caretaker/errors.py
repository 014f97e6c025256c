"""Errors, by what the reader should do.

CaretakerError                  has .target and .hint
|-- TransientError              try again: connection lost, 429, not primary
|-- UnknownResultError          sent, no answer: it may have been applied, or may yet be; observe
|-- RefusedError                will not work as asked: permission, no such table
|   `-- InvalidSettingError     an option, variable or file: key, value, what is allowed
|-- UnsafeError                 we declined: not GREEN, locked, no signals; nothing touched
|-- NotRestoredError            a human must act; .remedy is the exact statement
|-- LostPositionError           binlog purged before our checkpoint; never jump ahead
|-- CorruptEventError           bytes that are no event: file, position
|-- FencedError                 another owner has taken over; stop, touch nothing
`-- CaseError                   malformed input to a pure function: path, value
"""

from __future__ import annotations


class CaretakerError(Exception):
    """Something a reader can act on: the message says what and where, `hint` says what now.

    Attributes:
        target: What it happened to, for metadata: a table, a node, a setting's name.
        hint: What to do about it; empty when the message says it already.
    """

    def __init__(self, message: str, *, target: object = None, hint: str = "") -> None:
        super().__init__(message)
        self.target = target
        self.hint = hint

    @property
    def sentence(self) -> str:
        """Return the message and what to do about it, which is said once."""
        said = str(self)
        return f"{said}; {self.hint}" if self.hint and self.hint not in said else said


class TransientError(CaretakerError):
    """Nothing was applied, and the same request may succeed in a moment."""


class UnknownResultError(CaretakerError):
    """A change was sent and no answer came: it may have landed, or may land later.

    Never sent again without looking first; the safe follow-up is to put back what was.
    """


class RefusedError(CaretakerError):
    """The system answered no, and would answer no again.

    Attributes:
        status: The HTTP status, or None where the refusal is not an HTTP answer.
        code: CrateDB's error code such as 4011, or None where it gave none.
    """

    def __init__(
        self,
        message: str,
        *,
        target: object = None,
        hint: str = "",
        status: int | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message, target=target, hint=hint)
        self.status = status
        self.code = code


class InvalidSettingError(RefusedError):
    """An option, environment variable or file says something that cannot work."""

    def __init__(self, key: str, found: object, allowed: str) -> None:
        super().__init__(f"{key}: found {found!r}, expected {allowed}", target=key)
        self.key = key
        self.found = found
        self.allowed = allowed


class UnsafeError(CaretakerError):
    """We declined, and touched nothing."""


class NotRestoredError(CaretakerError):
    """Something stays changed that should have been put back: a human must act.

    Attributes:
        remedy: The exact statement to paste.
    """

    def __init__(self, message: str, *, target: object = None, remedy: str) -> None:
        super().__init__(message, target=target, hint=f"run: {remedy}")
        self.remedy = remedy


class LostPositionError(CaretakerError):
    """The source no longer has what comes after our checkpoint."""


class CorruptEventError(CaretakerError):
    """Bytes that are no event."""


class FencedError(CaretakerError):
    """Another owner has taken over; whoever sees this stops and touches nothing."""


class CaseError(CaretakerError):
    """Malformed input to a pure function; the message carries the path and the value."""
