"""Column types whose values come back exactly, from sqlite as from PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator

from caretaker.errors import RefusedError
from caretaker.identifiers import SqlValue

#: sqlite numbers rows by itself only where the key is spelled INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, to the microsecond.

    sqlite keeps it as text of fixed width, so that it sorts and `max()` works there as well.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            # It would mean another moment on another machine.
            raise RefusedError(f"the time {value.isoformat()} has no time zone", target=value)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactText(TypeDecorator[str]):
    """Text that must come back as it was, such as a name or `number_of_replicas`.

    What PostgreSQL cannot hold is refused on sqlite too.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        if value is None:
            return None
        if storable(value) != value:
            raise RefusedError(f"{value!r} cannot be stored as text", target=value)
        return str(value)


class FreeText(TypeDecorator[str]):
    r"""Text for people: an odd character in an error message must not lose the message.

    NUL and lone surrogates are kept as `\x00` and `\udc80`, spelled out.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class PartitionValues(TypeDecorator[tuple[tuple[str, SqlValue], ...]]):
    """(column, value) pairs as a JSON text: order and types (1, 1.0, true, null, '1') survive.

    Not the databases' own JSON types: JSONB refuses a NUL, and rewrites numbers.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(
        self, value: Iterable[tuple[str, SqlValue]] | None, _dialect: Dialect
    ) -> str | None:
        # Pure ASCII: every encoding, and every character, survives it.
        return None if value is None else json.dumps([list(pair) for pair in value])

    def process_result_value(
        self, value: str | None, _dialect: Dialect
    ) -> tuple[tuple[str, SqlValue], ...] | None:
        return None if value is None else tuple((name, item) for name, item in json.loads(value))


class TextList(TypeDecorator[tuple[str, ...]]):
    """Texts in order, as one JSON list."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, _dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(list(value))

    def process_result_value(self, value: str | None, _dialect: Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(json.loads(value))


def storable(text: str) -> str:
    """Return `text` with NUL and lone surrogates spelled out; the same text where it has none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
