"""The four cluster-wide settings that a drain needs, and how their values are compared."""

from __future__ import annotations

import re

from caretaker.identifiers import SqlValue

ALLOCATION = "cluster.routing.allocation.enable"
TIMEOUT = "cluster.graceful_stop.timeout"
FORCE = "cluster.graceful_stop.force"
MIN_AVAILABILITY = "cluster.graceful_stop.min_availability"

#: In the order in which they are set: the one that restricts the cluster is last.
KEYS = (TIMEOUT, FORCE, MIN_AVAILABILITY, ALLOCATION)

#: What `sys.cluster.settings` shows after RESET GLOBAL (seen live on 6.4.3).
DEFAULTS: dict[str, SqlValue] = {
    TIMEOUT: "7200000ms",
    FORCE: False,
    MIN_AVAILABILITY: "PRIMARIES",
    ALLOCATION: "all",
}

_TIME = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(nanos|micros|ms|s|m|h|d)?\s*$", re.IGNORECASE)
_MS = {"nanos": 1e-6, "micros": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7}


def same_value(key: str, one: SqlValue, other: SqlValue) -> bool:
    """Whether two texts mean one value: CrateDB shows defaults in ms, set values as typed.

    >>> same_value(TIMEOUT, "720s", "720000ms"), same_value(FORCE, "true", True)
    (True, True)
    >>> same_value(MIN_AVAILABILITY, "FULL", "PRIMARIES")
    False
    """
    return _meaning(key, one) == _meaning(key, other)


def _meaning(key: str, value: SqlValue) -> object:
    text = str(value).strip().lower()
    if key != TIMEOUT:
        return text
    found = _TIME.match(text)
    # A bare number is milliseconds, as in CrateDB's own parser.
    return float(found[1]) * _MS[(found[2] or "ms").lower()] if found else text
