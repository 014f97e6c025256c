"""Materialize's own types, read as what they are: psycopg knows none of them and hands out text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg import postgres
from psycopg.types.array import ArrayLoader
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.numeric import IntLoader

_UINTS = {16460: 16461, 16462: 16463, 16464: 16465}  # uint2, uint4, uint8: each with its arrays
_MZ_TIMESTAMP, _MZ_TIMESTAMPS = 16552, 16553
_LIST = 16384


class _Integers(ArrayLoader):
    base_oid = postgres.types["int8"].oid
    delimiter = b","


class _Texts(ArrayLoader):
    base_oid = postgres.types["text"].oid
    delimiter = b","


class _Timestamptz(TimestamptzLoader):
    """A time that Python has no room for, such as 'infinity', is no time: it must not be fatal."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return None


def register(connection: psycopg.Connection[Any]) -> None:
    """Have a connection read integers as integers and lists as lists."""
    adapters = connection.adapters
    for one, several in (*_UINTS.items(), (_MZ_TIMESTAMP, _MZ_TIMESTAMPS)):
        adapters.register_loader(one, IntLoader)
        adapters.register_loader(several, _Integers)
    adapters.register_loader(_LIST, _Texts)
    adapters.register_loader(postgres.types["timestamptz"].oid, _Timestamptz)


def aware(value: object) -> datetime | None:
    """Return a time that came from a row; None for everything else."""
    return value if isinstance(value, datetime) and value.tzinfo is not None else None
