"""Times as JSON has them: aware ISO 8601, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

AN_AWARE_TIME = "a time with its offset, as 2026-01-15T12:00:00+00:00"


def moment(value: object) -> datetime | None:
    """Return the time in UTC, or None where `value` is none or does not say of which zone.

    >>> moment("2026-01-15T13:00:00+01:00").isoformat()
    '2026-01-15T12:00:00+00:00'
    >>> moment("2026-01-15T13:00:00") is moment("yesterday") is moment(5) is None
    True
    """
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is UTC:
            return at
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def seconds(since: datetime, now: datetime) -> float:
    """Return the seconds from `since` to `now`, negative where `since` is still to come."""
    return (now - since).total_seconds()


def later(now: datetime, by_s: float) -> datetime:
    """Return the time `by_s` seconds after `now`."""
    return now + timedelta(seconds=by_s)
