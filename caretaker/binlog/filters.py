"""Which tables are in the trail, and which columns only as a mask, as a hash, or not at all."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from caretaker.binlog.bson_writer import NULL, Value, text
from caretaker.binlog.tablemap import TableMap
from caretaker.errors import InvalidSettingError

#: What a value would be without filters -> what the trail has.
Treat: TypeAlias = Callable[[Value], Value]

#: What stands for a masked value; NULL stays null.
MASK = text(b"***")

_SHORTEST_SECRET = 16

#: A table that patterns for single tables do not name.
_ANY = "x"


class Treatment(StrEnum):
    """What becomes of a column's values."""

    KEEP = "keep"
    MASK = "mask"
    HASH = "hash"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Filters:
    """Patterns of Python's `re`, each of which must match a whole name.

    Attributes:
        include: Of `db.table`; none given is all of them.
        exclude: Of `db.table`; wins over `include`.
        mask: Of `db.table.column`; their values become `***`.
        hash: Of `db.table.column`; their values become HMAC-SHA256 in hex of what BSON would hold,
            so equal values stay equal and joins still work.
        drop: Of `db.table.column`; wins over `hash`, which wins over `mask`.
        secret: The key of the HMAC, 16 bytes or more where `hash` is used.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    mask: Sequence[str] = ()
    hash: Sequence[str] = ()
    drop: Sequence[str] = ()
    secret: bytes = b""

    def __post_init__(self) -> None:
        for key in ("include", "exclude", "mask", "hash", "drop"):
            for pattern in getattr(self, key):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise InvalidSettingError(
                        key, pattern, f"a regular expression: {error}"
                    ) from None
        if self.hash and len(self.secret) < _SHORTEST_SECRET:
            raise InvalidSettingError(
                "secret", f"{len(self.secret)} bytes", f"{_SHORTEST_SECRET} bytes or more for hash"
            )

    def covers(self, schema: str, table: str) -> bool:
        """Whether changes of a table are in the trail."""
        name = f"{schema}.{table}"
        if _any(self.exclude, name):
            return False
        return not self.include or _any(self.include, name)

    def covers_some(self, schema: str) -> bool:
        """Whether changes of some table of a database may be in the trail, as far as names tell.

        A database is out where all its tables are; it is in for a pattern that names one of them.
        """
        name = f"{schema}.{_ANY}"
        if _any(self.exclude, name):
            return False
        named = (f"{schema}.", f"{re.escape(schema)}\\.")
        return self.covers(schema, _ANY) or any(each.startswith(named) for each in self.include)

    def treatment(self, schema: str, table: str, column: str) -> Treatment:
        """Return what becomes of one column."""
        return self._treatment(f"{schema}.{table}.{column}")

    def treatments(self, table: TableMap) -> tuple[Treatment, ...]:
        """Return what becomes of each column; a key column can be kept or hashed only.

        A row could not be told from the others without its key, and the key is in `meta.pk`, too.
        """
        treatments = tuple(self._treatment(f"{table}.{column.name}") for column in table.columns)
        for index in table.key or ():
            if treatments[index] in {Treatment.MASK, Treatment.DROP}:
                raise InvalidSettingError(
                    treatments[index],
                    f"{table}.{table.columns[index].name}",
                    "no column of a primary key: hash it, or exclude the table",
                )
        return treatments

    def treat(self, treatment: Treatment) -> Treat | None:
        """Return what makes of a value what the trail has; None where that is the value itself."""
        if treatment is Treatment.MASK:
            return lambda _: MASK
        return self._hashed if treatment is Treatment.HASH else None

    @property
    def fingerprint(self) -> str:
        """What `config_hash` is made of: equal for filters with an equal effect and secret."""
        keys = ("include", "exclude", "mask", "hash", "drop")
        said = {key: sorted(getattr(self, key)) for key in keys}
        said["secret"] = [hmac.digest(self.secret, b"caretaker", "sha256").hex()]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _treatment(self, name: str) -> Treatment:
        for treatment in (Treatment.DROP, Treatment.HASH, Treatment.MASK):
            if _any(getattr(self, treatment.value), name):
                return treatment
        return Treatment.KEEP

    def _hashed(self, value: Value) -> Value:
        code, payload = value
        if code == NULL:
            return value
        return text(hmac.digest(self.secret, code + payload, "sha256").hex().encode())


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
