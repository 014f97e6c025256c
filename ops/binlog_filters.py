"""The filters of a sync, and those that a transaction in flight was begun with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caretaker.binlog.filters import Filters
from caretaker.binlog.policy import SyncPolicy
from caretaker.errors import InvalidSettingError, RefusedError
from resources.mongodb.trail import Trail

#: Bytes of a secret that hashes nothing.
_ANY_SECRET = 16
_KEYS = ("include", "exclude", "mask", "hash", "drop")


def filters_of(policy: SyncPolicy, secret: bytes) -> Filters:
    """Return what the policy lets into the trail; the variable is named where the secret lacks."""
    return policy.filters(secret)


def remember_filters(trail: Trail, filters: Filters) -> None:
    """Keep the patterns, without the secret, under what names them in the offset document."""
    patterns = {key: list(getattr(filters, key)) for key in _KEYS}
    trail.remember_schema(filters.fingerprint, {"filters": patterns})


@dataclass(frozen=True, slots=True)
class SavedFilters:
    """Filters that a trail was written with.

    Attributes:
        hashes: The secret is the one of then, so hashes can be made again.
    """

    filters: Filters
    hashes: bool


def saved_filters(trail: Trail, source: str, secret: bytes) -> list[SavedFilters]:
    """Return all filters that the trail was written with, those of now first."""
    now = trail.offset(source).config_hash
    found = sorted(trail.reads.filters(), key=lambda each: each["fingerprint"] != now)
    saved = []
    for each in found:
        patterns = {key: tuple(each[key]) for key in _KEYS}
        try:
            filters = Filters(**patterns, secret=secret)
        except InvalidSettingError:
            # Without a secret of the right length there is none for hashes.
            filters = Filters(**patterns, secret=bytes(_ANY_SECRET))
        saved.append(SavedFilters(filters, filters.fingerprint == each["fingerprint"]))
    return saved


def filters_before(trail: Trail, fingerprint: str, secret: bytes) -> Filters:
    """Return the filters that a fingerprint stands for.

    Raises:
        RefusedError: They are not known, or the secret is another: the transaction that was cut
            in two cannot be told from a different one.
    """
    found: dict[str, Any] = trail.reads.schema(fingerprint) or {}
    patterns = found.get("filters")
    if patterns is not None:
        filters = Filters(**{key: tuple(patterns[key]) for key in _KEYS}, secret=secret)
        if filters.fingerprint == fingerprint:
            return filters
    raise RefusedError(
        "the trail ends inside a transaction that was written with other filters",
        target="filters",
        hint="run with the filters and the secret of before until that transaction is through, "
        "then change them",
    )
